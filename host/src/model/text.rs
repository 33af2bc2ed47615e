//! Text from guests, made safe to keep and to show: capped, with control and bidirectional characters escaped.
//!
//! What comes out of here is one line of printable text, so it can neither forge a log line nor steer a terminal.

use std::fmt::Write as _;

/// How much of an error's text is kept, in bytes.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
/// How much of one line of a log is kept, in bytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Characters that change the order in which text is shown (Unicode TR 36, "Trojan Source").
#[must_use]
pub fn is_bidirectional_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// The longest path that people are shown, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// A path as people are shown it: a name that somebody else gave is safe text.
#[must_use]
pub fn shown(path: &std::path::Path) -> String {
    sanitize(&path.display().to_string(), PATH_BYTES_MAX)
}

/// One line of safe text from a guest's text: control characters but tab are escaped (`\n`, `\u{1b}`),
/// and at most `bytes_max` bytes of the result are kept, with a marker where it was cut.
#[must_use]
pub fn sanitize(text: &str, bytes_max: usize) -> String {
    escape(text, bytes_max, false)
}

/// As [`sanitize`], but line feeds stay: for messages of several lines.
#[must_use]
pub fn sanitize_lines(text: &str, bytes_max: usize) -> String {
    escape(text, bytes_max, true)
}

/// Text of several lines, to be shown behind other text: each line but the first begins with a mark, at which it is known whose it is. Blanks
/// alone would not do: programs that look for commands in a log (`::error::`) leave them out.
#[must_use]
pub fn continued(text: &str) -> String {
    text.replace('\n', "\n  | ")
}

/// The same text, as many bytes and characters long, to be shown with places in it marked: what [`sanitize_lines`] escapes stands as one
/// harmless character.
#[must_use]
pub fn blank_controls(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => c,
        '\r' => ' ',
        c if !c.is_control() && !is_bidirectional_control(c) => c,
        c => ['?', '¿', char::REPLACEMENT_CHARACTER][c.len_utf8() - 1],
    };
    text.chars().map(harmless).collect()
}

fn escape(text: &str, bytes_max: usize, keep_line_feeds: bool) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for (at, c) in text.char_indices() {
        if out.len() + c.len_utf8() > bytes_max {
            let _ = write!(out, "… ({} more bytes)", text.len() - at);
            break;
        }
        match c {
            '\t' => out.push(c),
            '\n' if keep_line_feeds => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            // The last two are no characters at all, and no XML has them.
            c if c.is_control() || is_bidirectional_control(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// The longest word that is compared with others, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// The word in `candidates` that is most like `word`, if one is like enough to be what was meant.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing two words takes as long as the product of their lengths, and both may be a stranger's.
    let is_word = |text: &str| text.len() <= WORD_BYTES_MAX;
    candidates
        .into_iter()
        .filter(|candidate| is_word(word) && is_word(candidate))
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A number of things, in words: one is named by the word itself, and others with an `s` behind it.
#[must_use]
pub fn counted(number: impl TryInto<u64>, word: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(sanitize("a\nb\u{1b}[31m\u{202e}c", 100), "a\\nb\\u{1b}[31m\\u{202e}c");
        assert_eq!(sanitize_lines("a\nb\r", 100), "a\nb\\r");
        assert_eq!(sanitize("abcdef", 3), "abc… (3 more bytes)");
    }

    /// Text of any characters, with many of those that are escaped: `any::<String>()` has no control characters at all.
    fn hostile() -> impl Strategy<Value = String> {
        "(?s:.|[\n\r\t\u{1b}\u{202e}|  ]){0,80}"
    }

    proptest! {
        #[test]
        fn blanked_text_is_as_long_as_before_and_has_no_controls(text in hostile()) {
            let blanked = blank_controls(&text);
            prop_assert!(blanked.char_indices().map(|(at, _)| at).eq(text.char_indices().map(|(at, _)| at)) && blanked.len() == text.len());
            prop_assert!(!blanked.chars().any(|c| c.is_control() && !"\n\t".contains(c) || is_bidirectional_control(c)));
        }

        #[test]
        fn every_line_but_the_first_is_marked(text in hostile()) {
            let shown = continued(&text);
            prop_assert!(shown.split('\n').skip(1).all(|line| line.starts_with("  | ")));
            prop_assert_eq!(shown.replace("\n  | ", "\n"), text);
        }

        #[test]
        fn nothing_unprintable_survives(text in hostile(), max in 0_usize..64) {
            let safe = sanitize(&text, max);
            let is_harmless = |c: char| !(c.is_control() || is_bidirectional_control(c) || matches!(c, '\u{fffe}' | '\u{ffff}'));
            prop_assert!(safe.chars().all(|c| c == '\t' || is_harmless(c)));
            prop_assert!(safe.len() <= max + 40);
        }
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("wroker", ["worker", "gates"]), Some("worker"));
        assert_eq!(did_you_mean("zebra", ["worker", "gates"]), None);
        let long = "x".repeat(1 << 20);
        assert_eq!(did_you_mean(&long, [long.as_str(); 1000]), None, "and at once");
    }
}
