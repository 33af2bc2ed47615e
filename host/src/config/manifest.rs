//! A plugin's manifest: what `NAME.toml` beside `NAME.wasm` says, or the component's own metadata.

use std::collections::BTreeMap;

use super::check::read_globs;
use super::reader::{Collector, Problems};
use super::workflow::read_limits;
use crate::model::capability::REUSE_MAX;
use crate::model::{Access, LimitsPatch, Origin, Request};
use crate::runtime::{Command, CommandFindings, CommandPass, CommandProtocol};

/// How long a reason may be that a plugin gives, in bytes.
const WHY_BYTES_MAX: usize = 400;
const FIELDS: &[&str] = &[
    "name",
    "version",
    "description",
    "authors",
    "license",
    "source",
    "params",
    "limits",
    "requests",
    "command",
    "scope",
    "files",
    "interpreters",
    "set",
    "automatic",
    "security",
    "masked",
    "provides",
    "data",
];
const REQUEST_FIELDS: &[&str] = &["files", "environment", "clock", "randomness", "reuse", "outbound"];

/// What is said about a plugin. Everything is optional.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The plugin's name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it does, in a line.
    pub description: Option<String>,
    /// Who made it, each as `Name <mail>`, say.
    pub authors: Vec<String>,
    /// Under which terms it may be used, as an SPDX expression.
    pub license: Option<String>,
    /// Where its source is, as a URL.
    pub source: Option<String>,
    /// The file with the JSON schema of its params, for `sandhog pack`, which embeds it.
    pub params: Option<String>,
    /// Limits that it should run with by default.
    pub limits: LimitsPatch,
    /// What it asks for; absent when there is no such section, so that the grant alone decides.
    pub requests: Option<Vec<Request>>,
    /// How a command is read when it serves as a gate.
    pub command: Command,
    /// `file`, `unit` or `tree`.
    pub scope: Option<String>,
    /// Globs of the files that a gate is for.
    pub files: Vec<String>,
    /// Interpreters that a script without an ending may name in its first line (`#!`) for the gate to judge it, too: `bash`.
    pub interpreters: Vec<String>,
    /// The set that a gate belongs to, such as `lint`.
    pub set: Option<String>,
    /// Whether a gate judges by itself where its files are; else only where a configuration or the command line names it.
    pub automatic: bool,
    /// The data that a gate may be given by the operator, by its names.
    pub data: BTreeMap<String, DataRequest>,
    /// Whether what a gate finds is about security, so that services show it as such.
    pub security: bool,
    /// Whether what its findings' places cover is shown in no report.
    pub masked: bool,
    /// The name of another plugin whose work it does as well.
    pub provides: Option<String>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            name: None,
            version: None,
            description: None,
            authors: Vec::new(),
            license: None,
            source: None,
            params: None,
            limits: LimitsPatch::default(),
            requests: None,
            command: Command::default(),
            scope: None,
            files: Vec::new(),
            interpreters: Vec::new(),
            set: None,
            automatic: true,
            data: BTreeMap::new(),
            security: false,
            masked: false,
            provides: None,
        }
    }
}

impl Manifest {
    /// This manifest, which somebody wrote beside a component, with what it does not say as the component itself says it.
    #[must_use]
    pub fn over(self, inside: Self, says: impl Fn(&str) -> bool) -> Self {
        fn pick<T>(says: bool, beside: T, inside: T) -> T {
            if says { beside } else { inside }
        }
        Self {
            name: pick(says("name"), self.name, inside.name),
            version: pick(says("version"), self.version, inside.version),
            description: pick(says("description"), self.description, inside.description),
            authors: pick(says("authors"), self.authors, inside.authors),
            license: pick(says("license"), self.license, inside.license),
            source: pick(says("source"), self.source, inside.source),
            params: pick(says("params"), self.params, inside.params),
            limits: pick(says("limits"), self.limits, inside.limits),
            requests: pick(says("requests"), self.requests, inside.requests),
            command: pick(says("command"), self.command, inside.command),
            scope: pick(says("scope"), self.scope, inside.scope),
            files: pick(says("files"), self.files, inside.files),
            interpreters: pick(says("interpreters"), self.interpreters, inside.interpreters),
            set: pick(says("set"), self.set, inside.set),
            automatic: pick(says("automatic"), self.automatic, inside.automatic),
            data: pick(says("data"), self.data, inside.data),
            security: pick(says("security"), self.security, inside.security),
            masked: pick(says("masked"), self.masked, inside.masked),
            provides: pick(says("provides"), self.provides, inside.provides),
        }
    }
}

