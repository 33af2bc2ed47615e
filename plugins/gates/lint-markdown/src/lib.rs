//! Lints Markdown with rumdl: the rules of markdownlint by their own names, and rumdl's or markdownlint's configuration as it
//! lies nearest to the file.

use std::path::Path;

use rumdl_lib::config::{Config, MarkdownFlavor, SourcedConfig};
use rumdl_lib::discovery::{ExcludeMatchers, MARKDOWNLINTIGNORE, MarkdownWalkOptions, MarkdownWorkspaceScan, has_markdown_extension};
use rumdl_lib::rule::{LintWarning, Rule, Severity as RumdlSeverity};
use rumdl_lib::workspace_index::{FileIndex, WorkspaceIndex, link_target_candidates};
use sandhog_guest::{Edit, Failure, Finding, Fix, Severity, Subject, Verdict, invalid_input, permanent};

sandhog_guest::gate!(check);
sandhog_guest::initialize!(initialize);

/// Where the subject lies.
const ROOT: &str = "/subject";

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Params {
    /// Rules that are not looked for, such as `MD013`.
    disable: Vec<String>,
    /// Judge by rumdl's defaults, whatever configuration lies in the subject.
    isolated: bool,
}

/// A text with something in it for each rule.
const SAMPLE: &str = include_str!("sample.txt");

/// Lints the sample, since rumdl compiles each of its regular expressions when it first looks for something.
fn initialize() {
    for flavor in [MarkdownFlavor::Standard, MarkdownFlavor::MDX, MarkdownFlavor::MkDocs] {
        let config = Config::default();
        let rules = rumdl_lib::rules::all_rules(&config);
        let _ = rumdl_lib::lint_and_index(SAMPLE, &rules, false, flavor, None, Some(&config));
    }
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let (disable, isolated) = (subject.params.disable.clone(), subject.params.isolated);
    let rules = rumdl_lib::rules::all_rules(&Config::default());
    if let Some(name) = disable.iter().find(|name| !rules.iter().any(|rule| rule.name().eq_ignore_ascii_case(name))) {
        return Err(invalid_input(format!("`disable`: there is no rule {name:?}; rules are named as MD013 is")));
    }
    let root = if isolated { None } else { Some(configuration(Path::new(ROOT))?) };
    let selection = root.as_ref().map(Selection::new);
    subject.judge_texts(|path, text| {
        let full = Path::new(ROOT).join(path);
        if selection.as_ref().is_some_and(|selection| !selection.has(path, &full)) {
            return Ok(Vec::new());
        }
        let folder = full.parent().unwrap_or(Path::new(ROOT));
        let mut config = match &root {
            None => Config::default(),
            Some(root) if folder == Path::new(ROOT) => root.clone(),
            Some(_) => configuration(folder)?,
        };
        config.global.disable.extend(disable.iter().cloned());
        let rules = rumdl_lib::rules::filter_rules(&rumdl_lib::rules::all_rules(&config), &config.global);
        let of_file = rumdl_lib::rules::filter_rules_for_file(&rules, &config, Path::new(path));
        let flavor = config.get_flavor_for_file(&full);
        let (warnings, index) = rumdl_lib::lint_and_index(text, &of_file, false, flavor, Some(full.clone()), Some(&config));
        let mut warnings = warnings.map_err(|error| permanent(error.to_string()))?;
        let others = others(&full, &index, &rules, &config);
        let across = rumdl_lib::run_cross_file_checks(&full, &index, &rules, &others, Some(&config));
        warnings.extend(across.map_err(|error| permanent(error.to_string()))?);
        Ok(warnings.iter().map(|warning| finding(path, warning)).collect())
    })
}

/// The configuration that counts in a folder: the nearest one.
fn configuration(folder: &Path) -> Result<Config, Failure> {
    let sourced = SourcedConfig::load_for_directory(folder, None, false, Path::new(ROOT))
        .map_err(|error| invalid_input(format!("the configuration of rumdl does not read: {error}")))?;
    Ok(sourced.into_validated_unchecked().into())
}

/// What the configuration at the root says of which files are judged.
struct Selection<'a> {
    includes: &'a [String],
    excludes: ExcludeMatchers,
    /// Whether only a walk can tell.
    is_walked: bool,
}

impl<'a> Selection<'a> {
    fn new(root: &'a Config) -> Self {
        let is_walked = !root.global.include.is_empty() || Path::new(ROOT).join(MARKDOWNLINTIGNORE).exists();
        Self { includes: &root.global.include, excludes: ExcludeMatchers::new(&root.global.exclude), is_walked }
    }

    fn has(&self, path: &str, full: &Path) -> bool {
        if !self.is_walked {
            return self.excludes.matched_pattern_for_file(Some(path), full).is_none();
        }
        // The host has applied `.gitignore` already.
        let options = MarkdownWalkOptions { respect_gitignore: false, skip_vendor_dirs: false };
        !MarkdownWorkspaceScan::new(&options, self.includes, &self.excludes).path_is_ignored(&[ROOT.into()], full)
    }
}

/// What is known of the files that a file links to with a `#`: the headings of each.
fn others(full: &Path, index: &FileIndex, rules: &[Box<dyn Rule>], config: &Config) -> WorkspaceIndex {
    let mut others = WorkspaceIndex::new();
    for link in index.cross_file_links.iter().filter(|link| !link.fragment.is_empty()) {
        for target in link_target_candidates(full, &link.target_path) {
            if !target.starts_with(ROOT) || others.get_file(&target).is_some() || !has_markdown_extension(&target) {
                continue;
            }
            if let Ok(text) = std::fs::read_to_string(&target) {
                let flavor = config.get_flavor_for_file(&target);
                others.insert_file(target.clone(), rumdl_lib::build_file_index_only(&text, rules, flavor, Some(target)));
            }
        }
    }
    others
}

fn finding(path: &str, warning: &LintWarning) -> Finding {
    let severity = match warning.severity {
        RumdlSeverity::Error => Severity::Medium,
        RumdlSeverity::Warning => Severity::Low,
        RumdlSeverity::Info => Severity::Info,
    };
    let rule = warning.rule_name.clone().unwrap_or_else(|| "markdown".to_owned());
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    let mut finding = Finding::new(&rule, severity, &warning.message).spanning(
        path,
        (number(warning.line), number(warning.column)),
        (number(warning.end_line.max(warning.line)), number(warning.end_column)),
    );
    if rule.starts_with("MD") {
        finding = finding.help(format!("https://rumdl.dev/{}/", rule.to_lowercase()));
    }
    if let Some(fix) = &warning.fix {
        let edit = |fix: &rumdl_lib::rule::Fix| Edit {
            start: fix.range.start as u64,
            end: fix.range.end as u64,
            replacement: fix.replacement.clone(),
        };
        let edits = std::iter::once(fix).chain(&fix.additional_edits).map(edit).collect();
        finding = finding.fix(Fix { description: "apply rumdl's fix".to_owned(), edits, safe: true });
    }
    finding
}
