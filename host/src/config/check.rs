//! What `sandhog check` reads of `sandhog.toml`: `[check]`, `[[gate]]` and `[[ignore]]`.

use std::collections::BTreeMap;
use std::ops::Range;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use toml::de::DeTable;

use super::manifest::check_name;
use super::reader::{Collector, Fields, to_json_map};
use super::workflow::{read_limits, read_severity};
use crate::model::Severity;
use crate::model::limits::{LimitsPatch, parse_bytes};

const CHECK_FIELDS: &[&str] = &["exclude", "fail_on", "baseline", "file_size"];
const GATE_FIELDS: &[&str] = &["gate", "name", "files", "exclude", "params", "fail_on", "on_error", "limits"];
const IGNORE_FIELDS: &[&str] = &["rule", "gate", "path", "reason", "expires"];

/// The size above which a file is not judged file by file, in bytes, unless the configuration says otherwise.
pub const FILE_BYTES_DEFAULT: u64 = 4 << 20;

/// What a configuration says about checks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckSettings {
    /// Globs of files that nobody judges.
    pub exclude: Vec<String>,
    /// For gates that name no threshold of their own.
    pub fail_on: Option<Severity>,
    /// Where the baseline is, relative to the configuration.
    pub baseline: Option<String>,
    /// Files above this size are not judged file by file, in bytes.
    pub file_bytes_max: Option<u64>,
    /// The gates; none: those that fit.
    pub gates: Vec<GateSettings>,
    /// Findings that do not count.
    pub ignores: Vec<Ignore>,
}

/// One `[[gate]]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GateSettings {
    /// The plugin, or a set of them.
    pub gate: String,
    /// What it is called in reports; unset: as the plugin.
    pub name: Option<String>,
    /// Globs of the files it judges; none: those that its manifest names.
    pub files: Vec<String>,
    /// Globs of files that it does not judge.
    pub exclude: Vec<String>,
    /// A JSON object handed to the gate.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Findings of at least this severity reject. Unset: the gate's own verdict decides.
    pub fail_on: Option<Severity>,
    /// Whether a gate that could not answer lets the check pass.
    pub allow_error: bool,
    /// Limits over the plugin's own.
    pub limits: LimitsPatch,
    /// Where it is written, as `file:line`; none for gates that fit by themselves.
    pub place: Option<String>,
}

/// One `[[ignore]]`: findings that were looked at, and accepted for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Ignore {
    /// The rule.
    pub rule: String,
    /// Only of this gate.
    pub gate: Option<String>,
    /// Only in files of this glob.
    pub path: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it counts.
    pub expires: Option<jiff::civil::Date>,
    /// Where it is written, as `file:line`.
    pub place: String,
}

/// A pattern as configurations write them: `*` stays within a folder, one without `/` means a name in any folder, and what lies
/// below a folder that fits, fits, too. As in `.gitignore`, but for `!`.
///
/// # Errors
/// What is wrong with it.
pub fn glob(pattern: &str) -> Result<[Glob; 2], String> {
    if pattern.starts_with('!') {
        return Err("a pattern with `!` is not understood; `files` names what is judged, and `exclude` what is not".to_owned());
    }
    let plain = pattern.trim_start_matches("./").trim_end_matches('/');
    let anchored = pattern.starts_with("./") || plain.contains('/');
    let plain = plain.trim_start_matches('/');
    let plain = plain.strip_suffix("/**").unwrap_or(plain);
    if plain.is_empty() {
        return Err("it names nothing".to_owned());
    }
    let from = if anchored { plain.to_owned() } else { format!("**/{plain}") };
    let one = |glob: &str| GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| error.kind().to_string());
    Ok([one(&from)?, one(&format!("{from}/**"))?])
}

/// A set of globs that were read before.
#[must_use]
pub fn globs(patterns: &[String]) -> GlobSet {
    all(patterns).unwrap_or_else(|_| GlobSet::empty())
}

fn all(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|pattern| glob(pattern).ok()).flatten() {
        set.add(glob);
    }
    set.build()
}

/// A list of globs, each checked.
pub(super) fn read_globs(out: &mut Collector, fields: Fields<'_, '_>, name: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    for (pattern, span) in fields.strings(out, name) {
        match glob(pattern) {
            Ok(_) => patterns.push(pattern.to_owned()),
            Err(error) => out.push(span, format!("the glob `{pattern}` does not read: {error}"), None),
        }
    }
    if let (Err(error), Some(list)) = (all(&patterns), fields.get(name)) {
        out.push(
            list.span(),
            format!("the globs of `{name}` are too much together: {}", error.kind()),
            Some("write fewer, or shorter ones".to_owned()),
        );
    }
    patterns
}

/// Reads the three of them.
pub(super) fn read(out: &mut Collector, fields: Fields<'_, '_>) -> CheckSettings {
    let mut check = CheckSettings::default();
    if let Some(table) = fields.table(out, "check") {
        let fields = out.fields(table, CHECK_FIELDS);
        check.exclude = read_globs(out, fields, "exclude");
        check.fail_on = threshold(out, fields);
        if let Some((path, span)) = fields.string(out, "baseline") {
            match crate::model::artifact::check_name(path) {
                Ok(()) => check.baseline = Some(path.to_owned()),
                Err(reason) => out.push(span, format!("the baseline must lie beside this file or below it: {reason}"), None),
            }
        }
        if let Some((text, span)) = fields.quantity(out, "file_size") {
            match parse_bytes(&text) {
                Ok(bytes) => check.file_bytes_max = Some(bytes),
                Err(error) => out.push(span, format!("`file_size`: {error}"), None),
            }
        }
    }
    let mut names: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for value in fields.list(out, "gate") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "gate", "tables ([[gate]])");
            continue;
        };
        if let Some(gate) = read_gate(out, table, value.span()) {
            let name = gate.name.clone().unwrap_or_else(|| gate.gate.clone());
            if names.insert(name.clone(), value.span()).is_some() {
                out.push(value.span(), format!("two gates are called `{name}`"), Some("give one of them a `name` of its own".to_owned()));
            }
            check.gates.push(gate);
        }
    }
    for value in fields.list(out, "ignore") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "ignore", "tables ([[ignore]])");
            continue;
        };
        check.ignores.extend(read_ignore(out, table, value.span()));
    }
    check
}

