//! GitHub's workflow commands: an annotation for each finding, the worst first, since only ten errors and ten warnings of a
//! step are shown; and the summary of a step, in Markdown.

use std::fmt::Write as _;

use super::{counts, is_allowed, message, notes, path, place, reason, word};
use crate::check::{Found, GateReport, Outcome, Report};
use crate::model::Severity;
use crate::model::text::counted;

/// How many annotations are printed: more would only fill the log.
const ANNOTATIONS_MAX: usize = 500;
/// How large a step's summary may be, in bytes: GitHub's bound is 1 MiB.
const SUMMARY_BYTES_MAX: usize = 1_000_000;

/// Escapes what stands behind `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The annotations, and one for each gate that could not answer.
#[must_use]
pub fn annotations(report: &Report) -> String {
    let mut out = String::new();
    for gate in &report.gates {
        if let Some(reason) = reason(gate) {
            let command = if is_allowed(gate) { "warning" } else { "error" };
            let _ = writeln!(out, "::{command} title={}::{}", property(&format!("{} could not answer", gate.name)), data(&reason));
        }
    }
    for ignore in &report.expired {
        let day = ignore.expires.map(|day| day.to_string()).unwrap_or_default();
        let text = format!("it ended on {day}, and the check fails until it is renewed or removed: {}", message(&ignore.reason));
        let _ = writeln!(out, "::error title={}::{}", property(&format!("[[ignore]] {}", message(&ignore.rule))), data(&text));
    }
    let mut findings: Vec<(&GateReport, &Found)> = report.findings().filter(|(_, found)| found.excused.is_none()).collect();
    findings.sort_by_key(|(_, found)| std::cmp::Reverse(found.finding.severity)); // stable: by place within one severity
    let left = findings.len().saturating_sub(ANNOTATIONS_MAX);
    for (gate, found) in findings.into_iter().take(ANNOTATIONS_MAX) {
        let finding = &found.finding;
        let command = match finding.severity {
            Severity::Critical | Severity::High | Severity::Medium => "error",
            Severity::Low => "warning",
            Severity::Info => "notice",
        };
        let mut properties = vec![format!("title={}", property(&format!("{} {}", gate.name, message(&finding.rule))))];
        if let Some(location) = &finding.location {
            properties.push(format!("file={}", property(&path(&location.path))));
            if let Some(span) = location.span {
                properties.push(format!("line={},endLine={}", span.start_line, span.end_line));
                if span.start_line == span.end_line {
                    properties.push(format!("col={},endColumn={}", span.start_column, span.end_column));
                }
            }
        }
        let _ = writeln!(out, "::{command} {}::{}", properties.join(","), data(&message(&finding.message)));
    }
    if left > 0 {
        let _ = writeln!(out, "::notice::{left} more findings are in the other formats");
    }
    for note in notes(report) {
        let _ = writeln!(out, "::notice::{}", data(&note));
    }
    out
}

/// The summary of a step.
#[must_use]
pub fn step_summary(report: &Report) -> String {
    // What a guest says may hold Markdown and HTML: both are escaped.
    let cell = |text: &str| {
        let mut safe = String::new();
        for c in message(text).chars() {
            match c {
                '<' => safe.push_str("&lt;"),
                '>' => safe.push_str("&gt;"),
                '&' => safe.push_str("&amp;"),
                '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '~' | '@' => {
                    let _ = write!(safe, "&#{};", u32::from(c));
                }
                c => safe.push(c),
            }
        }
        safe
    };
    let title = match report.outcome() {
        Outcome::Passed => "sandhog check passed",
        Outcome::Failed => "sandhog check failed",
        Outcome::Misconfigured => "sandhog check: the configuration does not fit",
        Outcome::HostFailed => "sandhog check could not judge",
        Outcome::NothingChecked => "sandhog check: nothing was checked",
    };
    let mut out = format!("## {title}\n\n| gate | outcome | findings | files |\n|---|---|---|---|\n");
    for gate in &report.gates {
        let _ = writeln!(out, "| {} | {} | {} | {} |", cell(&gate.name), word(gate), counts(gate).0, gate.files);
    }
    let mut findings: Vec<(&GateReport, &Found)> = report.findings().filter(|(_, found)| found.excused.is_none()).collect();
    findings.sort_by_key(|(_, found)| std::cmp::Reverse(found.finding.severity));
    if !findings.is_empty() {
        out.push_str("\n| severity | where | what | rule |\n|---|---|---|---|\n");
    }
    let all = findings.len();
    for (at, (gate, found)) in findings.into_iter().enumerate() {
        let finding = &found.finding;
        let spot = finding.location.as_ref().map_or_else(String::new, |location| place(&location.path, location.span));
        let rule = format!("{}/{}", gate.name, finding.rule);
        let row = format!("| {} | {} | {} | {} |\n", finding.severity, cell(&spot), cell(&finding.message), cell(&rule));
        if out.len() + row.len() > SUMMARY_BYTES_MAX {
            let _ = writeln!(out, "\n{} more", counted(all - at, "finding"));
            break;
        }
        out.push_str(&row);
    }
    for note in notes(report) {
        let _ = writeln!(out, "\n> {}", cell(&note));
    }
    out
}
