//! Reads a TOML file with the place of every value, and collects problems instead of stopping at the first.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::finding::Span;
use crate::model::text::{ERROR_BYTES_MAX, blank_controls, did_you_mean, sanitize, sanitize_lines};
use crate::model::{Finding, Location, Severity};

/// The largest file that is read as configuration, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// How many problems of one file are told: more help nobody.
const PROBLEMS_MAX: usize = 50;

/// One thing that is wrong with a file, and where.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    span: Range<usize>,
    source: Arc<NamedSource<String>>,
}

impl Problem {
    /// The problem as a gate would say it, for the worker that wrote the file.
    #[must_use]
    pub fn finding(&self, rule: &str) -> Finding {
        let (line, column) = (self.line as u32, self.column as u32);
        let span = Span { start_line: line, start_column: column, end_line: line, end_column: column };
        Finding {
            rule: rule.to_owned(),
            severity: Severity::High,
            message: self.message.clone(),
            location: Some(Location { path: self.file.clone(), span: Some(span) }),
            suggestion: self.help.clone(),
            help_url: None,
            fix: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::underline(self.span.clone()))))
    }
}

/// Everything that is wrong with a file.
#[derive(Debug, Clone)]
pub struct Problems {
    /// The file.
    pub file: String,
    /// What is wrong with it, in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// These and others of the same file, in its order.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.problems.extend(others.problems);
        self.problems.sort_by_key(|problem| problem.span.start);
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 problem in {}", self.file),
            n => write!(f, "{n} problems in {}", self.file),
        }
    }
}

impl std::error::Error for Problems {}

/// Collects what is wrong with one file.
pub(super) struct Collector {
    file: String,
    text: Arc<NamedSource<String>>,
    problems: Vec<Problem>,
}

impl Collector {
    pub(super) fn new(file: &str, text: &str) -> Self {
        // A stranger's file is quoted in what is said of it, and shall neither steer a terminal nor look like something else.
        let file = sanitize(file, ERROR_BYTES_MAX);
        Self { text: Arc::new(NamedSource::new(&file, blank_controls(text))), file, problems: Vec::new() }
    }

