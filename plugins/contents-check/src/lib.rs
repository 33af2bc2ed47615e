//! Judges a table of contents: is it short enough to be read, do its anchors differ, do links within the document lead
//! anywhere. What it finds tells the worker how to mend it.

use std::collections::HashSet;

use sandhog_guest::{Failure, Finding, Metric, Severity, Subject, Verdict, invalid_input};
use serde::Deserialize;

sandhog_guest::gate!(check);

#[derive(Deserialize)]
struct Params {
    /// The most entries that a table of contents may have.
    maximum_entries: usize,
}

#[derive(Deserialize)]
struct Document {
    path: String,
    anchors: Vec<String>,
    entries: Vec<Entry>,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Entry {
    level: u8,
    text: String,
    anchor: String,
    line: u32,
}

#[derive(Deserialize)]
struct Link {
    target: String,
    line: u32,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let paths: Vec<&str> = subject.files.iter().map(|file| file.path.as_str()).filter(|path| path.ends_with(".json")).collect();
    if paths.is_empty() {
        return Err(invalid_input("there is no table of contents (a .json file) to judge"));
    }
    let mut findings = Vec::new();
    let mut entries = 0;
    for path in paths {
        let document: Document = serde_json_from(&subject.read_text(path)?)?;
        entries += document.entries.len();
        judge(&document, path, subject.params.maximum_entries, &mut findings);
    }
    let mut verdict = Verdict::from_findings(findings);
    verdict.metrics.push(Metric { name: "entries".into(), value: entries as f64, unit: String::new() });
    Ok(verdict)
}

fn serde_json_from(text: &str) -> Result<Document, Failure> {
    sandhog_guest::Artifact::text("subject", text).as_json()
}

fn judge(document: &Document, path: &str, maximum_entries: usize, findings: &mut Vec<Finding>) {
    let found = document.entries.len();
    let levels: HashSet<u8> = document.entries.iter().map(|entry| entry.level).collect();
    if found > maximum_entries && levels.len() > 1 {
        let message = format!("{found} entries, and at most {maximum_entries} are read");
        findings.push(Finding::new("too-many-entries", Severity::Medium, message).in_file(path).suggest("leave out the deepest level"));
    }
    let mut seen = HashSet::new();
    for entry in &document.entries {
        if !seen.insert(&entry.anchor) {
            let message = format!("two headings have the anchor #{}", entry.anchor);
            findings.push(Finding::new("doubled-anchor", Severity::High, message).at(&document.path, entry.line));
        }
        if entry.text.trim().is_empty() {
            findings.push(Finding::new("empty-heading", Severity::Low, "a heading without text").at(&document.path, entry.line));
        }
    }
    let anchors: HashSet<&str> = document.anchors.iter().map(String::as_str).collect();
    for link in &document.links {
        if let Some(anchor) = link.target.strip_prefix('#')
            && !anchors.contains(anchor)
        {
            let message = format!("no heading has the anchor #{anchor}");
            findings.push(Finding::new("broken-link", Severity::Low, message).at(&document.path, link.line));
        }
    }
}
