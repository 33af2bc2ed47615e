//! SARIF 2.1.0 (OASIS), with what GitHub code scanning needs beside: relative URIs, a category for each gate, a fingerprint for
//! each finding, and `security-severity` for rules of security. A gate that could not answer is a run that did not succeed: GitHub
//! closes every alert of a run that succeeded and is empty.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Lines, is_allowed, message, path, reason};
use crate::check::tree::Tree;
use crate::check::{Excused, Found, GateOutcome, GateReport, Report};
use crate::model::Severity;

/// GitHub refuses a run with more results; the worst are kept.
const RESULTS_MAX: usize = 25_000;

/// The whole report, a run for each gate.
#[must_use]
pub fn sarif(report: &Report, tree: &Tree) -> Value {
    let runs: Vec<Value> = report.gates.iter().map(|gate| run(gate, report, tree)).collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": runs,
    })
}

fn run(gate: &GateReport, report: &Report, tree: &Tree) -> Value {
    let mut findings: Vec<&Found> = gate.findings.iter().collect();
    let left_out = findings.len().saturating_sub(RESULTS_MAX);
    if left_out > 0 {
        findings.sort_by_key(|found| (found.excused.is_some(), std::cmp::Reverse(found.finding.severity)));
        findings.truncate(RESULTS_MAX);
    }
    let mut rules: BTreeMap<&str, &Found> = BTreeMap::new();
    for found in &findings {
        let worst = rules.entry(&found.finding.rule).or_insert(found);
        if found.finding.severity > worst.finding.severity {
            *worst = found;
        }
    }
    let places: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(at, rule)| (*rule, at)).collect();
    let mut lines = Lines::new(tree, report);
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    let results: Vec<Value> = findings.iter().map(|found| result(found, &places, &mut lines, &mut seen)).collect();
    let mut driver = json!({
        "name": format!("sandhog {}", gate.name),
        "rules": rules.values().map(|found| rule(found, gate.security)).collect::<Vec<_>>(),
    });
    if let (Some(driver), Some(version)) = (driver.as_object_mut(), &gate.version) {
        driver.insert("semanticVersion".to_owned(), version.clone().into());
    }
    let failed = matches!(gate.outcome, GateOutcome::Failed { .. });
    // An ignore that is over fails the check as a whole: each run says so.
    let expired = report.expired.iter().map(|ignore| {
        let day = ignore.expires.map(|day| day.to_string()).unwrap_or_default();
        json!({ "level": "error", "message": { "text": format!("the [[ignore]] of {} ended on {day}", message(&ignore.rule)) } })
    });
    let notifications: Vec<Value> = reason(gate)
        .map(|reason| {
            let level = if is_allowed(gate) { "warning" } else { "error" };
            json!({ "level": level, "message": { "text": format!("{} could not answer: {reason}", gate.name) } })
        })
        .into_iter()
        .chain((left_out > 0).then(|| {
            let text = format!("{left_out} findings more are not told here: a run has at most {RESULTS_MAX}, the worst first");
            json!({ "level": "warning", "message": { "text": text } })
        }))
        .chain(expired)
        .collect();
    json!({
        "tool": { "driver": driver },
        "automationDetails": { "id": format!("sandhog/{}/", gate.name) },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": { "SRCROOT": { "description": { "text": "the directory that was checked" } } },
        "invocations": [{ "executionSuccessful": !failed, "toolExecutionNotifications": notifications }],
        "results": results,
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

/// The score that GitHub sorts security alerts by; its own bounds are above 9.0 critical, 7.0 to 8.9 high, 4.0 to 6.9 medium.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "2.0",
        Severity::Info => "0.0",
    }
}

fn rule(found: &Found, security: bool) -> Value {
    let finding = &found.finding;
    let mut rule = json!({
        "id": message(&finding.rule),
        "shortDescription": { "text": message(&finding.rule) },
        "defaultConfiguration": { "level": level(finding.severity) },
    });
    if let Some(object) = rule.as_object_mut() {
        if let Some(url) = finding.help_url.as_ref().filter(|url| url.starts_with("https://") || url.starts_with("http://")) {
            object.insert("helpUri".to_owned(), uri_text(url).into());
        }
        if security {
            let properties = json!({ "security-severity": score(finding.severity), "tags": ["security"] });
            object.insert("properties".to_owned(), properties);
        }
    }
    rule
}

fn result<'a>(
    found: &'a Found,
    rules: &BTreeMap<&str, usize>,
    lines: &mut Lines<'a>,
    seen: &mut BTreeMap<(String, String), usize>,
) -> Value {
    let finding = &found.finding;
    let mut result = json!({
        "ruleId": message(&finding.rule),
        "ruleIndex": rules.get(finding.rule.as_str()),
        "level": level(finding.severity),
        "message": { "text": message(&finding.message) },
    });
    let Some(object) = result.as_object_mut() else { return result };
    if let Some(location) = &finding.location {
        let mut physical = json!({ "artifactLocation": { "uri": uri(&location.path), "uriBaseId": "SRCROOT" } });
        // GitHub shows a finding only where it has a line.
        let region = location.span.map_or(json!({ "startLine": 1 }), |span| {
            let start_line = span.start_line.max(1);
            json!({
                "startLine": start_line, "startColumn": span.start_column.max(1),
                "endLine": span.end_line.max(start_line), "endColumn": span.end_column.max(1),
            })
        });
        if let Some(physical) = physical.as_object_mut() {
            physical.insert("region".to_owned(), region);
        }
        object.insert("locations".to_owned(), json!([{ "physicalLocation": physical }]));
        let text: String =
            location.span.and_then(|span| lines.line(&location.path, span.start_line)).unwrap_or_default().split_whitespace().collect();
        let hash = blake3::hash(format!("{}\n{text}", finding.rule).as_bytes()).to_hex()[..16].to_owned();
        let count = seen.entry((location.path.clone(), hash.clone())).or_default();
        *count += 1;
        object.insert("partialFingerprints".to_owned(), json!({ "primaryLocationLineHash": format!("{hash}:{count}") }));
    }
    let suppression = match &found.excused {
        None => return result,
        Some(Excused::Baseline) => json!({ "kind": "external", "justification": "in the baseline" }),
        Some(Excused::Ignored(reason)) => json!({ "kind": "external", "justification": message(reason) }),
    };
    object.insert("suppressions".to_owned(), json!([suppression]));
    result
}

/// A path as a relative URI reference (RFC 3986): what is not unreserved is escaped.
fn uri(name: &str) -> String {
    let mut uri = String::with_capacity(name.len());
    for byte in path(name).bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// An address that a guest gave, with whatever cannot stand in one escaped.
fn uri_text(url: &str) -> String {
    url.bytes()
        .map(
            |byte| {
                if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
