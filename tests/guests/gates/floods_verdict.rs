//! Passes, with a finding whose message is as long as it is told, of characters that JSON writes as six.
use sandhog_guest::{Decision, Failure, Finding, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
struct Params {
    bytes: usize,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let findings = vec![Finding::new("long", Severity::Info, "\u{1b}".repeat(subject.params.bytes))];
    Ok(Verdict { decision: Decision::Pass, findings, metrics: Vec::new(), summary: String::new() })
}
