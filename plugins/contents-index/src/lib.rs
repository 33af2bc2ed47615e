//! Merges the tables of contents of many documents into one index, and checks what only it can: the links between them.

use std::collections::{BTreeMap, HashSet};

use sandhog_guest::{Artifact, Failure, Task, invalid_input};
use serde::{Deserialize, Serialize};

sandhog_guest::worker!(run);

#[derive(Deserialize)]
struct Document {
    path: String,
    title: String,
    anchors: Vec<String>,
    entries: Vec<Entry>,
    links: Vec<Link>,
}

#[derive(Deserialize, Clone)]
struct Entry {
    level: u8,
    text: String,
    anchor: String,
    line: u32,
}

#[derive(Deserialize, Serialize, Clone)]
struct Link {
    target: String,
    line: u32,
}

/// What the gate reads: one table of contents over all documents, and the links that lead nowhere.
#[derive(Serialize)]
struct Index {
    path: String,
    anchors: Vec<String>,
    entries: Vec<IndexEntry>,
    links: Vec<Link>,
}

#[derive(Serialize)]
struct IndexEntry {
    level: u8,
    text: String,
    anchor: String,
    line: u32,
}

fn run(task: Task) -> Result<Vec<Artifact>, Failure> {
    let mut documents = BTreeMap::new();
    for input in task.inputs.iter().filter(|input| input.name.ends_with(".json")) {
        let document: Document = input.as_json()?;
        documents.insert(document.path.clone(), document);
    }
    if documents.is_empty() {
        return Err(invalid_input("there is no table of contents among the inputs"));
    }
    let mut text = String::from("# Index\n\n");
    let mut broken = String::new();
    let mut entries = Vec::new();
    let mut checked = 0;
    for (path, document) in &documents {
        text += &format!("- [{}]({path})\n", document.title);
        entries.push(IndexEntry { level: 1, text: document.title.clone(), anchor: path.clone(), line: 1 });
        for entry in document.entries.iter().filter(|entry| entry.level == 2) {
            text += &format!("  - [{}]({path}#{})\n", entry.text, entry.anchor);
            entries.push(IndexEntry { level: 2, text: entry.text.clone(), anchor: format!("{path}#{}", entry.anchor), line: entry.line });
        }
        for link in &document.links {
            if let Some(reason) = why_broken(link, path, &documents, &mut checked) {
                broken += &format!("- {path}:{}: `{}`: {reason}\n", link.line, link.target);
            }
        }
    }
    log::info!("{} documents, {checked} links between them checked", documents.len());
    if broken.is_empty() {
        broken.push_str("none\n");
    }
    let report = format!("# Broken links\n\n{checked} links within and between {} documents were checked.\n\n{broken}", documents.len());
    let anchors = entries.iter().map(|entry| entry.anchor.clone()).collect();
    let index = Index { path: "index.md".into(), anchors, entries, links: Vec::new() };
    Ok(vec![Artifact::markdown("index.md", text), Artifact::markdown("broken-links.md", report), Artifact::json("index.json", &index)?])
}

/// Why a link to another of the documents, or within one, leads nowhere. Links to elsewhere are not ours to check.
fn why_broken(link: &Link, from: &str, documents: &BTreeMap<String, Document>, checked: &mut usize) -> Option<String> {
    if link.target.contains("://") || link.target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let path = if file.is_empty() { from.to_owned() } else { resolve(from, file)? };
    if !path.ends_with(".md") {
        return None;
    }
    *checked += 1;
    let Some(document) = documents.get(&path) else { return Some(format!("there is no document {path}")) };
    let anchors: HashSet<&str> = document.anchors.iter().map(String::as_str).collect();
    (!anchor.is_empty() && !anchors.contains(anchor)).then(|| format!("{path} has no heading with the anchor #{anchor}"))
}

/// A path relative to the folder of a document; nothing where it leaves the folder of all documents.
fn resolve(from: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
