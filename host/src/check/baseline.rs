//! The baseline: findings that were there when a repository began to be checked, so that only new ones count.
//!
//! A finding is known by gate, rule, path and message, not by its line: code moves. Each is counted, so that a second one
//! of the same kind is new. The file is meant to be read and reviewed: sorted, one entry a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Report;
use super::tree::Tree;
use crate::model::text::{ERROR_BYTES_MAX, sanitize_lines};
use crate::model::{Finding, Metric};

/// The name of the file, beside `sandhog.toml`.
pub const FILE_NAME: &str = "sandhog-baseline.json";

/// The version of the file's form.
const FORMAT: u32 = 1;

/// Findings that do not count, and figures that later ones are compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Baseline {
    left: BTreeMap<(String, String, String, String), u32>,
    metrics: BTreeMap<(String, String), (f64, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    plugin: String,
    name: String,
    value: f64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    unit: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    gate: String,
    path: String,
    rule: String,
    message: String,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    count: u32,
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sandhog_baseline: u32,
    findings: Vec<Entry>,
    #[serde(default)]
    metrics: Vec<Figure>,
}

/// Why a baseline does not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON of this form.
    #[error("it does not read as a baseline: {}", sanitize_lines(&.0.to_string(), ERROR_BYTES_MAX))]
    Form(#[from] serde_json::Error),
    /// It was written by a newer version.
    #[error("it is of format {0}, and this version reads format {FORMAT}; upgrade sandhog")]
    TooNew(u32),
}

impl Baseline {
    /// Reads the file's text.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(text: &str) -> Result<Self, Error> {
        let file: File = serde_json::from_str(text)?;
        if file.sandhog_baseline != FORMAT {
            return Err(Error::TooNew(file.sandhog_baseline));
        }
        let mut left = BTreeMap::new();
        for Entry { gate, path, rule, message, count } in file.findings {
            let known: &mut u32 = left.entry((gate, path, rule, message)).or_default();
            *known = known.saturating_add(count);
        }
        let metrics = file.metrics.into_iter().map(|Figure { plugin, name, value, unit }| ((plugin, name), (value, unit))).collect();
        Ok(Self { left, metrics })
    }

    /// What a report found, as a baseline: its findings, and the figures of gates that compare theirs with a baseline. What an
    /// `[[ignore]]` covers is not part of it.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let mut left = BTreeMap::new();
        for (gate, found) in report.findings() {
            // What is said of a figure is over once the figure itself is taken in.
            let is_of_figures = gate.compares && found.is_measured;
            if !is_of_figures && !matches!(found.excused, Some(super::Excused::Ignored(_))) {
                *left.entry(key(&gate.name, &found.finding)).or_default() += 1;
            }
        }
        let mut baseline = Self { left, metrics: BTreeMap::new() };
        for gate in report.gates.iter().filter(|gate| gate.compares) {
            baseline.record(&gate.plugin, &gate.metrics);
        }
        baseline
    }

    /// Keeps what another baseline has of what a report does not tell of: other gates, and files that were not judged and are
    /// still there.
    pub fn keep_others(&mut self, other: Self, report: &Report, tree: &Tree) {
        let judged = |gate: &str, path: &str| {
            let is_judged = || tree.files.binary_search_by(|(name, _)| name.as_str().cmp(path)).is_ok();
            let is_gone = || tree.snapshot.node(path).is_none();
            report.gates.iter().any(|ran| ran.name == gate) && (path.is_empty() || is_judged() || is_gone())
        };
        self.left.extend(other.left.into_iter().filter(|((gate, path, ..), _)| !judged(gate, path)));
        for (figure, value) in other.metrics {
            self.metrics.entry(figure).or_insert(value);
        }
    }

    /// Keeps another baseline's figures of plugins that could not measure all: what crashed today was not forgotten.
    pub fn keep_unmeasured(&mut self, other: Self, report: &Report) {
        let has_unmeasured = |plugin: &str| report.gates.iter().any(|gate| gate.plugin == plugin && !gate.unmeasured.is_empty());
        for (figure, value) in other.metrics.into_iter().filter(|((plugin, _), _)| has_unmeasured(plugin)) {
            self.metrics.entry(figure).or_insert(value);
        }
    }

    /// Takes figures of a plugin in, over what is known of the same ones.
    pub fn record(&mut self, plugin: &str, metrics: &[Metric]) {
        for metric in metrics {
            self.metrics.insert((plugin.to_owned(), metric.name.clone()), (metric.value, metric.unit.clone()));
        }
    }

    /// The figures, by plugin and name: each with its value and unit.
    pub fn metrics(&self) -> impl Iterator<Item = (&str, &str, f64, &str)> {
        self.metrics.iter().map(|((plugin, name), (value, unit))| (plugin.as_str(), name.as_str(), *value, unit.as_str()))
    }

    /// How many findings it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left.values().map(|count| *count as usize).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// How many findings there are of each gate and rule.
    #[must_use]
    pub fn by_rule(&self) -> BTreeMap<(&str, &str), u32> {
        let mut rules = BTreeMap::new();
        for ((gate, _, rule, _), count) in &self.left {
            let known: &mut u32 = rules.entry((gate.as_str(), rule.as_str())).or_default();
            *known = known.saturating_add(*count);
        }
        rules
    }

    /// Takes a finding out, if it is in: whether it is.
    pub(super) fn take(&mut self, gate: &str, finding: &Finding) -> bool {
        match self.left.get_mut(&key(gate, finding)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let entry = |((gate, path, rule, message), count): (&(String, String, String, String), &u32)| {
            let entry = Entry { gate: gate.clone(), path: path.clone(), rule: rule.clone(), message: message.clone(), count: *count };
            format!("    {}", serde_json::to_string(&entry).unwrap_or_default())
        };
        let entries: Vec<String> = self.left.iter().filter(|(_, count)| **count > 0).map(entry).collect();
        let figure = |((plugin, name), (value, unit)): (&(String, String), &(f64, String))| {
            let figure = Figure { plugin: plugin.clone(), name: name.clone(), value: *value, unit: unit.clone() };
            format!("    {}", serde_json::to_string(&figure).unwrap_or_default())
        };
        let figures: Vec<String> = self.metrics.iter().map(figure).collect();
        let body = |lines: Vec<String>| if lines.is_empty() { String::new() } else { format!("\n{}\n  ", lines.join(",\n")) };
        let (findings, metrics) = (body(entries), body(figures));
        format!("{{\n  \"sandhog_baseline\": {FORMAT},\n  \"findings\": [{findings}],\n  \"metrics\": [{metrics}]\n}}\n")
    }
}