fn threshold(out: &mut Collector, fields: Fields<'_, '_>) -> Option<Severity> {
    let (word, span) = fields.string(out, "fail_on")?;
    read_severity(out, word, span)
}

fn read_gate(out: &mut Collector, table: &DeTable<'_>, span: Range<usize>) -> Option<GateSettings> {
    let fields = out.fields(table, GATE_FIELDS);
    let place = out.place(&span);
    let named = fields.string(out, "gate");
    if let Some((gate, span)) = &named
        && (gate.contains('/') || gate.ends_with(".wasm"))
    {
        // A file that is named here would be neither trusted with its folder nor held to the policy's revision.
        let help = "write plugins = [\"FOLDER\"] for the folder it is in, and name it without .wasm here".to_owned();
        out.push(span.clone(), "a gate is named by its plugin's name, not by a path", Some(help));
    }
    let gate = named.map(|(gate, _)| gate.to_owned());
    if gate.is_none() && fields.get("gate").is_none() {
        out.push(span, "a gate without `gate`", Some("name a plugin, or a set such as gate = \"lint\"".to_owned()));
    }
    let name = match fields.string(out, "name") {
        Some((name, span)) => match check_name(name) {
            Ok(()) => Some(name.to_owned()),
            Err(expected) => {
                out.push(span, format!("the name does not fit: {expected}"), None);
                None
            }
        },
        None => None,
    };
    let allow_error = match fields.string(out, "on_error") {
        None | Some(("fail", _)) => false,
        Some(("allow", _)) => true,
        Some((word, span)) => {
            out.push(span, format!("unknown word `{word}`"), Some("one of fail, allow".to_owned()));
            false
        }
    };
    let params = fields.table(out, "params").map(|table| to_json_map(out, table)).unwrap_or_default();
    let limits = fields.table(out, "limits").map(|table| read_limits(out, table)).unwrap_or_default();
    Some(GateSettings {
        gate: gate?,
        name,
        files: read_globs(out, fields, "files"),
        exclude: read_globs(out, fields, "exclude"),
        params,
        fail_on: threshold(out, fields),
        allow_error,
        limits,
        place: Some(place),
    })
}

fn read_ignore(out: &mut Collector, table: &DeTable<'_>, span: Range<usize>) -> Option<Ignore> {
    let fields = out.fields(table, IGNORE_FIELDS);
    let own = |text: Option<(&str, Range<usize>)>| text.map(|(text, _)| text.to_owned());
    let (rule, reason) = (own(fields.string(out, "rule")), own(fields.string(out, "reason")));
    for (name, help) in [("rule", "the rule as reports show it"), ("reason", "say in one line why these findings do not count")] {
        if fields.get(name).is_none() {
            out.push(span.clone(), format!("an `ignore` without `{name}`"), Some(help.to_owned()));
        }
    }
    if let Some((_, span)) = fields.string(out, "reason").filter(|(text, _)| text.trim().is_empty()) {
        out.push(span, "`reason` is empty", Some("say in one line why these findings do not count".to_owned()));
    }
    let place = out.place(&span);
    let path = match fields.string(out, "path") {
        Some((pattern, span)) => match glob(pattern) {
            Ok(_) => Some(pattern.to_owned()),
            Err(error) => {
                out.push(span, format!("the glob `{pattern}` does not read: {error}"), None);
                None
            }
        },
        None => None,
    };
    let expires = fields.get("expires").and_then(|value| {
        let text = match (value.get_ref().as_datetime(), value.get_ref().as_str()) {
            (Some(date), _) => date.to_string(),
            (None, Some(text)) => text.to_owned(),
            (None, None) => String::new(),
        };
        let date = text.parse::<jiff::civil::Date>();
        if date.is_err() {
            out.push(value.span(), "expected `expires` to be a date such as 2027-01-31", None);
        }
        date.ok()
    });
    Some(Ignore { rule: rule?, gate: own(fields.string(out, "gate")), path, reason: reason?, expires, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_gitignore_has_them_mean() {
        let fits = |pattern: &str, path: &str| globs(&[pattern.to_owned()]).is_match(path);
        for (pattern, path) in [
            ("docs", "docs/a/b.md"),
            ("docs", "x/docs/a.md"),
            ("docs/", "docs/a.md"),
            ("/docs", "docs/a.md"),
            ("./docs/**", "docs/a/b.md"),
            ("docs/**", "docs/a/b.md"),
            ("docs/a", "docs/a/b.md"),
            ("*.md", "docs/a.md"),
            ("**/*.md", "a.md"),
            ("docs/*/b.md", "docs/a/b.md"),
            ("{a,b}/**", "b/c"),
            ("**", "a/b"),
        ] {
            assert!(fits(pattern, path), "{pattern} is for {path}");
        }
        for (pattern, path) in [("/docs", "x/docs/a.md"), ("docs/**", "x/docs/a.md"), ("docs", "docs.md"), ("docs/*.md", "docs/a/b.md")] {
            assert!(!fits(pattern, path), "{pattern} is not for {path}");
        }
        for pattern in ["!*.md", "", "/", "a{b", "./"] {
            assert!(glob(pattern).is_err(), "{pattern:?}");
        }
    }
}
