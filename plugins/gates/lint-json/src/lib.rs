//! Finds errors in JSON (RFC 8259): syntax, and names that stand twice in one object. Comments and trailing commas are allowed
//! where tools allow them: in `.jsonc`, and in the configurations of TypeScript and of editors. The engine is `jsonc-parser`.

use std::borrow::Cow;
use std::collections::HashMap;

use jsonc_parser::ast::{ObjectProp, Value};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| {
        let lines = LineIndex::new(text);
        let options = options(path);
        let whole = with_whole_escapes(text);
        let parsed = match parse_to_ast(&whole, &CollectOptions::default(), &options) {
            Ok(parsed) => parsed,
            Err(error) => {
                let range = error.range();
                let message = error.kind().to_string();
                return Ok(vec![Finding::new("syntax", Severity::High, message).over(path, &lines, range.start..range.end)]);
            }
        };
        let Some(value) = parsed.value else {
            return Ok(vec![Finding::new("syntax", Severity::High, "there is no value in it").over(path, &lines, 0..0)]);
        };
        // It lets through what stands between tokens and within strings and may not: serde_json does not.
        let plain = text.trim_start_matches('\u{feff}');
        if !options.allow_comments
            && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(plain)
        {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
            // Of a character within a string it tells the one before.
            let column = error.column() + usize::from(message.starts_with("control character"));
            let place = (u32::try_from(error.line()).unwrap_or(1).max(1), u32::try_from(column).unwrap_or(1).max(1));
            return Ok(vec![Finding::new("syntax", Severity::High, message).spanning(path, place, place)]);
        }
        let mut findings = Vec::new();
        let mut rest = vec![&value]; // not by recursion: the depth is the file's to choose
        while let Some(value) = rest.pop() {
            match value {
                Value::Object(object) => {
                    duplicates(&object.properties, path, &lines, &mut findings);
                    rest.extend(object.properties.iter().map(|property| &property.value));
                }
                Value::Array(array) => rest.extend(&array.elements),
                Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => {}
            }
        }
        Ok(findings)
    })
}

/// A text without the halves of pairs of `\u` escapes that stand alone, each in place of as many letters: RFC 8259, section 8.2, has
/// them, and the engine does not.
fn with_whole_escapes(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6).and_then(|escape| escape.strip_prefix(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut whole, mut at) = (Cow::Borrowed(bytes), 0);
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'\\').map(|next| at + next) {
        at = match unit(next) {
            Some(0xd800..=0xdbff) if matches!(unit(next + 6), Some(0xdc00..=0xdfff)) => next + 12,
            Some(0xd800..=0xdfff) => {
                whole.to_mut()[next..next + 6].copy_from_slice(br"\ufffd");
                next + 6
            }
            Some(_) => next + 6,
            None => bytes.len().min(next + 2),
        };
    }
    match whole {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(whole) => String::from_utf8(whole).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

fn duplicates(properties: &[ObjectProp<'_>], path: &str, lines: &LineIndex<'_>, findings: &mut Vec<Finding>) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for property in properties {
        let name = property.name.as_str();
        if let Some(start) = first.get(name) {
            let line = lines.place(*start).0;
            let message =
                format!("the name {name:?} stands in line {line} already, and which of them counts differs from reader to reader");
            findings.push(Finding::new("duplicate-key", Severity::High, message).over(
                path,
                lines,
                property.range.start..property.range.end,
            ));
        } else {
            first.insert(name, property.range.start);
        }
    }
}

/// How strictly a file is read: as its usual readers do.
fn options(path: &str) -> ParseOptions {
    let name = path.rsplit('/').next().unwrap_or(path);
    let comments = name.ends_with(".jsonc")
        || (name.starts_with("tsconfig") || name.starts_with("jsconfig"))
        || [".eslintrc.json", "devcontainer.json", ".devcontainer.json", "api-extractor.json", "language-configuration.json"]
            .contains(&name)
        || path.split('/').any(|folder| folder == ".vscode");
    ParseOptions {
        allow_comments: comments,
        allow_trailing_commas: comments,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_are_replaced_and_nothing_else() {
        for (text, whole) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\ud83d\ude00 \udc00x""#, r#""\ud83d\ude00 \ufffdx""#),
            (r#""\\ud800 \u00e9 \n""#, r#""\\ud800 \u00e9 \n""#),
            (r#""\ud8"#, r#""\ud8"#),
            ("\"é\\", "\"é\\"),
        ] {
            assert_eq!(with_whole_escapes(text), whole);
        }
    }
}
