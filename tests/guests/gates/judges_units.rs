//! A gate with units: a unit named `loops` never ends, one named `bad` is rejected, the rest pass.
use sandhog_guest::{Failure, Finding, Severity, Subject, Verdict};

sandhog_guest::gate!(check, units = units);

fn units(subject: Subject) -> Result<Vec<String>, Failure> {
    Ok(subject.files.iter().map(|file| file.path.clone()).collect())
}

fn check(subject: Subject) -> Result<Verdict, Failure> {
    let unit = subject.unit.unwrap_or_default();
    while unit == "loops" {
        std::hint::black_box(&unit);
    }
    let findings = if unit == "bad" { vec![Finding::new("bad", Severity::High, "is bad").in_file(unit)] } else { vec![] };
    Ok(Verdict::from_findings(findings))
}
