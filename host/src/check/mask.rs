//! What is found by a gate whose manifest says `masked` is shown in no report: not in the line that is quoted, and not in
//! what another gate says or wrote about the same place.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Raw;
use super::tree::Tree;
use crate::model::{Location, Span};

/// Shorter texts are not hidden: they would be found everywhere.
const BYTES_MIN: usize = 6;
/// How long a part of a secret is that is hidden too, in characters.
const PART_CHARS: usize = 8;
/// How many parts of secrets are told apart; where there are more, nothing is shown at all.
const PARTS_MAX: usize = 1_000_000;

/// The texts that no report shows, each as the parts it is made of.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    parts: BTreeMap<usize, HashSet<Box<[char]>>>,
    /// There are too many to tell them apart.
    everything: bool,
}

impl Secrets {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.everything
    }

    fn add(&mut self, secret: &str) {
        let letters: Vec<char> = secret.chars().collect();
        let width = PART_CHARS.min(letters.len());
        let parts = self.parts.entry(width).or_default();
        for part in letters.windows(width.max(1)) {
            if parts.len() >= PARTS_MAX {
                self.everything = true;
                return;
            }
            parts.insert(part.into());
        }
    }

    /// A text with every secret in it as stars, one for each character; and every part of one that is not short: what is cut,
    /// escaped or shortened is a secret still.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        if self.everything {
            return "*".repeat(text.chars().count());
        }
        let letters: Vec<char> = text.chars().collect();
        let mut hidden = vec![false; letters.len()];
        for (width, parts) in &self.parts {
            for (at, window) in letters.windows(*width).enumerate() {
                if parts.contains(window) {
                    hidden[at..at + width].fill(true);
                }
            }
        }
        letters.into_iter().zip(hidden).map(|(letter, hidden)| if hidden { '*' } else { letter }).collect()
    }
}

/// How many characters of one file are taken as parts of its lines, all places together; of what is beyond, the whole lines are.
const PART_CHARS_MAX: usize = 8 << 20;

/// The texts that the findings of masked gates cover, line by line.
pub(super) fn secrets(raws: &[Raw], tree: &Tree) -> Secrets {
    let mut secrets = Secrets::default();
    let mut by_file: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    let findings = raws.iter().filter(|raw| raw.masked).flat_map(|raw| &raw.findings);
    for Location { path, span } in findings.filter_map(|found| found.finding.location.as_ref()) {
        by_file.entry(path).or_default().extend(*span);
    }
    for (path, spans) in by_file {
        let Ok(content) = tree.snapshot.content(path) else { continue };
        let text = text_of(&content);
        let lines: Vec<&str> = text.lines().collect();
        covered(&lines, &spans).iter().for_each(|secret| secrets.add(secret));
    }
    secrets
}

/// A file's text, as gates read it: UTF-16 by its mark, else UTF-8.
fn text_of(content: &[u8]) -> String {
    let units = |unit: fn([u8; 2]) -> u16| {
        char::decode_utf16(content.as_chunks::<2>().0.iter().skip(1).map(|bytes| unit(*bytes)))
            .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    };
    match content {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => String::from_utf8_lossy(content).into_owned(),
    }
}

/// The lines, or parts of lines, that places cover, each once. A gate may name very many places, which lie one upon the other: a line that
/// is within one is looked at once, and of each place at most the two at its ends.
fn covered(lines: &[&str], spans: &[Span]) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    let mut add = |part: &str| {
        let part = part.trim();
        if part.len() >= BYTES_MIN && !parts.contains(part) {
            parts.insert(part.to_owned());
        }
    };
    let mut letters: BTreeMap<usize, Vec<char>> = BTreeMap::new();
    let mut room = PART_CHARS_MAX;
    // How many more places the line has within than the one before.
    let mut change = vec![0_i64; lines.len() + 1];
    for span in spans {
        let (first, last) = (span.start_line.max(1) as usize - 1, span.end_line.max(span.start_line).max(1) as usize - 1);
        let mut whole = |first: usize, end: usize| {
            let end = end.min(lines.len());
            if first < end {
                change[first] += 1;
                change[end] -= 1;
            }
        };
        // A place without a width is a line: which part of it is meant, nobody said.
        if first == last && span.end_column <= span.start_column {
            whole(first, first + 1);
            continue;
        }
        whole(first + 1, last);
        let from = |line: usize| if line == first { span.start_column.max(1) as usize - 1 } else { 0 };
        let to = |line: usize| if line == last { span.end_column.max(1) as usize - 1 } else { usize::MAX };
        for line in BTreeSet::from([first, last]) {
            let Some(text) = lines.get(line) else { continue };
            let letters = letters.entry(line).or_insert_with(|| text.chars().collect());
            let to = to(line).min(letters.len());
            let part = letters.get(from(line)..to).unwrap_or_default();
            match room.checked_sub(part.len()) {
                Some(left) => {
                    room = left;
                    add(&part.iter().collect::<String>());
                }
                None => whole(line, line + 1),
            }
        }
    }
    let mut within = 0;
    for (line, change) in lines.iter().zip(change) {
        within += change;
        if within > 0 {
            add(line);
        }
    }
    parts
}

