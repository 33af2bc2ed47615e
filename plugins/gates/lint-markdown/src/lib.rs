//! Lints Markdown with rumdl: the rules of markdownlint by their own names, and rumdl's or markdownlint's configuration as it
//! lies nearest to the file.

use std::path::{Path, PathBuf};

use rumdl_lib::config::{Config, MarkdownFlavor, SourcedConfig};
use rumdl_lib::rule::{LintWarning, Severity as RumdlSeverity};
use sandhog_guest::{Edit, Failure, Finding, Fix, Severity, Subject, Verdict, invalid_input, permanent};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Params {
    /// Rules that are not looked for, such as `MD013`.
    disable: Vec<String>,
    /// Judge by rumdl's defaults, whatever configuration lies in the subject.
    isolated: bool,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let (disable, isolated) = (subject.params.disable.clone(), subject.params.isolated);
    let rules = rumdl_lib::rules::all_rules(&Config::default());
    if let Some(name) = disable.iter().find(|name| !rules.iter().any(|rule| rule.name().eq_ignore_ascii_case(name))) {
        return Err(invalid_input(format!("`disable`: there is no rule {name:?}; rules are named as MD013 is")));
    }
    subject.judge_texts(|path, text| {
        let full = PathBuf::from("/subject").join(path);
        let folder = full.parent().unwrap_or(Path::new("/subject"));
        let mut config = if isolated {
            Config::default()
        } else {
            let sourced = SourcedConfig::load_for_directory(folder, None, false, Path::new("/subject"))
                .map_err(|error| invalid_input(format!("the configuration of rumdl does not read: {error}")))?;
            sourced.into_validated_unchecked().into()
        };
        config.global.disable.extend(disable.iter().cloned());
        let rules = rumdl_lib::rules::filter_rules(&rumdl_lib::rules::all_rules(&config), &config.global);
        let rules = rumdl_lib::rules::filter_rules_for_file(&rules, &config, Path::new(path));
        let flavor = MarkdownFlavor::from_path(Path::new(path));
        let warnings = rumdl_lib::lint(text, &rules, false, flavor, Some(full.clone()), Some(&config))
            .map_err(|error| permanent(error.to_string()))?;
        Ok(warnings.iter().map(|warning| finding(path, warning)).collect())
    })
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