fn key(gate: &str, finding: &Finding) -> (String, String, String, String) {
    let path = finding.location.as_ref().map_or("", |location| location.path.as_str());
    (gate.to_owned(), path.to_owned(), finding.rule.clone(), finding.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Location, Severity};

    fn finding(rule: &str) -> Finding {
        Finding {
            rule: rule.into(),
            severity: Severity::Low,
            message: "m \"quoted\"".into(),
            location: Some(Location { path: "a.py".into(), span: None }),
            suggestion: None,
            help_url: None,
            fix: None,
        }
    }

    #[test]
    fn a_second_finding_of_the_same_kind_is_new_and_the_text_reads_back() {
        let left = BTreeMap::from([(key("lint", &finding("E1")), 1), (key("lint", &finding("E2")), 3)]);
        let mut baseline = Baseline { left, ..Baseline::default() };
        baseline.record("perf", &[Metric { name: "sort fuel".into(), value: 12_345.0, unit: String::new() }]);
        assert_eq!(Baseline::read(&baseline.text()).expect("reads"), baseline);
        assert_eq!(Baseline::read(&Baseline::default().text()).expect("reads"), Baseline::default());
        assert!(baseline.take("lint", &finding("E1")));
        assert!(!baseline.take("lint", &finding("E1")), "one was known, this is the second");
        assert!(!baseline.take("other", &finding("E2")));
        assert!(Baseline::read("{\"sandhog_baseline\": 9, \"findings\": []}").is_err());
        assert!(Baseline::read("[]").is_err());
    }
}