/// Data that a gate may be given by the operator, at `/data/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRequest {
    /// What it is for, in a line.
    pub why: String,
    /// Whether the gate cannot judge without it.
    pub required: bool,
}

/// The data that is the baseline of a check: where one counts, it is given to every gate that asks for it.
pub const DATA_BASELINE: &str = "baseline";

/// Data that the host itself gives: `/data/today/date` is the day, such as `2027-01-31`, in UTC.
pub const DATA_TODAY: &str = "today";

/// Reads a manifest.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &str, text: &str) -> Result<Manifest, Problems> {
    let mut out = Collector::new(file, text);
    let table = out.parse(text);
    let fields = out.fields(&table, FIELDS);
    let mut manifest = Manifest::default();
    let own = |text: (&str, std::ops::Range<usize>)| text.0.to_owned();
    if let Some((name, span)) = fields.string(&mut out, "name") {
        match check_name(name) {
            Ok(()) => manifest.name = Some(name.to_owned()),
            Err(expected) => out.push(span, format!("the name does not fit: {expected}"), None),
        }
    }
    manifest.version = fields.string(&mut out, "version").map(own);
    manifest.description = fields.string(&mut out, "description").map(own);
    manifest.authors = fields.strings(&mut out, "authors").into_iter().map(|(name, _)| name.to_owned()).collect();
    manifest.license = fields.string(&mut out, "license").map(own);
    manifest.source = fields.string(&mut out, "source").map(own);
    manifest.params = fields.string(&mut out, "params").map(own);
    manifest.limits = fields.table(&mut out, "limits").map(|table| read_limits(&mut out, table)).unwrap_or_default();
    if let Some((name, span)) = fields.string(&mut out, "provides") {
        match check_name(name) {
            Ok(()) => manifest.provides = Some(name.to_owned()),
            Err(expected) => out.push(span, format!("the name in `provides` does not fit: {expected}"), None),
        }
    }
    manifest.files = read_globs(&mut out, fields, "files");
    manifest.interpreters = fields.strings(&mut out, "interpreters").into_iter().map(|(name, _)| name.to_owned()).collect();
    if let Some((set, span)) = fields.string(&mut out, "set") {
        match check_name(set) {
            Ok(()) => manifest.set = Some(set.to_owned()),
            Err(expected) => out.push(span, format!("the name in `set` does not fit: {expected}"), None),
        }
    }
    manifest.automatic = fields.boolean(&mut out, "automatic").unwrap_or(true);
    if let Some(table) = fields.table(&mut out, "data") {
        for (name, value) in table {
            if let Err(expected) = check_name(name.get_ref()) {
                out.push(name.span(), format!("the name of the data does not fit: {expected}"), None);
            }
            let request = match (value.get_ref().as_str(), value.get_ref().as_table()) {
                (Some(why), _) => DataRequest { why: why.to_owned(), required: false },
                (None, Some(table)) => {
                    let fields = out.fields(table, &["why", "required"]);
                    let why = why(&mut out, fields, value.span());
                    DataRequest { why, required: fields.boolean(&mut out, "required").unwrap_or(false) }
                }
                (None, None) => {
                    out.wrong_type(value, name.get_ref(), "a line that says why, or { why = \"...\", required = true }");
                    continue;
                }
            };
            manifest.data.insert(name.get_ref().to_string(), request);
        }
    }
    manifest.masked = fields.boolean(&mut out, "masked").unwrap_or(false);
    manifest.security = fields.boolean(&mut out, "security").unwrap_or(false);
    if let Some((scope, span)) = fields.string(&mut out, "scope") {
        if ["file", "unit", "tree"].contains(&scope) {
            manifest.scope = Some(scope.to_owned());
        } else {
            out.push(span, format!("unknown scope `{scope}`"), Some("one of file, unit, tree".to_owned()));
        }
    }
    if let Some(table) = fields.table(&mut out, "command") {
        let command = out.fields(table, &["protocol", "args", "pass", "findings"]);
        manifest.command.args = command.strings(&mut out, "args").into_iter().map(|(argument, _)| argument.to_owned()).collect();
        manifest.command.protocol = match command.string(&mut out, "protocol") {
            Some(("streams", _)) | None => CommandProtocol::Streams,
            Some(("jsonl", _)) => CommandProtocol::Jsonl,
            Some((word, span)) => {
                out.push(span, format!("unknown word `{word}`"), Some("one of streams, jsonl".to_owned()));
                CommandProtocol::Streams
            }
        };
        for field in ["pass", "findings"] {
            if let Some(value) = command.get(field).filter(|_| manifest.command.protocol == CommandProtocol::Jsonl) {
                let help = "an answer in a line of JSON has its verdict and its findings: take it out".to_owned();
                out.push(value.span(), format!("`{field}` says nothing where `protocol` is \"jsonl\""), Some(help));
            }
        }
        manifest.command.pass = match command.string(&mut out, "pass") {
            Some(("success", _)) | None => CommandPass::Success,
            Some(("failure", _)) => CommandPass::Failure,
            Some((word, span)) => {
                out.push(span, format!("unknown word `{word}`"), Some("one of success, failure".to_owned()));
                CommandPass::Success
            }
        };
        manifest.command.findings = match command.string(&mut out, "findings") {
            Some(("lines", _)) | None => CommandFindings::Lines,
            Some(("jsonl", _)) => CommandFindings::Jsonl,
            Some(("sarif", _)) => CommandFindings::Sarif,
            Some(("none", _)) => CommandFindings::None,
            Some((word, span)) => {
                out.push(span, format!("unknown word `{word}`"), Some("one of lines, jsonl, sarif, none".to_owned()));
                CommandFindings::None
            }
        };
    }
    if let Some(table) = fields.table(&mut out, "requests") {
        manifest.requests = Some(read_requests(&mut out, table));
    }
    out.finish(manifest)
}

