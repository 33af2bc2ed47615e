//! Behaves: says what it saw of its subject, and whether it could change it.
use sandhog_guest::{Decision, Failure, Finding, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

fn check(subject: Subject) -> Result<Verdict, Failure> {
    let mut findings = Vec::new();
    for file in &subject.files {
        let text = subject.read_text(&file.path)?;
        findings.push(Finding::new("saw", Severity::Info, format!("{} bytes: {text}", file.size_bytes)).at(&file.path, 1));
    }
    let written = std::fs::write("/subject/new", "x").is_ok()
        || subject.files.iter().any(|f| std::fs::write(format!("/subject/{}", f.path), "x").is_ok());
    let outside = std::fs::read_dir("/subject/..").is_ok() || std::fs::read_dir("/").is_ok();
    let task = subject.task.as_ref().map_or(0, |task| task.inputs.len());
    let summary = format!("written {written}, outside {outside}, inputs {task}, usage {}", subject.usage.is_some());
    Ok(Verdict { decision: Decision::Pass, findings, metrics: vec![], summary })
}
