//! What is found by a gate whose manifest says `masked` is shown in no report: not in the line that is quoted, and not in
//! what another gate says or wrote about the same place.

use std::collections::HashSet;

use super::tree::Tree;
use super::{GateOutcome, GateReport};
use crate::model::Span;

/// Shorter texts are not hidden: they would be found everywhere.
const BYTES_MIN: usize = 6;
/// How long a part of a secret is that is hidden too, in characters.
const PART_CHARS: usize = 8;

/// The texts that the findings of masked gates cover, line by line, the longest first.
pub(super) fn secrets(reports: &[(GateReport, bool)], tree: &Tree) -> Vec<String> {
    let mut secrets = Vec::new();
    for (report, _) in reports.iter().filter(|(_, masked)| *masked) {
        for location in report.findings.iter().filter_map(|found| found.finding.location.as_ref()) {
            let Some(span) = location.span else { continue };
            let Ok(content) = tree.snapshot.content(&location.path) else { continue };
            secrets.extend(covered(&String::from_utf8_lossy(&content), span));
        }
    }
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// The lines, or parts of lines, that a place covers.
fn covered(text: &str, span: Span) -> Vec<String> {
    let (first, last) = (span.start_line.max(1) as usize, span.end_line.max(span.start_line) as usize);
    let lines = text.lines().enumerate().skip(first - 1).take(last + 1 - first);
    // A place without a width is a line: which part of it is meant, nobody said.
    let whole = first == last && span.end_column <= span.start_column;
    let part = |(at, line): (usize, &str)| {
        if whole {
            return line.trim().to_owned();
        }
        let from = if at + 1 == first { span.start_column.max(1) as usize - 1 } else { 0 };
        let to = if at + 1 == last { span.end_column.max(1) as usize - 1 } else { usize::MAX };
        line.chars().skip(from).take(to.saturating_sub(from)).collect::<String>().trim().to_owned()
    };
    lines.map(part).filter(|part| part.len() >= BYTES_MIN).collect()
}

/// A text with every secret in it as stars, one for each character; and every part of one that is not short: what is cut,
/// escaped or shortened is a secret still.
#[must_use]
pub fn mask(text: &str, secrets: &[String]) -> String {
    if secrets.is_empty() {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let mut hidden = vec![false; letters.len()];
    for secret in secrets {
        let secret: Vec<char> = secret.chars().collect();
        let width = PART_CHARS.min(secret.len());
        let parts: HashSet<&[char]> = secret.windows(width).collect();
        for (at, window) in letters.windows(width).enumerate() {
            if parts.contains(window) {
                hidden[at..at + width].fill(true);
            }
        }
    }
    letters.into_iter().zip(hidden).map(|(letter, hidden)| if hidden { '*' } else { letter }).collect()
}

/// Hides the secrets in all that a gate said and wrote. A fix that has one in it is not told: it could not be made as it is
/// shown.
pub(super) fn hide(report: &mut GateReport, secrets: &[String]) {
    let has = |text: &str| mask(text, secrets) != text;
    let clean = |text: &mut String| *text = mask(text, secrets);
    clean(&mut report.summary);
    if let GateOutcome::Failed { part, failure, .. } = &mut report.outcome {
        clean(part);
        clean(&mut failure.message);
    }
    for metric in &mut report.metrics {
        clean(&mut metric.name);
    }
    for found in &mut report.findings {
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
    fn what_a_place_covers_is_stars_wherever_it_stands() {
        let text = "a = 'tok\u{e9}n-value'\nbegin-key\nmiddle-of-key\nend-key tail\n";
        let span = |start_line, start_column, end_line, end_column| Span { start_line, start_column, end_line, end_column };
        assert_eq!(covered(text, span(1, 6, 1, 17)), ["tok\u{e9}n-value"]);
        assert_eq!(covered(text, span(2, 1, 4, 8)), ["begin-key", "middle-of-key", "end-key"]);
        assert_eq!(covered(text, span(9, 1, 9, 5)), Vec::<String>::new());
        assert_eq!(covered(text, span(3, 1, 3, 1)), ["middle-of-key"], "a line without columns is the whole line");
        let secrets = covered(text, span(1, 6, 1, 17));
        assert_eq!(mask("x tok\u{e9}n-value y", &secrets), "x *********** y");
        assert_eq!(mask("it begins tok\u{e9}n-val...", &secrets), "it begins *********...", "a part of it");
        assert_eq!(mask("a value of 11 characters", &secrets), "a value of 11 characters");
    }
}
