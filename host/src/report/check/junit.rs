//! JUnit XML, as most CI services read it: a suite for each gate; what is rejected is a failure, what could not answer an error.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::{is_allowed, message, place, reason};
use crate::check::{Found, GateReport, Report};
use crate::model::Decision;

/// The whole report.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut junit = Junit::new("sandhog check");
    junit.set_time(report.wall_time);
    for gate in &report.gates {
        junit.add_test_suite(suite(gate));
    }
    for (gate, why) in &report.skipped {
        let mut suite = TestSuite::new(clean(gate));
        suite.add_test_case(TestCase::new(clean(gate), skipped(why)));
        junit.add_test_suite(suite);
    }
    if !report.expired.is_empty() {
        let mut suite = TestSuite::new("[[ignore]]");
        for ignore in &report.expired {
            let day = ignore.expires.map(|day| day.to_string()).unwrap_or_default();
            let status = failure(NonSuccessKind::Failure, &format!("it ended on {day}"), &clean(&ignore.reason));
            suite.add_test_case(TestCase::new(clean(&ignore.rule), status));
        }
        junit.add_test_suite(suite);
    }
    // It fails for what XML cannot say, and `clean` leaves nothing of that.
    junit.to_string().unwrap_or_else(|error| format!("<!-- this report could not be written: {error} -->"))
}

/// XML 1.0 knows no control characters, and [`message`] leaves none.
fn clean(text: &str) -> String {
    message(text)
}

fn suite(gate: &GateReport) -> TestSuite {
    let mut suite = TestSuite::new(clean(&gate.name));
    suite.set_time(gate.receipt.wall_time);
    for (place, unit) in gate.units.iter().enumerate() {
        let status = match &unit.outcome {
            Ok(Decision::Pass) => match unit.skipped() {
                Some(why) => skipped(why),
                None => TestCaseStatus::success(),
            },
            _ if is_excused(gate, place) => TestCaseStatus::success(),
            Ok(Decision::Fail) => {
                let said = gate.findings.iter().filter(|found| found.unit == Some(place)).map(line).collect::<Vec<_>>();
                failure(NonSuccessKind::Failure, "rejected", &said.join("\n"))
            }
            Err(failed) if is_allowed(gate) => skipped(&format!("{}: {}", failed.kind, failed.message)),
            Err(failed) => failure(NonSuccessKind::Error, failed.kind.as_str(), &failed.message),
        };
        let mut case = TestCase::new(clean(&unit.name), status);
        case.set_time(unit.receipt.wall_time);
        case.add_property(("fuel", unit.receipt.fuel.to_string().as_str()));
        if !unit.log.lines.is_empty() {
            case.set_system_out(unit.log.lines.iter().map(|line| clean(&line.text)).collect::<Vec<_>>().join("\n"));
        }
        suite.add_test_case(case);
    }
    if gate.units.is_empty() {
        let mut by_file: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
        for found in gate.findings.iter().filter(|found| found.excused.is_none()) {
            let file = found.finding.location.as_ref().map_or(gate.name.as_str(), |location| location.path.as_str());
            by_file.entry(file).or_default().push(found);
        }
        for (file, findings) in &by_file {
            let lines: Vec<String> = findings.iter().map(|found| line(found)).collect();
            let rejects = gate.fail_on.is_none_or(|threshold| findings.iter().any(|found| found.finding.severity >= threshold));
            let status = if rejects && gate.outcome != crate::check::GateOutcome::Passed {
                let many = crate::model::text::counted(findings.len(), "finding");
                failure(NonSuccessKind::Failure, &many, &lines.join("\n"))
            } else {
                TestCaseStatus::success()
            };
            let mut case = TestCase::new(clean(file), status);
            if matches!(case.status, TestCaseStatus::Success { .. }) {
                case.set_system_out(clean(&lines.join("; ")));
            }
            suite.add_test_case(case);
        }
        if by_file.is_empty() && reason(gate).is_none() {
            suite.add_test_case(TestCase::new(clean(&gate.name), TestCaseStatus::success()));
        }
    }
    if let Some(reason) = reason(gate) {
        let status = if is_allowed(gate) {
            skipped(&format!("could not answer: {reason}"))
        } else {
            failure(NonSuccessKind::Error, "could not answer", &reason)
        };
        suite.add_test_case(TestCase::new(clean(&gate.name), status));
    }
    suite
}

/// Whether all that is said of a unit is excused: by the baseline, or by an `[[ignore]]`.
fn is_excused(gate: &GateReport, unit: usize) -> bool {
    let mut of = gate.findings.iter().filter(|found| found.unit == Some(unit)).peekable();
    of.peek().is_some() && of.all(|found| found.excused.is_some())
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(clean(why));
    status
}

fn failure(kind: NonSuccessKind, short: &str, long: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(clean(short));
    status.set_type("sandhog");
    status.set_description(long.to_owned());
    status
}

fn line(found: &Found) -> String {
    let finding = &found.finding;
    let at = finding.location.as_ref().map_or_else(String::new, |location| format!("{}: ", place(&location.path, location.span)));
    format!("{at}{} {} [{}]", finding.severity, message(&finding.message), message(&finding.rule))
}
