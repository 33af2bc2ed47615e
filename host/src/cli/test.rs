//! `sandhog test`: the cases of a plugin's author, each in the real sandbox, and what every plugin should bear.
//!
//! A case is a folder: `case.toml` says what the plugin is given beside its inputs, `inputs/` holds those of a worker, `subject/` what a
//! gate judges, `previous/` what was sent back. What came of it is kept in `expected.txt`, and a worker's artifacts in `expected/`: written
//! by `--update`, read and reviewed by the author, compared ever after.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::context::{Common, read_text};
use super::exit::{Error, Exit};
use super::output::{line_changes, replace_beside};
use crate::config::case::{self, Case};
use crate::config::manifest;
use crate::judge::Judge;
use crate::model::limits::{LimitsPatch, show_bytes, show_fuel};
use crate::model::text::{counted, sanitize};
use crate::model::{Artifact, Attempt, Decision, Failure, FailureKind, Grant, Limits, Log, Receipt, Subject, Task, Verdict, artifact};
use crate::prepare::media_type;
use crate::registry::{Entry, Registry, intake};
use crate::report::SCHEMA_VERSION;
use crate::runtime::{Call, Kind, Plugin, Runtime};

/// The largest file of a case that is read, in bytes: as much as a task may be handed at the most.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// What is written into a case by `--update`.
const EXPECTED: &str = "expected.txt";
/// The name of a case's file.
const CASE: &str = "case.toml";

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A case is a folder in cases/: case.toml (params, limits, grant, http, feedback; all optional), and inputs/ for a worker or\n\
                  subject/ for a gate. What comes of it stands in expected.txt and expected/, which --update writes: review and commit it.\n\n\
                  Examples:\n  sandhog test\n  sandhog test --update\n  sandhog test shout.wasm --conformance"
)]
pub struct TestArguments {
    /// The plugin: a path to a component, or its name in the plugin folders [default: NAME.wasm, by the plugin.toml here]
    plugin: Option<String>,
    /// The folder with the cases
    #[arg(long, value_name = "FOLDER", default_value = "cases")]
    cases: PathBuf,
    /// Only cases whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Write what comes of each case as what is expected of it
    #[arg(long, conflicts_with = "conformance")]
    update: bool,
    /// Try the conditions that every plugin should bear: hardly any fuel or memory, cancelled at once, empty, huge and odd inputs
    #[arg(long)]
    conformance: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How one case or condition ended.
struct Told {
    name: String,
    /// What is wrong; nothing when it passed.
    problems: Vec<String>,
    receipt: Receipt,
    /// Whether what is expected was written anew.
    is_new: bool,
}

/// What came back.
enum Answer {
    Artifacts(Vec<Artifact>),
    Verdict(Verdict),
}

/// What a plugin is given.
#[derive(Clone)]
struct Given {
    is_gate: bool,
    files: Vec<Artifact>,
    previous: Vec<Artifact>,
    case: Case,
}

/// A plugin in the sandbox.
struct Bench {
    registry: Arc<Registry>,
    runtime: Runtime,
    judge: Judge,
    entry: Arc<Entry>,
    plugin: Arc<Plugin>,
}

/// Tests.
pub fn test(common: &Common, arguments: &TestArguments) -> Result<Exit, Error> {
    let context = common.open(Some(1))?;
    let plugin = match &arguments.plugin {
        Some(plugin) => plugin.clone(),
        None => own_plugin()?,
    };
    let entry = context.registry.find(&plugin)?;
    let judge = Judge::new(context.runtime.clone(), Arc::clone(&context.registry), 1, None);
    let plugin = Arc::new(context.registry.code(&entry)?.with_command(entry.manifest.command.clone()).with_name(&entry.name));
    let bench = Bench { registry: context.registry, runtime: context.runtime, judge, entry, plugin };
    let folders = cases(&arguments.cases, &arguments.only)?;
    let mut all = Vec::new();
    if arguments.conformance {
        all = bench.conformance(&folders)?;
    } else if folders.is_empty() {
        let help = "a case is a folder in it with inputs/ or subject/: `sandhog test --help`";
        let which = if arguments.only.is_empty() { String::new() } else { format!(" whose name contains {}", arguments.only.join(" or ")) };
        return Err(Error::usage(format!("{}: there is no case{which}", arguments.cases.display())).help(help));
    } else {
        for (name, folder) in folders {
            all.push(bench.case(name, &folder, arguments.update)?);
        }
    }
    tell(&bench.entry, &all, arguments.json);
    Ok(if all.iter().all(|told| told.problems.is_empty()) { Exit::Passed } else { Exit::Failed })
}

/// The plugin of the folder that this is.
fn own_plugin() -> Result<String, Error> {
    let file = Path::new("plugin.toml");
    if !file.is_file() {
        return Err(Error::usage("no plugin is named, and there is no plugin.toml here").help("sandhog test NAME.wasm"));
    }
    let name = manifest::read("plugin.toml", &read_text(file)?)?.name;
    let name = name.ok_or_else(|| Error::usage("plugin.toml says no `name`").help("or name the plugin: sandhog test NAME.wasm"))?;
    let component = format!("./{name}.wasm");
    if Path::new(&component).is_file() {
        Ok(component)
    } else {
        Err(Error::usage(format!("{name}.wasm is not there: build it first")).help("the README of the plugin says how"))
    }
}

/// The cases of a folder, sorted by name.
fn cases(folder: &Path, only: &[String]) -> Result<Vec<(String, PathBuf)>, Error> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| Error::usage(format!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && (only.is_empty() || only.iter().any(|part| name.contains(part))) {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// What a case gives.
fn read(folder: &Path, bench: &Bench) -> Result<Given, Error> {
    let file = folder.join(CASE);
    let case = if file.exists() {
        let base = std::path::absolute(folder).map_err(|error| Error::usage(format!("{}: {error}", folder.display())))?;
        let case = case::read(&file.display().to_string(), &read_text(&file)?, &base)?;
        // A plugin's author writes its cases: they name no folder of whoever runs them.
        let cases = base.parent().unwrap_or(&base).canonicalize().ok();
        let is_inside = |path: &Path| cases.as_ref().is_some_and(|cases| path.canonicalize().is_ok_and(|path| path.starts_with(cases)));
        if let Some(outside) = case.grant.files.iter().find(|granted| granted.path.exists() && !is_inside(&granted.path)) {
            let message = format!("{}: {} is not in the folder of the cases", file.display(), outside.path.display());
            return Err(Error::usage(message).help("a case is granted folders of the cases alone"));
        }
        case
    } else {
        Case::default()
    };
    let (inputs, subject) = (folder.join("inputs"), folder.join("subject"));
    let is_gate =
        match (inputs.is_dir(), subject.is_dir(), bench.entry.kind) {
            (true, true, _) => {
                return Err(Error::usage(format!("{}: it has inputs/ and subject/: a case is of a worker or of a gate", folder.display())));
            }
            (true, false, Kind::Gate) => {
                return Err(Error::usage(format!("{}: it has inputs/, and the plugin is a gate", folder.display()))
                    .help("name the folder subject/"));
            }
            (false, true, Kind::Worker) => {
                return Err(Error::usage(format!("{}: it has subject/, and the plugin is a worker", folder.display()))
                    .help("name the folder inputs/"));
            }
            (_, is_subject, kind) => is_subject || kind == Kind::Gate,
        };
    let files = artifacts(if is_gate { &subject } else { &inputs })?;
    Ok(Given { is_gate, files, previous: artifacts(&folder.join("previous"))?, case })
}

/// The files of a folder as artifacts, sorted by name; none where there is no folder.
fn artifacts(folder: &Path) -> Result<Vec<Artifact>, Error> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::usage(error.to_string()))?;
        if entry.file_type().is_dir() {
            continue;
        }
        let failed = |reason: &dyn std::fmt::Display| Error::usage(format!("{}: {reason}", entry.path().display()));
        let name = entry.path().strip_prefix(folder).ok().and_then(Path::to_str).ok_or_else(|| failed(&"its name is not UTF-8"))?;
        artifact::check_name(name).map_err(|reason| failed(&reason))?;
        let content = intake::read(entry.path(), FILE_BYTES_MAX).map_err(|error| failed(&error))?;
        found.push(Artifact { name: name.to_owned(), media_type: media_type(name).to_owned(), content: content.into() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Bench {
    fn limits(&self, over: &LimitsPatch) -> Result<Limits, Error> {
        Ok(self.registry.limits(&self.entry, over)?)
    }

    /// Does it once.
    fn run(&self, given: &Given, limits: Limits, is_cancelled: bool) -> Result<Attempt<Answer>, Error> {
        let Given { is_gate, files, previous, case } = given.clone();
        let requests = self.entry.manifest.requests.as_deref();
        let grant = requests.map_or_else(|| case.grant.clone(), |requests| case.grant.within(requests));
        // No test of an author's asks the network: the case answers, or nobody does.
        let call = Call { limits, grant: Arc::new(grant), canned: Some(case.http.clone().into()), ..Call::default() };
        if is_cancelled {
            call.cancel.cancel();
        }
        let params: Arc<str> = Value::Object(case.params).to_string().into();
        if is_gate {
            let subject = Subject::of(&files).map_err(|collision| Error::usage(format!("the subject: {collision}")))?;
            let subject = Subject { params, ..subject };
            let judged = super::block_on(self.judge.judge(&self.entry, subject, call, &|_| ()))?.whole();
            return Ok(Attempt { result: judged.result.map(Answer::Verdict), receipt: judged.receipt, log: judged.log });
        }
        let task = Task {
            step: "test".to_owned(),
            id: "test".to_owned(),
            run: "test".to_owned(),
            attempt: 1,
            revision: u32::from(!case.feedback.is_empty()),
            params,
            inputs: files,
            criteria: case.criteria,
            feedback: case.feedback,
            previous,
        };
        let ended = super::block_on(self.runtime.run(&self.plugin, task, call))?;
        Ok(Attempt { result: ended.result.map(Answer::Artifacts), receipt: ended.receipt, log: ended.log })
    }

    /// One case: done twice, and compared with itself and with what is expected.
    fn case(&self, name: String, folder: &Path, update: bool) -> Result<Told, Error> {
        let given = read(folder, self)?;
        let limits = self.limits(&given.case.limits)?;
        let first = self.run(&given, limits, false)?;
        let mut problems = Vec::new();
        let transcript = transcript(&first);
        if matches!(&first.result, Err(failure) if failure.kind == FailureKind::Host) {
            return Err(Error::engine(transcript));
        }
        // Not where it ended by time, or saw some.
        let is_exact = Grant { outbound: Vec::new(), ..given.case.grant.clone() }.is_deterministic()
            && !matches!(&first.result, Err(failure) if failure.kind == FailureKind::DeadlineExceeded);
        if is_exact {
            let second = self.run(&given, limits, false)?;
            if second.receipt.fuel != first.receipt.fuel {
                let (a, b) = (first.receipt.fuel, second.receipt.fuel);
                problems.push(format!("two runs took different fuel, {a} and {b}: the plugin does not depend on its input alone"));
            }
            if contents(&first) != contents(&second) || transcript != self::transcript(&second) {
                problems.push("two runs gave different answers: the plugin does not depend on its input alone".to_owned());
            }
        }
        let (place, out) = (folder.join(EXPECTED), folder.join("expected"));
        if update && problems.is_empty() {
            let is_new = self.update(&first, &transcript, &place, &out)?;
            return Ok(Told { name, problems, receipt: first.receipt, is_new });
        }
        if place.exists() {
            problems.extend(differences(&read_text(&place)?, &transcript));
            problems.extend(other_contents(&artifacts(&out)?, &first));
        } else {
            problems.push(format!("{} is not there: look at what comes, and write it with --update\n{transcript}", place.display()));
        }
        Ok(Told { name, problems, receipt: first.receipt, is_new: false })
    }

    /// Writes what came as what is expected: whether that was not so before.
    fn update(&self, attempt: &Attempt<Answer>, transcript: &str, place: &Path, out: &Path) -> Result<bool, Error> {
        let failed = |path: &Path, error: std::io::Error| Error::engine(format!("{} cannot be written: {error}", path.display()));
        let folder = place.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or_default();
        let same_text = std::fs::read_to_string(place).is_ok_and(|text| text == transcript);
        if same_text && other_contents(&artifacts(out)?, attempt).is_empty() {
            return Ok(false);
        }
        if out.is_dir() {
            std::fs::remove_dir_all(out).map_err(|error| failed(out, error))?;
        }
        for (name, content) in contents(attempt) {
            let path = out.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
            }
            replace_beside(&folder, &path, content)?;
        }
        replace_beside(&folder, place, transcript.as_bytes())?;
        Ok(true)
    }

    /// The first case that comes to an answer, since one that is refused at once shows little; else the first.
    fn fruitful(&self, folders: &[(String, PathBuf)]) -> Result<Option<Given>, Error> {
        let mut first = None;
        for (_, folder) in folders {
            let given = read(folder, self)?;
            if self.run(&given, self.limits(&given.case.limits)?, false)?.result.is_ok() {
                return Ok(Some(given));
            }
            first = first.or(Some(given));
        }
        Ok(first)
    }

    /// What every plugin should bear, starting from one of its cases where it has any.
    fn conformance(&self, folders: &[(String, PathBuf)]) -> Result<Vec<Told>, Error> {
        let given = self.fruitful(folders)?;
        let is_gate = self.entry.kind == Kind::Gate;
        let one =
            |content: &[u8]| vec![Artifact { name: "input.txt".into(), media_type: "text/plain".into(), content: content.to_vec().into() }];
        let base = given.unwrap_or_else(|| Given { is_gate, files: one(b"text\n"), previous: Vec::new(), case: Case::default() });
        let usual = self.limits(&base.case.limits)?;
        let with = |files: Vec<Artifact>| Given { files, ..base.clone() };
        let params = |params: Value| {
            let mut given = base.clone();
            given.case.params = params.as_object().cloned().unwrap_or_else(Map::new);
            given
        };
        let odd: Vec<u8> = (0..=255).chain("\u{feff}é\u{202e}\0".bytes()).collect();
        let huge = "a line of text, and one more\n".repeat(usize::try_from(usual.input.min(4 << 20)).unwrap_or(0) / 29).into_bytes();
        // What may come of each beside an answer.
        let sane: &[FailureKind] = &[FailureKind::InvalidInput, FailureKind::Permanent];
        let bounded =
            &[sane, &[FailureKind::OutOfFuel, FailureKind::MemoryLimit, FailureKind::OutputLimit, FailureKind::DeadlineExceeded]].concat();
        let conditions: Vec<(&str, Given, Limits, bool, &[FailureKind])> = vec![
            ("hardly any fuel", base.clone(), Limits { fuel: 1, ..usual }, false, &[FailureKind::OutOfFuel]),
            ("hardly any memory", base.clone(), Limits { memory: 1 << 16, ..usual }, false, &[FailureKind::MemoryLimit]),
            ("cancelled at once", base.clone(), usual, true, &[FailureKind::Cancelled]),
            ("no input", with(Vec::new()), usual, false, sane),
            ("an empty input", with(one(b"")), usual, false, sane),
            ("an input that is no text", with(one(&odd)), usual, false, sane),
            ("a huge input", with(one(&huge)), usual, false, bounded),
            ("no params", params(json!({})), usual, false, sane),
            ("unknown params", params(json!({ "no such param": [1, null, { "a": "b" }] })), usual, false, sane),
        ];
        let mut all = Vec::new();
        for (name, given, limits, is_cancelled, allowed) in conditions {
            let ended = self.run(&given, limits, is_cancelled)?;
            let problem = match &ended.result {
                Ok(_) => None,
                Err(failure) if allowed.contains(&failure.kind) => None,
                Err(failure) => {
                    let words: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
                    Some(format!("it ended as {}, where an answer or {} was expected", failure_line(failure), words.join(", ")))
                }
            };
            all.push(Told { name: name.to_owned(), problems: problem.into_iter().collect(), receipt: ended.receipt, is_new: false });
        }
        Ok(all)
    }
}

/// The artifacts that came, by name.
fn contents(attempt: &Attempt<Answer>) -> BTreeMap<&str, &[u8]> {
    match &attempt.result {
        Ok(Answer::Artifacts(artifacts)) => artifacts.iter().map(|artifact| (artifact.name.as_str(), &*artifact.content)).collect(),
        Ok(Answer::Verdict(_)) | Err(_) => BTreeMap::new(),
    }
}

/// What came, as text: in lines that can be reviewed and compared. Contents of artifacts stand beside it.
fn transcript(attempt: &Attempt<Answer>) -> String {
    let mut text = String::new();
    match &attempt.result {
        Ok(Answer::Artifacts(artifacts)) => {
            text.push_str("completed\n");
            for artifact in artifacts {
                let kind = if artifact.media_type.is_empty() { "-" } else { &artifact.media_type };
                let _ = writeln!(
                    text,
                    "artifact {} {} {}",
                    sanitize(&artifact.name, 1024),
                    sanitize(kind, 200),
                    show_bytes(artifact.content.len() as u64)
                );
            }
        }
        Ok(Answer::Verdict(verdict)) => {
            text.push_str(match verdict.decision {
                Decision::Pass => "pass\n",
                Decision::Fail => "fail\n",
            });
            for finding in &verdict.findings {
                let _ = writeln!(text, "finding {}", super::progress::finding_line(finding));
            }
            for metric in &verdict.metrics {
                let _ = writeln!(text, "metric {} {} {}", sanitize(&metric.name, 200), metric.value, sanitize(&metric.unit, 50));
            }
            let _ = writeln!(text, "summary {}", sanitize(&verdict.summary, 400));
        }
        Err(failure) => {
            let _ = writeln!(text, "{}", failure_line(failure));
        }
    }
    let Log { lines, gap_at, dropped_bytes: _ } = &attempt.log;
    for (at, line) in lines.iter().enumerate() {
        if *gap_at == Some(at) {
            text.push_str("log …\n");
        }
        let _ = writeln!(text, "log {} {}", line.source.as_str(), line.text);
    }
    text
}

/// The kind of a failure, and its first line.
fn failure_line(failure: &Failure) -> String {
    format!("{}: {}", failure.kind, sanitize(failure.message.lines().next().unwrap_or_default(), 400))
}

/// The lines in which two transcripts differ.
fn differences(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let mut text = "another answer than expected (- expected, + found)".to_owned();
    for line in line_changes(expected, found) {
        text.push('\n');
        text.push_str(&sanitize(&line, 400));
    }
    Some(text)
}

/// Artifacts that are not as expected.
fn other_contents(expected: &[Artifact], attempt: &Attempt<Answer>) -> Vec<String> {
    let found = contents(attempt);
    let mut problems = Vec::new();
    for artifact in expected {
        match found.get(artifact.name.as_str()) {
            None => problems.push(format!("expected/{} did not come", artifact.name)),
            Some(content) if **content != *artifact.content => {
                let texts = (std::str::from_utf8(&artifact.content), std::str::from_utf8(content));
                let detail = match texts {
                    (Ok(expected), Ok(found)) => differences(expected, found).unwrap_or_default(),
                    (Err(_), _) | (_, Err(_)) => "other bytes".to_owned(),
                };
                problems.push(format!("expected/{}: {detail}", artifact.name));
            }
            Some(_) => {}
        }
    }
    let is_expected = |name: &str| expected.iter().any(|artifact| artifact.name == name);
    problems.extend(
        found.keys().filter(|name| !is_expected(name)).map(|name| format!("{} came, and is not in expected/", sanitize(name, 400))),
    );
    problems
}

fn tell(entry: &Entry, all: &[Told], as_json: bool) {
    let failed = all.iter().filter(|told| !told.problems.is_empty()).count();
    if as_json {
        let cases: Vec<Value> = all
            .iter()
            .map(|told| {
                json!({
                    "name": told.name,
                    "passed": told.problems.is_empty(),
                    "problems": told.problems,
                    "written": told.is_new,
                    "fuel": told.receipt.fuel,
                    "peak_memory_bytes": told.receipt.peak_memory_bytes,
                })
            })
            .collect();
        outln!(
            "{}",
            json!({ "schema_version": SCHEMA_VERSION, "plugin": entry.name, "digest": entry.digest, "failed": failed, "cases": cases })
        );
        return;
    }
    let width = all.iter().map(|told| told.name.chars().count()).max().unwrap_or(0);
    for told in all {
        let (sign, written) = (if told.problems.is_empty() { "✓" } else { "✗" }, if told.is_new { "  written" } else { "" });
        let Receipt { fuel, peak_memory_bytes, .. } = told.receipt;
        outln!("{sign} {:width$}  fuel {}, memory {}{written}", sanitize(&told.name, 200), show_fuel(fuel), show_bytes(peak_memory_bytes));
        for line in told.problems.iter().flat_map(|problem| problem.lines()) {
            outln!("    {}", sanitize(line, 2000));
        }
    }
    outln!("{}: {}, {failed} failed", entry.name, counted(all.len(), "case"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_differ_are_told() {
        assert_eq!(differences("a\nb\nc\n", "a\nb\nc\n"), None);
        let told = differences("a\nb\nc\n", "a\nx\ny\nc\n").expect("they differ");
        assert_eq!(told.lines().skip(1).collect::<Vec<_>>(), ["- b", "+ x", "+ y"]);
    }
}
