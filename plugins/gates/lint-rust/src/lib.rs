//! Finds errors of syntax in Rust. The engine is `syn`, which parses a file up to its first error; what needs types or macros
//! expanded is the compiler's to say.

use sandhog_guest::{Failure, Finding, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| {
        let Err(error) = syn::parse_file(text) else { return Ok(Vec::new()) };
        let finding = |error: syn::Error| {
            let (start, end) = (error.span().start(), error.span().end());
            let place =
                |at: proc_macro2::LineColumn| (u32::try_from(at.line).unwrap_or(1).max(1), u32::try_from(at.column + 1).unwrap_or(1));
            let message = match &*error.to_string() {
                // What the lexer says, which knows no more.
                "cannot parse string into token stream" | "lex error" => {
                    "this is no token of Rust, or a bracket, a quote or a comment is closed that was not opened, or never closed".to_owned()
                }
                other => other.to_owned(),
            };
            Finding::new("syntax", Severity::High, message).spanning(path, place(start), place(end))
        };
        Ok(error.into_iter().map(finding).collect())
    })
}
