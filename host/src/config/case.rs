//! A case of `sandhog test`: what a plugin is given, as its author writes it into `case.toml`.

use std::path::Path;

use serde_json::{Map, Value};

use super::reader::{Collector, Problems, to_json_map};
use super::settings::read_capabilities;
use super::workflow::read_limits;
use crate::model::finding::Span;
use crate::model::outbound::Canned;
use crate::model::{Finding, Grant, LimitsPatch, Location, Severity};

const FIELDS: &[&str] = &["params", "limits", "grant", "feedback", "criteria", "http"];
const HTTP_FIELDS: &[&str] = &["method", "url", "status", "headers", "body"];
/// The methods that plugins may use.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const GRANT_FIELDS: &[&str] = &["files", "environment", "clock", "randomness", "outbound"];
const FEEDBACK_FIELDS: &[&str] = &["rule", "severity", "message", "path", "line", "column"];

/// What a plugin is given beside its inputs. Everything is optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Case {
    /// The params.
    pub params: Map<String, Value>,
    /// Limits, over those of the plugin.
    pub limits: LimitsPatch,
    /// What it may touch: folders of the case in place of those of a machine, variables with the values that stand there.
    pub grant: Grant,
    /// What gates said of the round before; where there is any, this is a revision.
    pub feedback: Vec<Finding>,
    /// What the work will be judged by.
    pub criteria: Vec<String>,
    /// What services answer: nothing else does.
    pub http: Vec<Canned>,
}

/// Reads a case. Folders that it grants are relative to `base`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &str, text: &str, base: &Path) -> Result<Case, Problems> {
    let mut out = Collector::new(file, text);
    let table = out.parse(text);
    let fields = out.fields(&table, FIELDS);
    let mut case = Case::default();
    if let Some(params) = fields.table(&mut out, "params") {
        case.params = to_json_map(&mut out, params);
    }
    case.limits = fields.table(&mut out, "limits").map(|table| read_limits(&mut out, table)).unwrap_or_default();
    case.criteria = fields.strings(&mut out, "criteria").into_iter().map(|(line, _)| line.to_owned()).collect();
    if let Some(table) = fields.table(&mut out, "grant") {
        let fields = out.fields(table, GRANT_FIELDS);
        case.grant = read_capabilities(&mut out, fields, base);
        for (name, value) in fields.table(&mut out, "environment").into_iter().flatten() {
            match value.get_ref().as_str() {
                Some(value) => {
                    case.grant.environment.insert(name.get_ref().to_string(), value.to_owned());
                }
                None => out.wrong_type(value, name.get_ref(), "a string: the value of the variable"),
            }
        }
    }
    for value in fields.list(&mut out, "http") {
        match value.get_ref().as_table() {
            Some(table) => case.http.extend(read_http(&mut out, table, value.span())),
            None => out.wrong_type(value, "http", "a list of tables ([[http]]) such as { url = \"https://example.com/\", body = \"...\" }"),
        }
    }
    for value in fields.list(&mut out, "feedback") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "feedback", "a list of tables ([[feedback]]) such as { rule = \"E1\", message = \"...\" }");
            continue;
        };
        let fields = out.fields(table, FEEDBACK_FIELDS);
        let text = |out: &mut Collector, name| fields.string(out, name).map(|(text, _)| text.to_owned());
        let severity = match fields.string(&mut out, "severity").map(|(word, span)| (word.parse::<Severity>(), span)) {
            Some((Ok(severity), _)) => severity,
            None => Severity::Medium,
            Some((Err(()), span)) => {
                out.push(span, "unknown severity", Some("one of info, low, medium, high, critical".to_owned()));
                Severity::Medium
            }
        };
        let place = |out: &mut Collector, name| fields.whole(out, name, 1..=u32::MAX);
        let (line, column) = (place(&mut out, "line"), place(&mut out, "column").unwrap_or(1));
        let span = line.map(|line| Span { start_line: line, start_column: column, end_line: line, end_column: column });
        case.feedback.push(Finding {
            rule: text(&mut out, "rule").unwrap_or_default(),
            severity,
            message: text(&mut out, "message").unwrap_or_default(),
            location: text(&mut out, "path").map(|path| Location { path, span }),
            suggestion: None,
            help_url: None,
            fix: None,
        });
    }
    out.finish(case)
}