fn read_requests(out: &mut Collector, table: &toml::de::DeTable<'_>) -> Vec<Request> {
    let fields = out.fields(table, REQUEST_FIELDS);
    let mut requests = Vec::new();
    for value in fields.list(out, "files") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "files", "a list of tables such as { at = \"/docs\", access = \"read\", why = \"...\" }");
            continue;
        };
        let file = out.fields(table, &["at", "access", "why"]);
        let at = file.string(out, "at").map(|(at, span)| (at.to_owned(), span));
        let access = read_access(out, file);
        let why = why(out, file, value.span());
        match at {
            Some((at, span)) => match check_guest_path(&at) {
                Ok(()) => requests.push(Request::Files { at, access, why }),
                Err(expected) => out.push(span, expected, None),
            },
            None => out.push(value.span(), "a request for files without `at`", Some("add at = \"/docs\"".to_owned())),
        }
    }
    for value in fields.list(out, "environment") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "environment", "a list of tables such as { name = \"LANG\", why = \"...\" }");
            continue;
        };
        let variable = out.fields(table, &["name", "why"]);
        let why = why(out, variable, value.span());
        match variable.string(out, "name") {
            Some((name, span)) => match check_variable(name) {
                Ok(()) => requests.push(Request::Environment { name: name.to_owned(), why }),
                Err(expected) => out.push(span, expected, None),
            },
            None => out.push(value.span(), "a request for a variable without `name`", None),
        }
    }
    if let Some((why, _)) = fields.string(out, "clock") {
        requests.push(Request::Clock { why: crate::model::text::sanitize(why, WHY_BYTES_MAX) });
    }
    if let Some((why, _)) = fields.string(out, "randomness") {
        requests.push(Request::Randomness { why: crate::model::text::sanitize(why, WHY_BYTES_MAX) });
    }
    if let (Some(table), Some(value)) = (fields.table(out, "reuse"), fields.get("reuse")) {
        let reuse = out.fields(table, &["uses", "why"]);
        let why = why(out, reuse, value.span());
        match reuse.whole(out, "uses", 2..=REUSE_MAX) {
            Some(uses) => requests.push(Request::Reuse { uses, why }),
            None if reuse.get("uses").is_none() => {
                out.push(
                    value.span(),
                    "a request for reuse without `uses`",
                    Some("how many tasks one instance may do: uses = 100".to_owned()),
                );
            }
            None => {}
        }
    }
    for value in fields.list(out, "outbound") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "outbound", "a list of tables such as { origin = \"https://api.example.com\", why = \"...\" }");
            continue;
        };
        let outbound = out.fields(table, &["origin", "why"]);
        let why = why(out, outbound, value.span());
        match outbound.string(out, "origin") {
            Some((origin, span)) => match origin.parse::<Origin>() {
                Err(error) if origin != "*" => {
                    out.push(span, error.to_string(), Some("or \"*\" for whichever the operator names".to_owned()))
                }
                Ok(_) | Err(_) => requests.push(Request::Outbound { origin: origin.to_owned(), why }),
            },
            None => out.push(value.span(), "a request for HTTP without `origin`", None),
        }
    }
    requests
}

