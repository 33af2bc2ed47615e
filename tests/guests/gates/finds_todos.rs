//! Behaves: the gate that the guide shows.
use sandhog_guest::{Failure, Finding, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

fn check(subject: Subject) -> Result<Verdict, Failure> {
    let mut findings = Vec::new();
    for file in &subject.files {
        if subject.read_text(&file.path)?.contains("TODO") {
            findings.push(Finding::new("todo", Severity::Medium, "unfinished work").in_file(&file.path));
        }
    }
    Ok(Verdict::from_findings(findings))
}
