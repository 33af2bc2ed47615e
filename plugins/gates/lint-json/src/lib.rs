//! Finds errors in JSON (RFC 8259): syntax, and names that stand twice in one object. Comments and trailing commas are allowed
//! where tools allow them: in `.jsonc`, and in the configurations of TypeScript and of editors. The engine is `jsonc-parser`.

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
        let parsed = match parse_to_ast(text, &CollectOptions::default(), &options) {
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