fn why(out: &mut Collector, fields: super::reader::Fields<'_, '_>, span: std::ops::Range<usize>) -> String {
    match fields.string(out, "why") {
        Some((why, _)) => crate::model::text::sanitize(why, WHY_BYTES_MAX),
        None => {
            if fields.get("why").is_none() {
                out.push(span, "a request without `why`", Some("say in one line what it is needed for".to_owned()));
            }
            String::new()
        }
    }
}

pub(super) fn read_access(out: &mut Collector, fields: super::reader::Fields<'_, '_>) -> Access {
    match fields.string(out, "access") {
        Some(("read", _)) | None => Access::Read,
        Some(("read-write", _)) => Access::ReadWrite,
        Some((word, span)) => {
            out.push(span, format!("unknown access `{word}`"), Some("one of read, read-write".to_owned()));
            Access::Read
        }
    }
}

/// Where a guest may see a directory: an absolute path that is not the root, and not where subjects are.
pub(crate) fn check_guest_path(at: &str) -> Result<(), String> {
    let parts: Vec<&str> = at.strip_prefix('/').unwrap_or_default().split('/').collect();
    let plain = parts
        .iter()
        .all(|part| !part.is_empty() && *part != "." && *part != ".." && !part.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')));
    match at {
        _ if !plain => {
            Err(format!("expected an absolute path such as /docs for the guest, found `{}`", crate::model::text::sanitize(at, 80)))
        }
        "/subject" => Err("`/subject` is where gates find what they judge".to_owned()),
        "/data" => Err("`/data` is where gates find the data that they are given".to_owned()),
        _ => Ok(()),
    }
}

/// What an environment variable is called (POSIX: letters, digits and underscores, no digit in front).
pub(super) fn check_variable(name: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 200 || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("expected the name of an environment variable, such as LANG");
    }
    Ok(())
}

/// What a plugin may be called.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with(['-', '.']) {
        return Err("1 to 64 of a-z, A-Z, 0-9, -, _ and ., not - or . in front");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_count_for_nothing_is_refused() {
        let problems = |text: &str| read("plugin.toml", text).map_or_else(|told| told.problems[0].to_string(), |_| String::new());
        assert_eq!(problems("[command]\nprotocol = \"jsonl\"\nargs = [\"--loud\"]\n"), "");
        assert_eq!(problems("[command]\nprotocol = \"streams\"\npass = \"failure\"\nfindings = \"none\"\n"), "");
        for field in ["pass = \"failure\"", "findings = \"sarif\""] {
            let told = problems(&format!("[command]\nprotocol = \"jsonl\"\n{field}\n"));
            assert!(told.contains("says nothing where `protocol` is \"jsonl\""), "{told}");
        }
    }
}
