//! Finds errors of syntax and of early meaning in JavaScript and TypeScript: what every engine refuses to run, such as a name
//! declared twice or a `break` outside of a loop. The engine is oxc's parser and semantic analysis. Its lint rules are not
//! published as a crate, and types are not checked.

use oxc_allocator::Allocator;
use oxc_diagnostics::{OxcDiagnostic, Severity as OxcSeverity};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    subject.judge_texts(|path, text| {
        let Ok(source_type) = SourceType::from_path(path) else { return Ok(Vec::new()) };
        // A plain `.js` may be a script or a module: it is wrong where it is wrong as both.
        let mut found = lint(path, text, source_type);
        if path.ends_with(".js") && !found.is_empty() {
            let script = lint(path, text, SourceType::cjs());
            if script.len() < found.len() {
                found = script;
            }
        }
        Ok(found)
    })
}

fn lint(path: &str, text: &str, source_type: SourceType) -> Vec<Finding> {
    let allocator = Allocator::default();
    let options = ParseOptions { parse_regular_expression: true, ..ParseOptions::default() };
    let parsed = Parser::new(&allocator, text, source_type).with_options(options).parse();
    if parsed.is_flow_language {
        let said = "it says that it is Flow, which is not read here, and as JavaScript it does not read: nobody has looked at it";
        let help = "exclude it from this gate, or put it right: a comment with @flow is all that makes a file one";
        return vec![Finding::new("flow", Severity::Medium, said).in_file(path).suggest(help)];
    }
    let lines = LineIndex::new(text);
    let mut findings: Vec<Finding> = parsed.diagnostics.iter().map(|error| finding("syntax", error, path, &lines)).collect();
    if !parsed.panicked {
        let semantic = SemanticBuilder::new().with_check_syntax_error(true).build(&parsed.program);
        findings.extend(semantic.diagnostics.iter().map(|error| finding("semantic", error, path, &lines)));
    }
    findings
}

fn finding(kind: &str, error: &OxcDiagnostic, path: &str, lines: &LineIndex<'_>) -> Finding {
    let code = error.code.to_string();
    let severity = match error.severity {
        OxcSeverity::Error => Severity::High,
        OxcSeverity::Warning => Severity::Low,
        OxcSeverity::Advice => Severity::Info,
    };
    let mut finding = Finding::new(if code.is_empty() { kind } else { &code }, severity, error.message.to_string());
    finding = match error.labels.first() {
        Some(label) => {
            let start = label.offset() as usize;
            finding.over(path, lines, start..start + label.len() as usize)
        }
        None => finding.in_file(path),
    };
    if let Some(help) = &error.help {
        finding = finding.suggest(help.to_string());
    }
    if let Some(url) = &error.url {
        finding = finding.help(url.to_string());
    }
    finding
}
