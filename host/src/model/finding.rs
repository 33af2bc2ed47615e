//! What gates say: findings and verdicts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much a finding matters; the order is that of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are the contract's and explain themselves")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Every severity, in rising order.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word used in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or(())
    }
}

/// A place in a text; lines and columns count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the contract")]
pub struct Span {
    pub start_line: u32,
    pub start_column: u32,
    pub end_line: u32,
    pub end_column: u32,
}

impl Span {
    /// The same, where a column counts from 1 and the end is not before the beginning.
    fn in_order(self) -> Self {
        let (start_line, start_column) = (self.start_line, self.start_column.max(1));
        let (end_line, end_column) = (self.end_line, self.end_column.max(1)).max((start_line, start_column));
        Self { start_line, start_column, end_line, end_column }
    }
}

/// Where a finding is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file, as the subject or the artifact names it.
    pub path: String,
    /// The place in it; absent when the whole file is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// One replacement within a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The first byte that is replaced, counted from 0.
    pub start: u64,
    /// The byte behind the last one that is replaced.
    pub end: u64,
    /// What stands there then.
    pub replacement: String,
}

/// A mend that a program can make: all its edits or none, in the file of the finding's location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// What it does, in a few words.
    pub description: String,
    /// Edits that do not overlap.
    pub edits: Vec<Edit>,
    /// Whether it keeps what the program means.
    pub safe: bool,
}

/// One thing that a gate says about what it judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's stable name.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// A page about the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help_url: Option<String>,
    /// How a program can mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

impl Finding {
    /// What makes two findings of different rounds "the same": rule, path and message, not lines.
    #[must_use]
    pub fn identity(&self) -> (&str, &str, &str) {
        (&self.rule, self.location.as_ref().map_or("", |l| l.path.as_str()), &self.message)
    }

    /// This finding, with its place as the subject has it: `/subject/a.md` and `./a.md` are `a.md`. A place that is none of a
    /// subject (outside of it, or empty) is taken out, and told in the message.
    #[must_use]
    pub fn within_subject(mut self) -> Self {
        let Some(location) = &mut self.location else { return self };
        location.span = location.span.filter(|span| span.start_line > 0).map(Span::in_order);
        let path = location.path.strip_prefix("/subject/").unwrap_or(&location.path);
        let path = path.trim_start_matches("./");
        if !path.is_empty() && path.split('/').all(|part| !["", ".", ".."].contains(&part)) {
            if path.len() != location.path.len() {
                location.path = path.to_owned();
            }
            return self;
        }
        if !location.path.is_empty() {
            self.message = format!("{}: {}", location.path, self.message);
        }
        self.location = None;
        self
    }

    /// What this finding counts towards the `output` limit, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let location = self.location.as_ref().map_or(0, |l| l.path.len());
        let fix =
            self.fix.as_ref().map_or(0, |fix| fix.description.len() + fix.edits.iter().map(|e| e.replacement.len() + 16).sum::<usize>());
        (fix + self.rule.len() + self.message.len() + location + optional(&self.suggestion) + optional(&self.help_url)) as u64
    }
}

/// Whether a gate lets its subject through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "as in the contract")]
pub enum Decision {
    Pass,
    Fail,
}

/// A figure that goes with a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the contract")]
pub struct Metric {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// A gate's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the subject passes, in the gate's own judgement; a threshold may overrule it.
    pub decision: Decision,
    /// What it found.
    pub findings: Vec<Finding>,
    /// Figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// One line for a person.
    pub summary: String,
}

impl Verdict {
    /// What this verdict counts towards the `output` limit, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let metrics = self.metrics.iter().map(|m| (m.name.len() + m.unit.len() + 8) as u64).sum::<u64>();
        self.findings.iter().map(Finding::cost_bytes).sum::<u64>() + metrics + self.summary.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_begins_at_one_and_ends_behind_its_beginning() {
        let span = |[start_line, start_column, end_line, end_column]: [u32; 4]| Span { start_line, start_column, end_line, end_column };
        for (said, is) in
            [([1, 2, 3, 1], [1, 2, 3, 1]), ([5, 4, 2, 9], [5, 4, 5, 4]), ([5, 0, 0, 0], [5, 1, 5, 1]), ([3, 4, 3, 2], [3, 4, 3, 4])]
        {
            assert_eq!(span(said).in_order(), span(is));
        }
    }

    #[test]
    fn a_place_is_within_the_subject_or_none() {
        let at = |path: &str| {
            let location = Some(Location { path: path.to_owned(), span: None });
            let found = Finding {
                rule: "r".to_owned(),
                severity: Severity::Low,
                message: "m".to_owned(),
                location,
                suggestion: None,
                help_url: None,
                fix: None,
            };
            let found = found.within_subject();
            (found.location.map(|location| location.path), found.message)
        };
        for (said, path) in [("a.md", "a.md"), ("/subject/a/b.md", "a/b.md"), ("./a.md", "a.md"), ("a\\b", "a\\b"), ("..a", "..a")] {
            assert_eq!(at(said), (Some(path.to_owned()), "m".to_owned()), "{said}");
        }
        for said in ["/etc/passwd", "../a", "a/../../b", "a//b", "/subject/", "/subject/../x", "/subject//etc/passwd", "a/"] {
            assert_eq!(at(said), (None, format!("{said}: m")), "{said}");
        }
        assert_eq!(at(""), (None, "m".to_owned()));
    }
}
