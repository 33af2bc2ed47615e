//! Lints Python with ruff: its own rules, its own configuration files, its own suppression comments.
//!
//! The configuration that applies to a file is found as ruff finds it: the nearest `ruff.toml`, `.ruff.toml` or
//! `pyproject.toml` with a `[tool.ruff]`. Params are over it, as ruff's command line is. Notebooks are not judged.

use std::path::{Path, PathBuf};

use ruff_db::diagnostic::{Diagnostic, Severity as RuffSeverity};
use ruff_linter::linter::{ParseSource, lint_only};
use ruff_linter::package::PackageRoot;
use ruff_linter::packaging::detect_package_root;
use ruff_linter::rule_selector::UnresolvedRuleSelector;
use ruff_linter::settings::flags::Noqa;
use ruff_linter::settings::types::PreviewMode;
use ruff_linter::source_kind::{SourceError, SourceKind};
use ruff_python_ast::{PySourceType, SourceType};
use ruff_text_size::Ranged as _;
use ruff_workspace::configuration::{Configuration, RuleSelection};
use ruff_workspace::resolver::{ConfigurationOrigin, ConfigurationTransformer, match_any_exclusion, resolve_root_settings};
use ruff_workspace::{Settings, pyproject};
use sandhog_guest::{Edit, Failure, Finding, Fix, Severity, Subject, Verdict, invalid_input};

sandhog_guest::gate!(check);
sandhog_guest::initialize!(initialize);

const ROOT: &str = "/subject";

/// What a configuration may say; each over what the subject's own configuration says.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// In place of the rules that are selected.
    select: Option<Vec<String>>,
    /// Beside the rules that are selected.
    extend_select: Vec<String>,
    /// Rules that are not looked for.
    ignore: Vec<String>,
    /// Rules that are not stable yet, too.
    preview: Option<bool>,
    /// Judge by ruff's defaults and these params alone, whatever configuration lies in the subject.
    isolated: bool,
}

impl Params {
    fn selection(&self) -> RuleSelection {
        let selectors = |codes: &[String]| codes.iter().map(|code| UnresolvedRuleSelector::cli(code.as_str())).collect::<Vec<_>>();
        RuleSelection {
            select: self.select.as_deref().map(selectors),
            extend_select: selectors(&self.extend_select),
            ignore: selectors(&self.ignore),
            ..RuleSelection::default()
        }
    }
}

impl ConfigurationTransformer for Params {
    fn transform(&self, mut configuration: Configuration) -> Configuration {
        if let Some(preview) = self.preview {
            configuration.lint.preview = Some(PreviewMode::from(preview));
        }
        configuration.lint.rule_selections.push(self.selection());
        configuration
    }
}

/// A text with something in it for many rules.
const SAMPLE: &str = include_str!("sample.txt");

/// Lints the sample by all rules, since ruff compiles each of its regular expressions when it first looks for something.
fn initialize() {
    let params = Params { select: Some(vec!["ALL".to_owned()]), preview: Some(true), isolated: true, ..Params::default() };
    let path = Path::new("/subject/sample.py");
    if let Ok(settings) = settings(path, &params) {
        let source = SourceKind::Python { code: SAMPLE.to_owned(), is_stub: false };
        let _ = lint_only(path, None, &settings.linter, Noqa::Enabled, &source, PySourceType::Python, ParseSource::None);
    }
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let mut findings = Vec::new();
    // What the operator wrote is no fault of a file.
    let own = Params { isolated: true, ..subject.params.clone() };
    if own.select.is_some() || !own.extend_select.is_empty() || !own.ignore.is_empty() {
        settings(Path::new("/subject/a.py"), &own).map_err(|error| invalid_input(error.replace(" from the CLI", "")))?;
    }
    for file in &subject.files {
        let path = PathBuf::from(format!("{ROOT}/{}", file.path));
        let SourceType::Python(source_type) = SourceType::from(&path) else { continue };
        if source_type == PySourceType::Ipynb {
            continue;
        }
        match settings(&path, &subject.params) {
            Ok(settings) => lint(&file.path, &path, source_type, &settings, &mut findings),
            Err(error) if subject.params.isolated => return Err(invalid_input(error)),
            Err(error) => findings.push(Finding::new("configuration", Severity::High, error).in_file(&file.path)),
        }
    }
    Ok(Verdict::from_findings(findings))
}

