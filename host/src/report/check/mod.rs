//! A check, told: to people, to programs, and to the services that show findings.

mod github;
mod human;
mod json;
mod junit;
mod sarif;

use std::collections::BTreeMap;

use crate::check::mask::Secrets;
use crate::check::tree::Tree;
use crate::check::{GateOutcome, GateReport, Report};
use crate::model::Span;
use crate::model::text::sanitize;

pub use github::{annotations, step_summary};
pub use human::human;
pub use json::json;
pub use junit::junit;
pub use sarif::sarif;

/// How much of a message is shown, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;
/// How much of a path is shown, in bytes.
const PATH_BYTES_MAX: usize = 1_200;

/// The lines of the files that a report tells of.
struct Lines<'a> {
    tree: &'a Tree,
    masked: &'a Secrets,
    /// The texts of files, with where each line begins.
    texts: BTreeMap<&'a str, Option<(String, Vec<usize>)>>,
}

impl<'a> Lines<'a> {
    fn new(tree: &'a Tree, report: &'a Report) -> Self {
        Self { tree, masked: &report.masked, texts: BTreeMap::new() }
    }

    /// A line, counted from 1; none where there is none, or the file is not text.
    fn line(&mut self, path: &'a str, number: u32) -> Option<String> {
        let tree = self.tree;
        let read = || {
            let text = String::from_utf8(tree.snapshot.content(path).ok()?.to_vec()).ok()?;
            let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
            Some((text, starts))
        };
        let (text, starts) = self.texts.entry(path).or_insert_with(read).as_ref()?;
        let start = *starts.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        let line = text.get(start..)?.lines().next()?;
        Some(self.masked.mask(line))
    }
}

fn message(text: &str) -> String {
    sanitize(text, MESSAGE_BYTES_MAX)
}

fn path(text: &str) -> String {
    sanitize(text, PATH_BYTES_MAX)
}

/// `path:line:column`, as editors and terminals make links of it.
fn place(name: &str, span: Option<Span>) -> String {
    match span {
        Some(span) => format!("{}:{}:{}", path(name), span.start_line, span.start_column),
        None => path(name),
    }
}

/// One word for how a gate ended.
fn word(gate: &GateReport) -> &'static str {
    match gate.outcome {
        GateOutcome::Passed => "passed",
        GateOutcome::Rejected => "rejected",
        GateOutcome::Failed { allowed: false, .. } => "failed",
        GateOutcome::Failed { allowed: true, .. } => "failed (allowed)",
    }
}

/// How many findings of a gate count, and how many are excused.
fn counts(gate: &GateReport) -> (usize, usize) {
    let counting = gate.findings.iter().filter(|found| found.excused.is_none()).count();
    (counting, gate.findings.len() - counting)
}

/// Why a gate has no answer, in a line.
fn reason(gate: &GateReport) -> Option<String> {
    let GateOutcome::Failed { part, failure, parts, .. } = &gate.outcome else { return None };
    let of = if part.is_empty() { String::new() } else { format!("{}: ", path(part)) };
    let more = if *parts > 1 { format!(" (and {} more)", parts - 1) } else { String::new() };
    Some(format!("{of}{}: {}{more}", failure.kind, message(&failure.message)))
}

/// Whether a gate has no answer, and the configuration lets that pass.
fn is_allowed(gate: &GateReport) -> bool {
    matches!(gate.outcome, GateOutcome::Failed { allowed: true, .. })
}

/// The notes of a report: what the user should know beside.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = report.notes.clone();
    for ignore in &report.expired {
        let day = ignore.expires.map(|day| day.to_string()).unwrap_or_default();
        notes.push(format!(
            "{}: the [[ignore]] of {} ended on {day}, and the check fails until it is renewed or removed (reason then: {})",
            ignore.place,
            sanitize(&ignore.rule, 200),
            message(&ignore.reason)
        ));
    }
    notes
}
