//! Finds errors in TOML 1.1: every error of syntax, duplicate keys included, with its place. The engine is the `toml` crate.

use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| {
        let (_, errors) = toml::de::DeTable::parse_recoverable(text);
        let lines = LineIndex::new(text);
        let finding = |error: &toml::de::Error| {
            let rule = if error.message().contains("duplicate key") { "duplicate-key" } else { "syntax" };
            Finding::new(rule, Severity::High, error.message()).over(path, &lines, error.span().unwrap_or(0..0))
        };
        Ok(errors.iter().map(finding).collect())
    })
}