/// What applies to a file; the error is a text for people.
fn settings(path: &Path, params: &Params) -> Result<Settings, String> {
    let text = |error: &dyn std::fmt::Display| format!("{error:#}").replace("/subject/", "");
    let found = if params.isolated { None } else { pyproject::find_settings_toml(path).map_err(|error| text(&format!("{error:#}")))? };
    match found {
        Some(file) => resolve_root_settings(&file, params, ConfigurationOrigin::Ancestor).map_err(|error| text(&format!("{error:#}"))),
        None => {
            let mut configuration = Configuration::default();
            if !params.isolated {
                configuration.target_version = pyproject::find_fallback_target_version(path).map(Into::into);
            }
            params.transform(configuration).into_settings(Path::new(ROOT)).map_err(|error| text(&format!("{error:#}")))
        }
    }
}

fn lint(name: &str, path: &Path, source_type: PySourceType, settings: &Settings, findings: &mut Vec<Finding>) {
    if match_any_exclusion(path, &settings.file_resolver, Some(&settings.linter.exclude), None).is_some() {
        return;
    }
    let source = match SourceKind::from_path(path, SourceType::Python(source_type)) {
        Ok(Some(source)) => source,
        Ok(None) => return,
        Err(error) => {
            let (rule, message) = match error {
                SourceError::Io(error) => ("E902", error.to_string()),
                SourceError::Notebook(error) => ("invalid-syntax", error.to_string()),
            };
            findings.push(Finding::new(rule, Severity::High, message).in_file(name));
            return;
        }
    };
    let package = path.parent().and_then(|parent| detect_package_root(parent, &settings.linter.namespace_packages));
    let package = package.map(|path| PackageRoot::Root { path });
    let result = lint_only(path, package, &settings.linter, Noqa::Enabled, &source, source_type, ParseSource::None);
    let mut diagnostics = result.diagnostics;
    diagnostics.sort_by(|a, b| a.ruff_start_ordering(b));
    findings.extend(diagnostics.iter().map(|diagnostic| finding(name, diagnostic)));
}

fn finding(name: &str, diagnostic: &Diagnostic) -> Finding {
    let severity = match diagnostic.severity() {
        RuffSeverity::Info => Severity::Info,
        RuffSeverity::Warning => Severity::Low,
        RuffSeverity::Error if diagnostic.is_invalid_syntax() => Severity::High,
        RuffSeverity::Error => Severity::Medium,
        RuffSeverity::Fatal => Severity::High,
    };
    let mut finding = Finding::new(diagnostic.secondary_code_or_id(), severity, diagnostic.concise_message().to_string()).in_file(name);
    let place = |place: ruff_source_file::LineColumn| (place.line.get() as u32, place.column.get() as u32);
    if let (Some(start), Some(end)) = (diagnostic.ruff_start_location(), diagnostic.ruff_end_location()) {
        finding = finding.spanning(name, place(start), place(end));
    }
    if let Some(url) = diagnostic.documentation_url() {
        finding = finding.help(url);
    }
    if let Some(fix) = diagnostic.fix() {
        let edit = |edit: &ruff_diagnostics::Edit| Edit {
            start: edit.start().to_u32().into(),
            end: edit.end().to_u32().into(),
            replacement: edit.content().unwrap_or_default().to_owned(),
        };
        let description = diagnostic.first_help_text().unwrap_or("apply ruff's fix").to_owned();
        finding = finding.suggest(description.clone()).fix(Fix {
            description,
            edits: fix.edits().iter().map(edit).collect(),
            safe: fix.applicability().is_safe(),
        });
    } else if let Some(help) = diagnostic.first_help_text() {
        finding = finding.suggest(help);
    }
    finding
}