/// Hides the secrets in all that a gate said and wrote. A fix that has one in it is not told: it could not be made as it is
/// shown.
pub(super) fn hide(raw: &mut Raw, secrets: &Secrets) {
    let has = |text: &str| secrets.mask(text) != text;
    let clean = |text: &mut String| *text = secrets.mask(text);
    for (part, failure) in &mut raw.failed {
        clean(part);
        clean(&mut failure.message);
    }
    let report = &mut raw.report;
    clean(&mut report.summary);
    for metric in &mut report.metrics {
        clean(&mut metric.name);
        clean(&mut metric.unit);
    }
    for found in &mut raw.findings {
        let finding = &mut found.finding;
        clean(&mut finding.rule);
        clean(&mut finding.message);
        finding.suggestion.iter_mut().for_each(clean);
        finding.help_url.iter_mut().for_each(clean);
        if finding.fix.as_ref().is_some_and(|fix| has(&fix.description) || fix.edits.iter().any(|edit| has(&edit.replacement))) {
            finding.fix = None;
        }
    }
    for unit in &mut report.units {
        clean(&mut unit.name);
        clean(&mut unit.summary);
        if let Err(failure) = &mut unit.outcome {
            clean(&mut failure.message);
        }
        unit.log.lines.iter_mut().for_each(|line| clean(&mut line.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_secrets_nothing_at_all_is_shown() {
        let mut secrets = Secrets::default();
        (0..PARTS_MAX).for_each(|number| secrets.add(&format!("{number:08}")));
        assert_eq!(secrets.mask("harmless"), "harmless");
        secrets.add("one more than are told apart");
        assert_eq!(secrets.mask("harmless"), "********");
    }

    #[test]
    fn what_a_place_covers_is_stars_wherever_it_stands() {
        let text: Vec<&str> = "a = 'tok\u{e9}n-value'\nbegin-key\nmiddle-of-key\nend-key tail\n".lines().collect();
        let span = |start_line, start_column, end_line, end_column| Span { start_line, start_column, end_line, end_column };
        let covers = |span: Span| covered(&text, &[span]).into_iter().collect::<Vec<_>>();
        assert_eq!(covers(span(1, 6, 1, 17)), ["tok\u{e9}n-value"]);
        assert_eq!(covers(span(2, 1, 4, 8)), ["begin-key", "end-key", "middle-of-key"]);
        assert_eq!(covers(span(4, 1, 9, 5)), ["end-key tail"], "beyond the end");
        assert_eq!(covers(span(9, 1, 9, 5)), Vec::<String>::new());
        assert_eq!(covers(span(3, 1, 3, 1)), ["middle-of-key"], "a line without columns is the whole line");
        let mut secrets = Secrets::default();
        covered(&text, &[span(1, 6, 1, 17)]).iter().for_each(|secret| secrets.add(secret));
        assert_eq!(secrets.mask("x tok\u{e9}n-value y"), "x *********** y");
        assert_eq!(secrets.mask("it begins tok\u{e9}n-val..."), "it begins *********...", "a part of it");
        assert_eq!(secrets.mask("a value of 11 characters"), "a value of 11 characters");
        let utf16 = |mark: [u8; 2], unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.into_iter().chain("k=\u{e9}".encode_utf16().flat_map(unit)).collect()
        };
        assert_eq!(text_of(&utf16([0xff, 0xfe], u16::to_le_bytes)), "k=\u{e9}");
        assert_eq!(text_of(&utf16([0xfe, 0xff], u16::to_be_bytes)), "k=\u{e9}");
    }

    /// By looking at each line for each place, or at a long one for each part of it, this would take minutes.
    #[test]
    fn a_great_many_places_are_looked_at_soon() {
        let (wide, many) = ("x y".repeat(1 << 20), vec!["secret-value"; 100_000]);
        let whole = Span { start_line: 1, start_column: 1, end_line: u32::MAX, end_column: 1 };
        assert_eq!(covered(&many, &vec![whole; 100_000]).len(), 1);
        let part = |n: u32| Span { start_line: 1, start_column: n, end_line: 1, end_column: u32::MAX };
        let told = covered(&[&wide], &(1..100_000).map(part).collect::<Vec<_>>());
        assert!(told.contains(wide.trim()) && told.len() < 10, "the whole line, once there is no room for parts of it: {}", told.len());
    }
}