    /// Whether no more problems are told.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// What a word may have been meant to be, while that is told.
    pub(super) fn meant<'a>(&self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        if self.is_full() { None } else { did_you_mean(word, candidates) }
    }

    /// Parses the file, with all of its errors of syntax collected.
    pub(super) fn parse<'i>(&mut self, text: &'i str) -> DeTable<'i> {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.push(error.span().unwrap_or(0..0), error.message(), None);
        }
        table.into_inner()
    }

    /// Where a span begins, as `file:line`, for what is found out later.
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.inner().get(..span.start).unwrap_or_default();
        format!("{}:{}", self.file, before.matches('\n').count() + 1)
    }

    pub(super) fn push(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        if self.is_full() {
            return;
        }
        let text = self.text.inner();
        let start = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let span = start..span.end.clamp(start, text.len());
        self.problems.push(Problem {
            file: self.file.clone(),
            line,
            column,
            message: sanitize_lines(&message.into(), ERROR_BYTES_MAX),
            help: help.map(|help| sanitize_lines(&help, ERROR_BYTES_MAX)),
            span,
            source: Arc::clone(&self.text),
        });
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort_by_key(|problem| problem.span.start);
        Err(Problems { file: self.file, problems: self.problems })
    }

    /// A table whose fields are read one by one; what is left over at the end is unknown.
    pub(super) fn fields<'t, 'i>(&mut self, table: &'t DeTable<'i>, known: &'static [&'static str]) -> Fields<'t, 'i> {
        for (key, _) in table {
            let name: &str = key.get_ref();
            if !known.contains(&name) && !self.is_full() {
                let help = match self.meant(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.push(key.span(), format!("unknown field `{name}`"), Some(help));
            }
        }
        Fields { table }
    }

    /// A value of another type than expected.
    pub(super) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, name: &str, expected: &str) {
        self.push(value.span(), format!("expected `{name}` to be {expected}, found {}", type_name(value.get_ref())), None);
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The fields of one table.
#[derive(Clone, Copy)]
pub(super) struct Fields<'t, 'i> {
    pub(super) table: &'t DeTable<'i>,
}

impl<'t, 'i> Fields<'t, 'i> {
    pub(super) fn get(&self, name: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.table.get(name)
    }

    pub(super) fn string(&self, out: &mut Collector, name: &str) -> Option<(&'t str, Range<usize>)> {
        let value = self.get(name)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            out.wrong_type(value, name, "a string");
        }
        text.map(|text| (text, value.span()))
    }

    pub(super) fn boolean(&self, out: &mut Collector, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            out.wrong_type(value, name, "true or false");
        }
        boolean
    }

    pub(super) fn table(&self, out: &mut Collector, name: &str) -> Option<&'t DeTable<'i>> {
        let value = self.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            out.wrong_type(value, name, "a table");
        }
        table
    }

    pub(super) fn list(&self, out: &mut Collector, name: &str) -> &'t [Spanned<DeValue<'i>>] {
        let Some(value) = self.get(name) else { return &[] };
        match value.get_ref().as_array() {
            Some(list) => list,
            None => {
                out.wrong_type(value, name, "a list");
                &[]
            }
        }
    }

    /// A list of at most so many.
    pub(super) fn short_list(&self, out: &mut Collector, name: &str, most: usize) -> &'t [Spanned<DeValue<'i>>] {
        let list = self.list(out, name);
        if let Some(beyond) = list.get(most) {
            out.push(beyond.span(), format!("`{name}` has {} entries, and may have {most} at most", list.len()), None);
        }
        &list[..list.len().min(most)]
    }

    pub(super) fn strings(&self, out: &mut Collector, name: &str) -> Vec<(&'t str, Range<usize>)> {
        let mut strings = Vec::new();
        for value in self.list(out, name) {
            match value.get_ref().as_str() {
                Some(text) => strings.push((text, value.span())),
                None => out.wrong_type(value, name, "a list of strings"),
            }
        }
        strings
    }

    /// A whole number within bounds.
    pub(super) fn whole(&self, out: &mut Collector, name: &str, bounds: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let value = self.get(name)?;
        let number = value.get_ref().as_integer().and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
        match number.and_then(|n| u32::try_from(n).ok()).filter(|n| bounds.contains(n)) {
            Some(number) => Some(number),
            None => {
                out.push(value.span(), format!("expected `{name}` to be a whole number from {} to {}", bounds.start(), bounds.end()), None);
                None
            }
        }
    }

    /// A number within bounds, whole or not.
    pub(super) fn number(&self, out: &mut Collector, name: &str, bounds: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let value = self.get(name)?;
        let number = match value.get_ref() {
            DeValue::Integer(i) => i.as_str().parse::<f64>().ok(),
            DeValue::Float(f) => f.as_str().parse::<f64>().ok(),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        };
        match number.filter(|number| bounds.contains(number)) {
            Some(number) => Some(number),
            None => {
                out.push(value.span(), format!("expected `{name}` to be a number from {} to {}", bounds.start(), bounds.end()), None);
                None
            }
        }
    }

    /// A value that is written as text, or as a plain number.
    pub(super) fn quantity(&self, out: &mut Collector, name: &str) -> Option<(String, Range<usize>)> {
        let value = self.get(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some((text.to_string(), value.span())),
            DeValue::Integer(i) if i.radix() == 10 => Some((i.as_str().to_owned(), value.span())),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                out.wrong_type(value, name, "a string such as \"10s\" or \"64MiB\", or a whole number");
                None
            }
        }
    }
}

/// How deep params may be nested: well below what reads them back from a record, or in a plugin, may refuse.
const PARAMS_DEPTH_MAX: usize = 64;

/// A TOML value as JSON, as params are handed to plugins. Dates become strings.
fn to_json(out: &mut Collector, value: &Spanned<DeValue<'_>>, depth: usize) -> serde_json::Value {
    if depth > PARAMS_DEPTH_MAX {
        out.push(
            value.span(),
            format!("params are nested {PARAMS_DEPTH_MAX} deep at the most"),
            Some("put what is within into fewer levels".to_owned()),
        );
        return serde_json::Value::Null;
    }
    match value.get_ref() {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(number) => number.into(),
            Err(_) => {
                out.push(value.span(), "this number does not fit 64 bits", None);
                serde_json::Value::Null
            }
        },
        DeValue::Float(f) => match f.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => number.into(),
            None => {
                out.push(value.span(), "JSON has no such number", None);
                serde_json::Value::Null
            }
        },
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Array(list) => list.iter().map(|value| to_json(out, value, depth + 1)).collect(),
        DeValue::Table(table) => serde_json::Value::Object(within(out, table, depth)),
    }
}

/// A table of params as a JSON object.
pub(super) fn to_json_map(out: &mut Collector, table: &DeTable<'_>) -> serde_json::Map<String, serde_json::Value> {
    within(out, table, 0)
}

fn within(out: &mut Collector, table: &DeTable<'_>, depth: usize) -> serde_json::Map<String, serde_json::Value> {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(out, value, depth + 1))).collect()
}
