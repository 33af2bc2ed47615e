//! Judges results of tests that ran elsewhere: JUnit XML, TAP, `go test -json`, and what libtest and nextest print. They are evidence, not
//! proof: what a report says is what its maker says. A report without a test that ran is no pass.

mod formats;

use formats::{Case, Outcome};
use sandhog_guest::{Decision, Failure, Finding, Metric, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// How many tests must have run at least.
    minimum: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { minimum: 1 }
    }
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let (mut findings, mut ran, mut failed, mut skipped) = (Vec::new(), 0, 0, 0);
    for file in &subject.files {
        let text = String::from_utf8_lossy(&subject.read(&file.path)?).into_owned();
        let cases = match formats::read(&text) {
            Ok(cases) => cases,
            Err(reason) => {
                let message = format!("it does not read as a report of tests: {reason}");
                findings.push(Finding::new("unreadable-report", Severity::High, message).in_file(&file.path));
                continue;
            }
        };
        let mut of_file = 0;
        for case in cases {
            match case.outcome {
                Outcome::Passed => of_file += 1,
                Outcome::Skipped => skipped += 1,
                Outcome::Failed | Outcome::Errored => {
                    of_file += 1;
                    failed += 1;
                    findings.push(finding(&case, &file.path));
                }
            }
        }
        if of_file < subject.params.minimum {
            let message = format!("{of_file} tests ran, and {} are the least that count", subject.params.minimum);
            findings.push(Finding::new("no-tests", Severity::High, message).in_file(&file.path));
        }
        ran += of_file;
    }
    let metric = |name: &str, value: usize| Metric { name: name.to_owned(), value: value as f64, unit: String::new() };
    let verdict = Verdict::from_findings(findings);
    Ok(Verdict {
        decision: if ran == 0 { Decision::Fail } else { verdict.decision },
        metrics: vec![metric("tests", ran), metric("failed", failed), metric("skipped", skipped)],
        summary: format!("{ran} ran, {failed} failed, {skipped} skipped, as their report says"),
        ..verdict
    })
}

fn finding(case: &Case, report: &str) -> Finding {
    let rule = if case.outcome == Outcome::Errored { "test-error" } else { "test-failed" };
    let why = case.message.trim();
    let message = if why.is_empty() { format!("{}: failed", case.name) } else { format!("{}: {}", case.name, cut(why)) };
    let finding = Finding::new(rule, Severity::High, message);
    finding.at(report, case.line)
}

fn cut(text: &str) -> String {
    text.chars().take(1_000).collect()
}
