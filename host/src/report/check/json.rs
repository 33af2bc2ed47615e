//! For programs: everything, in one object.

use serde_json::{Value, json};

use super::{message, notes, path, word};
use crate::check::{Excused, Found, GateOutcome, GateReport, Outcome, Report, by_severity};
use crate::report::{SCHEMA_VERSION, usage_json};

/// The whole report.
#[must_use]
pub fn json(report: &Report) -> Value {
    let outcome = match report.outcome() {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Misconfigured => "misconfigured",
        Outcome::HostFailed => "host_failed",
        Outcome::NothingChecked => "nothing_checked",
    };
    let severities: serde_json::Map<String, Value> =
        by_severity(report).iter().map(|(s, count)| (s.to_string(), (*count).into())).collect();
    json!({
        "schema_version": SCHEMA_VERSION,
        "outcome": outcome,
        "files": report.files,
        "counts": severities,
        "wall_time_ms": report.wall_time.as_micros() as f64 / 1000.0,
        "gates": report.gates.iter().map(gate).collect::<Vec<_>>(),
        "skipped": report.skipped.iter().map(|(gate, why)| json!({ "gate": gate, "why": why })).collect::<Vec<_>>(),
        "notes": notes(report),
    })
}

fn gate(gate: &GateReport) -> Value {
    let failure = match &gate.outcome {
        GateOutcome::Failed { part, failure, parts, allowed } => json!({
            "kind": failure.kind.as_str(), "message": plain(&failure.message), "part": message(part), "parts": parts, "allowed": allowed,
        }),
        GateOutcome::Passed | GateOutcome::Rejected => Value::Null,
    };
    let unit = |unit: &crate::check::UnitReport| {
        let (outcome, failure) = match &unit.outcome {
            Ok(crate::model::Decision::Pass) => ("passed", Value::Null),
            Ok(crate::model::Decision::Fail) => ("rejected", Value::Null),
            Err(failure) => ("failed", json!({ "kind": failure.kind.as_str(), "message": plain(&failure.message) })),
        };
        let outcome = if unit.skipped().is_some() { "skipped" } else { outcome };
        json!({
            "name": message(&unit.name),
            "outcome": outcome,
            "summary": plain(&unit.summary),
            "failure": failure,
            "log": unit.log,
            "usage": usage_json(&unit.receipt),
        })
    };
    json!({
        "name": gate.name,
        "plugin": gate.plugin,
        "version": gate.version,
        "digest": gate.digest,
        "why": gate.why,
        "outcome": word(gate).split(' ').next(),
        "failure": failure,
        "fail_on": gate.fail_on,
        "summary": plain(&gate.summary),
        "files": gate.files,
        "parts": gate.parts,
        "known": gate.kept,
        "findings": gate.findings.iter().map(|found| finding(gate, found)).collect::<Vec<_>>(),
        "metrics": gate.metrics,
        "units": gate.units.iter().map(unit).collect::<Vec<_>>(),
        "usage": usage_json(&gate.receipt),
    })
}

/// What a gate says, with its lines and without what could steer a terminal.
fn plain(text: &str) -> String {
    text.lines().map(message).collect::<Vec<_>>().join("\n")
}

fn finding(gate: &GateReport, found: &Found) -> Value {
    let mut shown = found.finding.clone();
    shown.rule = message(&shown.rule);
    shown.message = plain(&shown.message);
    shown.suggestion = shown.suggestion.as_deref().map(plain);
    shown.help_url = shown.help_url.as_deref().map(message);
    if let Some(location) = &mut shown.location {
        location.path = path(&location.path);
    }
    if let Some(fix) = &mut shown.fix {
        fix.description = plain(&fix.description);
    }
    let mut value = serde_json::to_value(&shown).unwrap_or_default();
    let excused = match &found.excused {
        None => Value::Null,
        Some(Excused::Baseline) => json!({ "by": "baseline" }),
        Some(Excused::Ignored(reason)) => json!({ "by": "ignore", "reason": reason }),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("excused".to_owned(), excused);
        if let Some(unit) = found.unit.and_then(|unit| gate.units.get(unit)) {
            object.insert("unit".to_owned(), message(&unit.name).into());
        }
    }
    value
}
