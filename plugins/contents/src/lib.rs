//! Makes a table of contents of one Markdown file, and lists its links for whoever knows the other files.
//!
//! It starts with every heading down to the depth that its params name, and knows nothing of what will be accepted. When a
//! gate sends the result back, it reads the findings: `too-many-entries` makes it leave out the deepest level.

use std::collections::HashMap;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use sandhog_guest::{Artifact, Failure, Task, host};
use serde::{Deserialize, Serialize};

sandhog_guest::worker!(run);

#[derive(Deserialize)]
struct Params {
    /// The deepest level of headings that is listed, from 1 to 6.
    #[serde(default = "deepest")]
    depth: u8,
}

fn deepest() -> u8 {
    6
}

#[derive(Serialize)]
struct Document {
    path: String,
    title: String,
    /// The anchors of all headings, listed or not.
    anchors: Vec<String>,
    entries: Vec<Entry>,
    links: Vec<Link>,
}

#[derive(Serialize, Clone)]
struct Entry {
    level: u8,
    text: String,
    anchor: String,
    line: usize,
}

#[derive(Serialize)]
struct Link {
    target: String,
    line: usize,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let input = task.input()?;
    let text = input.as_text()?;
    let (headings, links) = read(text);
    host::progress(0.5, "read");

    let sent_back = task.feedback.iter().any(|finding| finding.rule == "too-many-entries");
    let deepest_before = task.previous.iter().find(|artifact| artifact.name.ends_with(".json")).and_then(deepest_listed);
    let depth = match (sent_back, deepest_before) {
        (true, Some(before)) => before.saturating_sub(1).max(1),
        _ => task.params.depth,
    };
    let entries: Vec<Entry> = headings.iter().filter(|entry| entry.level <= depth).cloned().collect();
    log::info!("{}: {} headings, {} listed, {} links", input.name, headings.len(), entries.len(), links.len());

    let title = headings.first().map_or_else(|| input.name.clone(), |entry| entry.text.clone());
    let mut contents = format!("# Contents of {title}\n\n");
    let top = entries.iter().map(|entry| entry.level).min().unwrap_or(1);
    for entry in &entries {
        let indent = "  ".repeat(usize::from(entry.level - top));
        contents += &format!("{indent}- [{}]({}#{})\n", entry.text, input.name, entry.anchor);
    }
    let anchors = headings.iter().map(|entry| entry.anchor.clone()).collect();
    let document = Document { path: input.name.clone(), title, anchors, entries, links };
    let stem = input.name.strip_suffix(".md").unwrap_or(&input.name);
    Ok(vec![Artifact::markdown(format!("{stem}.contents.md"), contents), Artifact::json(format!("{stem}.json"), &document)?])
}

/// The deepest level that the result of the round before listed.
fn deepest_listed(artifact: &Artifact) -> Option<u8> {
    #[derive(Deserialize)]
    struct Before {
        entries: Vec<Level>,
    }
    #[derive(Deserialize)]
    struct Level {
        level: u8,
    }
    let before: Before = artifact.as_json().ok()?;
    before.entries.iter().map(|entry| entry.level).max()
}

/// Every heading with its anchor, and every link.
fn read(text: &str) -> (Vec<Entry>, Vec<Link>) {
    let mut line_starts = vec![0];
    line_starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    let line = |at: usize| line_starts.partition_point(|start| *start <= at);
    let mut anchors = Anchors::default();
    let (mut headings, mut links) = (Vec::new(), Vec::new());
    let mut open: Option<(u8, usize, String)> = None;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => open = Some((level as u8, line(range.start), String::new())),
            Event::End(TagEnd::Heading(_)) => {
                if let Some((level, line, text)) = open.take() {
                    let anchor = anchors.take(&text);
                    headings.push(Entry { level, text, anchor, line });
                }
            }
            Event::Start(Tag::Link { dest_url, .. }) => links.push(Link { target: dest_url.to_string(), line: line(range.start) }),
            Event::Text(part) | Event::Code(part) => {
                if let Some((_, _, text)) = &mut open {
                    text.push_str(&part);
                }
            }
            _ => {}
        }
    }
    (headings, links)
}

/// Anchors as GitHub makes them: lower case, spaces to hyphens, punctuation gone, a number behind what is there already.
#[derive(Default)]
struct Anchors(HashMap<String, usize>);

impl Anchors {
    fn take(&mut self, heading: &str) -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect();
        let count = self.0.entry(slug.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
    }
}