fn read_http(out: &mut Collector, table: &toml::de::DeTable<'_>, place: std::ops::Range<usize>) -> Option<Canned> {
    let fields = out.fields(table, HTTP_FIELDS);
    let method = match fields.string(out, "method") {
        None => "GET",
        Some((word, _)) if METHODS.contains(&word) => word,
        Some((word, span)) => {
            out.push(span, format!("unknown method `{word}`"), Some(format!("one of {}", METHODS.join(", "))));
            "GET"
        }
    };
    let url = match fields.string(out, "url") {
        Some((text, span)) => match url::Url::parse(text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) => Some(url.to_string()),
            Ok(_) => {
                out.push(span, "expected a URL of http or https", None);
                None
            }
            Err(error) => {
                out.push(span, format!("`url`: {error}"), None);
                None
            }
        },
        None => {
            if fields.get("url").is_none() {
                out.push(place, "an answer without its `url`", Some("add url = \"https://example.com/\"".to_owned()));
            }
            None
        }
    };
    let status = fields.whole(out, "status", 200..=599).unwrap_or(200);
    let mut headers = Vec::new();
    for (name, value) in fields.table(out, "headers").into_iter().flatten() {
        let text = value.get_ref().as_str();
        match (name.get_ref().parse::<http::HeaderName>(), text.map(http::HeaderValue::from_str)) {
            (Ok(_), Some(Ok(_))) => headers.push((name.get_ref().to_string(), text.unwrap_or_default().to_owned())),
            (Err(_), _) => out.push(name.span(), "this is not the name of a header", None),
            (Ok(_), Some(Err(_)) | None) => out.wrong_type(value, name.get_ref(), "the text of a header"),
        }
    }
    let body = fields.string(out, "body").map(|(body, _)| body.to_owned()).unwrap_or_default();
    Some(Canned { method: method.to_owned(), url: url?, status: u16::try_from(status).unwrap_or(200), headers, body: body.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_whole_and_what_does_not_fit_is_told() {
        let text = "params = { marks = 3 }\nlimits = { fuel = \"1M\" }\ncriteria = [\"short\"]\n[grant]\nenvironment = { LANG = \"C\" }\n\
                    files = [{ path = \"docs\", at = \"/docs\" }]\n[[feedback]]\nrule = \"E1\"\nmessage = \"no\"\npath = \"a\"\nline = 2\n";
        let case = read("case.toml", text, Path::new("/cases/one")).expect("reads");
        assert_eq!(case.params["marks"], 3);
        assert_eq!(case.grant.environment["LANG"], "C");
        assert_eq!(case.grant.files[0].path, Path::new("/cases/one/docs"));
        assert_eq!((case.feedback[0].rule.as_str(), case.criteria.len()), ("E1", 1));
        let text = "[[http]]\nurl = \"https://example.com\"\nstatus = 404\nheaders = { x-a = \"b\" }\nbody = \"no\"\n";
        let answer = read("case.toml", text, Path::new("/")).expect("reads").http.remove(0);
        assert_eq!((answer.method.as_str(), answer.url.as_str(), answer.status), ("GET", "https://example.com/", 404));
        let text = "[[http]]\nmethod = \"get\"\n[[http]]\nurl = \"file:///x\"\nstatus = 99\nheaders = { \"a b\" = \"c\", d = 1 }\n";
        assert_eq!(read("case.toml", text, Path::new("/")).expect_err("refused").problems.len(), 6);
        let problems = read("case.toml", "param = 1\n[grant]\nenvironment = [\"LANG\"]\n", Path::new("/")).expect_err("refused");
        assert_eq!(problems.problems.len(), 2, "{problems:?}");
    }
}
