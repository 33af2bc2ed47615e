//! Finds errors in YAML 1.2: syntax, aliases of nothing, and names that stand twice in one mapping. The engine is
//! `saphyr-parser`.

use std::collections::HashMap;

use sandhog_guest::{Failure, Finding, Severity, Subject, Verdict};
use saphyr_parser::{Event, Parser, ScanError};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

/// What is being read: a sequence, or a mapping with the keys that it has so far.
enum Open {
    Sequence,
    Mapping { keys: HashMap<String, usize>, key_next: bool },
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| Ok(lint(path, text)))
}

fn lint(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                findings.push(syntax(path, &error));
                break;
            }
        };
        let line = span.start.line();
        // A mapping reads key, value, key, value; whatever a key is, what follows it is its value.
        let is_key = match open.last_mut() {
            Some(Open::Mapping { key_next, .. }) if starts_node(&event) => std::mem::replace(key_next, !*key_next),
            Some(Open::Mapping { .. } | Open::Sequence) | None => false,
        };
        match &event {
            Event::Scalar(text, ..) if is_key && text != "<<" => {
                if let Some(Open::Mapping { keys, .. }) = open.last_mut() {
                    if let Some(first) = keys.get(text.as_ref()) {
                        let message = format!("the key {text:?} stands in line {first} already, and the later one hides it");
                        let start = (line as u32, span.start.col() as u32 + 1);
                        let end = (span.end.line() as u32, span.end.col() as u32 + 1);
                        findings.push(Finding::new("duplicate-key", Severity::High, message).spanning(path, start, end));
                    } else {
                        keys.insert(text.to_string(), line);
                    }
                }
            }
            Event::SequenceStart(..) => open.push(Open::Sequence),
            Event::MappingStart(..) => open.push(Open::Mapping { keys: HashMap::new(), key_next: true }),
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
            }
            _ => {}
        }
    }
    findings
}

/// Whether an event begins a key or a value.
fn starts_node(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_))
}

fn syntax(path: &str, error: &ScanError) -> Finding {
    let place = (u32::try_from(error.marker().line()).unwrap_or(1).max(1), u32::try_from(error.marker().col() + 1).unwrap_or(1));
    Finding::new("syntax", Severity::High, error.info()).spanning(path, place, place)
}
