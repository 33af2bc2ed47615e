//! Finds errors of syntax in shell scripts, as bash reads them; `#!/bin/sh` scripts are read as POSIX shells read them. The engine is
//! the parser of brush; what it refuses and the grammar of tree-sitter reads (`select`, `case` within `$( )`) is no error.

use brush_parser::{ParseError, Parser, ParserOptions};
use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| {
        let first = text.lines().next().unwrap_or_default();
        let is_sh = first.starts_with("#!") && first.split(['/', ' ']).any(|word| word == "sh" || word == "dash");
        let options = ParserOptions { sh_mode: is_sh, ..ParserOptions::default() };
        let Err(error) = Parser::new(std::io::Cursor::new(text), &options).parse_program() else { return Ok(Vec::new()) };
        if reads(text) {
            return Ok(Vec::new());
        }
        let (message, place) = match error {
            ParseError::ParsingNear(at) => ("this does not read as a command".to_owned(), Some((at.line, at.column))),
            ParseError::ParsingAtEndOfInput => ("the script ends within a command".to_owned(), None),
            ParseError::Tokenizing { inner, position } => (inner.to_string(), position.map(|at| (at.line, at.column))),
        };
        let place = match place {
            Some((line, column)) => (u32::try_from(line).unwrap_or(1).max(1), u32::try_from(column).unwrap_or(1).max(1)),
            None => LineIndex::new(text).place(text.trim_end().len()),
        };
        Ok(vec![Finding::new("syntax", Severity::High, message).spanning(path, place, place)])
    })
}

/// Whether the grammar of tree-sitter reads all of a script.
fn reads(text: &str) -> bool {
    let mut parser = tree_sitter::Parser::new();
    let known = parser.set_language(&tree_sitter_bash::LANGUAGE.into()).is_ok();
    known && parser.parse(text, None).is_some_and(|tree| !tree.root_node().has_error())
}
