//! Finds errors in YAML: syntax, aliases of nothing, and names that stand twice in one mapping. The engine is `saphyr-parser`, which is
//! exact about YAML 1.2; what it refuses and libyaml reads, as most programs do, is no error.

use std::collections::{HashMap, HashSet};

use libyaml_safer::EventData;
use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

/// What a file is made of, as far as it is looked at, with its place: line and column, from 1.
enum Part {
    Scalar { text: String, is_plain: bool, start: (u32, u32), end: (u32, u32) },
    Alias,
    SequenceStart,
    MappingStart,
    End,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| Ok(lint(path, text)))
}

fn lint(path: &str, text: &str) -> Vec<Finding> {
    // YAML 1.2, 5.1: what is not printable stands in no stream, and the parsers let some of it through.
    if let Some((at, c)) = text.char_indices().find(|(_, c)| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r')) {
        let message =
            format!("the control character {} may not stand in YAML; in double quotes it can be written as an escape", c.escape_unicode());
        return vec![Finding::new("syntax", Severity::High, message).over(path, &LineIndex::new(text), at..at + 1)];
    }
    let (parts, error) = strict(text);
    let Some(error) = error else { return duplicates(path, parts) };
    match lenient(text) {
        Some(parts) => duplicates(path, parts),
        None => {
            let mut findings = duplicates(path, parts);
            let place = (u32::try_from(error.marker().line()).unwrap_or(1).max(1), u32::try_from(error.marker().col() + 1).unwrap_or(1));
            findings.push(Finding::new("syntax", Severity::High, error.info()).spanning(path, place, place));
            findings
        }
    }
}

/// The parts up to the first error.
fn strict(text: &str) -> (Vec<Part>, Option<ScanError>) {
    let (mut parts, mut anchors) = (Vec::new(), HashSet::new());
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => return (parts, Some(error)),
        };
        // An anchor is of its document.
        match &event {
            Event::DocumentStart(_) => anchors.clear(),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if *anchor > 0 => {
                anchors.insert(*anchor);
            }
            Event::Alias(anchor) if !anchors.contains(anchor) => {
                return (parts, Some(ScanError::new_str(span.start, "the anchor of this alias is in another document")));
            }
            _ => {}
        }
        parts.push(match event {
            Event::Scalar(text, style, ..) => Part::Scalar {
                text: text.into_owned(),
                is_plain: style == ScalarStyle::Plain,
                start: (span.start.line() as u32, span.start.col() as u32 + 1),
                end: (span.end.line() as u32, span.end.col() as u32 + 1),
            },
            Event::Alias(_) => Part::Alias,
            Event::SequenceStart(..) => Part::SequenceStart,
            Event::MappingStart(..) => Part::MappingStart,
            Event::SequenceEnd | Event::MappingEnd => Part::End,
            _ => continue,
        });
    }
    (parts, None)
}

/// The parts, if libyaml reads all of the file, and each alias is of an anchor.
fn lenient(text: &str) -> Option<Vec<Part>> {
    let mut input = text.as_bytes();
    let mut parser = libyaml_safer::Parser::new();
    parser.set_input_string(&mut input);
    let (mut parts, mut anchors) = (Vec::new(), Vec::new());
    loop {
        let event = parser.parse().ok()?;
        let place = |mark: libyaml_safer::Mark| (mark.line as u32 + 1, mark.column as u32 + 1);
        if let EventData::DocumentStart { .. } = &event.data {
            anchors.clear();
        }
        if let EventData::Scalar { anchor, .. } | EventData::SequenceStart { anchor, .. } | EventData::MappingStart { anchor, .. } =
            &event.data
        {
            anchors.extend(anchor.clone());
        }
        parts.push(match event.data {
            EventData::Scalar { value, plain_implicit, style, .. } => Part::Scalar {
                text: value,
                is_plain: plain_implicit && style == libyaml_safer::ScalarStyle::Plain,
                start: place(event.start_mark),
                end: place(event.end_mark),
            },
            EventData::Alias { anchor } => anchors.contains(&anchor).then_some(Part::Alias)?,
            EventData::SequenceStart { .. } => Part::SequenceStart,
            EventData::MappingStart { .. } => Part::MappingStart,
            EventData::SequenceEnd | EventData::MappingEnd => Part::End,
            EventData::StreamEnd => return Some(parts),
            _ => continue,
        });
    }
}

/// What is being read: a sequence, or a mapping with the keys that it has so far.
enum Open {
    Sequence,
    Mapping { keys: HashMap<(bool, String), u32>, key_next: bool },
}

/// Whether a scalar without quotes is a null, a boolean or a number: YAML 1.2, 10.3.2.
fn is_no_string(text: &str) -> bool {
    let is_number = || {
        let digits = text.trim_start_matches(['-', '+']);
        digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
            && (text.parse::<f64>().is_ok()
                || digits.starts_with("0x")
                || digits.starts_with("0o")
                || matches!(&*digits.to_lowercase(), ".inf" | ".nan"))
    };
    matches!(&*text.to_lowercase(), "" | "~" | "null" | "true" | "false") || is_number()
}

fn duplicates(path: &str, parts: Vec<Part>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for part in parts {
        // A mapping reads key, value, key, value; whatever a key is, what follows it is its value.
        let is_key = match open.last_mut() {
            Some(Open::Mapping { key_next, .. }) if !matches!(part, Part::End) => std::mem::replace(key_next, !*key_next),
            Some(Open::Mapping { .. } | Open::Sequence) | None => false,
        };
        match part {
            Part::Scalar { text, is_plain, start, end } if is_key && text != "<<" => {
                if let Some(Open::Mapping { keys, .. }) = open.last_mut() {
                    // `1` and `"1"` are two keys.
                    let key = (is_plain && is_no_string(&text), text);
                    if let Some(first) = keys.get(&key) {
                        let message = format!("the key {:?} stands in line {first} already, and the later one hides it", key.1);
                        findings.push(Finding::new("duplicate-key", Severity::High, message).spanning(path, start, end));
                    } else {
                        keys.insert(key, start.0);
                    }
                }
            }
            Part::SequenceStart => open.push(Open::Sequence),
            Part::MappingStart => open.push(Open::Mapping { keys: HashMap::new(), key_next: true }),
            Part::End => drop(open.pop()),
            Part::Scalar { .. } | Part::Alias => {}
        }
    }
    findings
}
