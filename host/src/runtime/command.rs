//! Commands: programs that know nothing of the contract. What they are given on their way in, and what it means what they
//! write and how they end.
//!
//! WASI 0.2 knows no exit code but success and failure. A failure with nothing but complaints on standard error is no answer.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::attempt::{Answer, Entrance};
use super::capture::{Capture, OutputCapture};
use super::plugin::{Command, CommandFindings, CommandPass, CommandProtocol};
use super::state::CommandIo;
use crate::model::{
    Artifact, Decision, Failure, FailureKind, Finding, Location, LogSource, Metric, Severity, Span, Subject, Task, Verdict,
};

/// How many findings the output of a command is read for.
const FINDINGS_MAX: usize = 10_000;
/// How many values a log of a tool has at the most: each takes some hundred bytes of the host's memory, and may be two bytes long.
const VALUES_MAX: usize = 1_000_000;
/// How many lines one that speaks in lines may write before its answer.
const LINES_MAX: usize = 10_000;

/// What a command is given: arguments and standard input.
///
/// # Errors
/// When its params are none for a command.
pub(super) fn io(command: &Command, entrance: &Entrance, output_bytes: u64) -> Result<CommandIo, Failure> {
    let mut arguments = vec!["plugin".to_owned()];
    arguments.extend(command.args.iter().cloned());
    let params = match entrance {
        Entrance::Worker(task) => &task.params,
        Entrance::Gate(subject) | Entrance::Units(subject) => &subject.params,
    };
    let stdin = match command.protocol {
        CommandProtocol::Streams => {
            arguments.extend(params_arguments(params)?);
            match entrance {
                Entrance::Worker(task) => join(&task.inputs),
                Entrance::Gate(_) | Entrance::Units(_) => Bytes::new(),
            }
        }
        CommandProtocol::Jsonl => {
            let line = match entrance {
                Entrance::Worker(task) => json!({ "task": task_json(task, true)? }),
                Entrance::Gate(subject) | Entrance::Units(subject) => json!({ "subject": subject_json(subject)? }),
            };
            format!("{line}\n").into()
        }
    };
    Ok(CommandIo { arguments, stdin, stdout: OutputCapture::new(output_bytes) })
}

/// What its end and its output mean.
///
/// # Errors
/// When it failed, or did not answer.
pub(super) fn answer(command: &Command, entrance: &Entrance, success: bool, stdout: &Bytes, capture: &Capture) -> Result<Answer, Failure> {
    let complaint = || {
        let tail = capture.stderr_tail(3).join("\n");
        if tail.is_empty() { "the command failed without a word".to_owned() } else { format!("the command failed: {tail}") }
    };
    match (command.protocol, entrance) {
        (_, Entrance::Units(_)) => {
            Err(Failure::new(FailureKind::InvalidInput, "the plugin is a command, where a gate with units is needed"))
        }
        (CommandProtocol::Jsonl, _) => line_answer(entrance, stdout, capture).and_then(|answer| match answer {
            Some(answer) if success => Ok(answer),
            Some(_) if capture.stderr_tail(1).is_empty() => {
                let message = "the command answered, and failed then without a word; a failure is a line, too: {\"failure\": …}";
                Err(Failure::new(FailureKind::Permanent, message))
            }
            Some(_) => Err(Failure::new(FailureKind::Permanent, complaint())),
            None if !success => Err(Failure::new(FailureKind::Permanent, complaint())),
            None => Err(violation("it ended without a line that answers: {\"artifacts\": …}, {\"verdict\": …} or {\"failure\": …}")),
        }),
        (CommandProtocol::Streams, Entrance::Worker(_)) if success => {
            Ok(Answer::Artifacts(vec![Artifact { name: "stdout".to_owned(), media_type: String::new(), content: stdout.clone() }]))
        }
        (CommandProtocol::Streams, Entrance::Worker(_)) => Err(Failure::new(FailureKind::Permanent, complaint())),
        (CommandProtocol::Streams, Entrance::Gate(subject)) => {
            if !success && stdout.is_empty() && !capture.stderr_tail(1).is_empty() {
                return Err(Failure::new(FailureKind::Permanent, complaint())); // it could not answer
            }
            let findings = findings(command.findings, stdout, subject)?;
            let passes = match command.pass {
                CommandPass::Success => success,
                CommandPass::Failure => !success,
            };
            Ok(Answer::Verdict(Verdict {
                decision: if passes { Decision::Pass } else { Decision::Fail },
                summary: format!("{} findings", findings.len()),
                findings,
                metrics: Vec::new(),
            }))
        }
    }
}

fn violation(message: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::ContractViolation, message)
}

fn too_many(what: &str, max: usize) -> Failure {
    Failure::new(FailureKind::OutputLimit, format!("the command writes more than the {max} {what} that are read"))
}

/// The inputs of a command, one behind the other.
fn join(inputs: &[Artifact]) -> Bytes {
    match inputs {
        [] => Bytes::new(),
        [one] => one.content.clone(),
        many => many.iter().flat_map(|artifact| artifact.content.iter().copied()).collect(),
    }
}

/// `params.args`, a list of strings.
fn params_arguments(params: &str) -> Result<Vec<String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Params {
        #[serde(default)]
        args: Vec<String>,
    }
    if params.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str::<Params>(params)
        .map(|params| params.args)
        .map_err(|error| Failure::new(FailureKind::InvalidInput, format!("a command's `args` must be a list of strings: {error}")))
}

fn params_json(params: &str) -> Result<Value, Failure> {
    if params.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_str(params).map_err(|error| Failure::new(FailureKind::InvalidInput, format!("the params are no JSON: {error}")))
}

/// A task as a program reads it, with the content of its files or without any. Content that is no text is in base64.
fn task_json(task: &Task, with_files: bool) -> Result<Value, Failure> {
    let Task { id, run, step, attempt, revision, params, inputs, criteria, feedback, previous } = task;
    let artifacts = |artifacts: &[Artifact]| artifacts.iter().filter(|_| with_files).map(artifact_json).collect::<Vec<_>>();
    Ok(json!({
        "id": id,
        "run": run,
        "step": step,
        "attempt": attempt,
        "revision": revision,
        "params": params_json(params)?,
        "inputs": artifacts(inputs),
        "criteria": criteria,
        "feedback": feedback,
        "previous": artifacts(previous),
    }))
}

fn artifact_json(artifact: &Artifact) -> Value {
    let mut object = json!({ "name": artifact.name, "media_type": artifact.media_type });
    match std::str::from_utf8(&artifact.content) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["base64"] = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &artifact.content).into(),
    }
    object
}

/// A subject as a program reads it: what is at `/subject`, and what it is to be judged by.
fn subject_json(subject: &Subject) -> Result<Value, Failure> {
    let files = subject.files.iter().map(|file| json!({ "path": file.path, "size_bytes": file.size_bytes, "media_type": file.media_type }));
    Ok(json!({
        "files": files.collect::<Vec<_>>(),
        "params": params_json(&subject.params)?,
        "task": subject.task.as_ref().map(|task| task_json(task, false)).transpose()?,
        "usage": subject.usage,
    }))
}

/// A line of a program that speaks in lines.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
struct Line {
    artifacts: Option<Vec<LineArtifact>>,
    verdict: Option<Decision>,
    #[serde(default)]
    findings: Vec<Finding>,
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    summary: String,
    failure: Option<LineFailure>,
    log: Option<LineLog>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LineArtifact {
    name: String,
    #[serde(default)]
    media_type: String,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LineFailure {
    kind: LineFailureKind,
    message: String,
}

/// The kinds of failure that a guest may claim.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineFailureKind {
    InvalidInput,
    Transient,
    Permanent,
    Cancelled,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LineLog {
    level: LogSource,
    message: String,
}

/// The one line that answers, with lines for the log before it.
fn line_answer(entrance: &Entrance, stdout: &[u8], capture: &Capture) -> Result<Option<Answer>, Failure> {
    let mut answer = None;
    for (number, line) in stdout.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).enumerate() {
        if number >= LINES_MAX {
            return Err(too_many("lines", LINES_MAX));
        }
        let bad = |why: &dyn std::fmt::Display| violation(format!("line {} of its output: {why}", number + 1));
        let line: Line = serde_json::from_slice(line).map_err(|error| bad(&error))?;
        if let Some(LineLog { level, message }) = &line.log {
            if !matches!(level, LogSource::Error | LogSource::Warn | LogSource::Info | LogSource::Debug | LogSource::Trace) {
                return Err(bad(&"a log line has a level of error, warn, info, debug or trace"));
            }
            capture.line(*level, message);
            continue;
        }
        if answer.is_some() {
            return Err(bad(&"it has answered already, and a task has one answer"));
        }
        answer = Some(match (line, entrance) {
            (Line { failure: Some(LineFailure { kind, message }), .. }, _) => {
                let kind = match kind {
                    LineFailureKind::InvalidInput => FailureKind::InvalidInput,
                    LineFailureKind::Transient => FailureKind::Transient,
                    LineFailureKind::Permanent => FailureKind::Permanent,
                    LineFailureKind::Cancelled => FailureKind::Cancelled,
                };
                return Err(Failure::new(kind, crate::model::text::sanitize(&message, 4096)));
            }
            (Line { artifacts: Some(artifacts), .. }, Entrance::Worker(_)) => {
                let artifacts = artifacts.into_iter().map(|artifact| artifact.read().map_err(|why| bad(&why)));
                Answer::Artifacts(artifacts.collect::<Result<_, _>>()?)
            }
            (Line { verdict: Some(decision), findings, metrics, summary, .. }, Entrance::Gate(_)) => {
                Answer::Verdict(Verdict { decision, findings, metrics, summary })
            }
            (_, Entrance::Worker(_)) => return Err(bad(&"a task is answered by {\"artifacts\": […]} or {\"failure\": …}")),
            (_, Entrance::Gate(_) | Entrance::Units(_)) => {
                return Err(bad(&"a subject is answered by {\"verdict\": \"pass\" or \"fail\", \"findings\": […]} or {\"failure\": …}"));
            }
        });
    }
    Ok(answer)
}

impl LineArtifact {
    fn read(self) -> Result<Artifact, String> {
        let content = match (self.text, self.base64) {
            (Some(text), None) => text.into(),
            (None, Some(base64)) => {
                let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64);
                decoded.map_err(|error| format!("the artifact {:?}: {error}", self.name))?.into()
            }
            (Some(_), Some(_)) | (None, None) => return Err(format!("the artifact {:?} needs one of `text` and `base64`", self.name)),
        };
        Ok(Artifact { name: self.name, media_type: self.media_type, content })
    }
}

/// What the output of a command says, as findings.
fn findings(form: CommandFindings, stdout: &[u8], subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let text = String::from_utf8_lossy(stdout);
    let lines = text.lines().filter(|line| !line.trim().is_empty()).take(FINDINGS_MAX + 1);
    let mut findings: Vec<Finding> = match form {
        CommandFindings::None => return Ok(Vec::new()),
        CommandFindings::Sarif => sarif(stdout)?,
        CommandFindings::Lines => lines.map(line_finding).collect(),
        CommandFindings::Jsonl => lines.map(json_finding).collect(),
    };
    if findings.len() > FINDINGS_MAX {
        return Err(too_many("findings", FINDINGS_MAX));
    }
    let files: HashSet<&str> = subject.files.iter().map(|file| file.path.as_str()).collect();
    for location in findings.iter_mut().filter_map(|finding| finding.location.as_mut()) {
        location.path = below_subject(&location.path, &files).to_owned();
    }
    Ok(findings)
}

/// The path of a file of the subject as a program may name it that finds itself at `/`, or at `/subject`.
fn below_subject<'a>(path: &'a str, files: &HashSet<&str>) -> &'a str {
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.strip_prefix("/subject/").unwrap_or(path);
    match path.strip_prefix("subject/") {
        Some(below) if files.contains(below) && !files.contains(path) => below,
        Some(_) | None => path,
    }
}

fn json_finding(line: &str) -> Finding {
    serde_json::from_str(line).unwrap_or_else(|error| plain_finding(&format!("not a finding in JSON ({error}): {line}")))
}

fn plain_finding(message: &str) -> Finding {
    Finding {
        rule: "output".to_owned(),
        severity: Severity::Medium,
        message: message.to_owned(),
        location: None,
        suggestion: None,
        help_url: None,
        fix: None,
    }
}

/// `path:line:column: message`, or `path:line:message`, as compilers and linters write; else the whole line.
fn line_finding(line: &str) -> Finding {
    let parts: Vec<&str> = line.splitn(4, ':').collect();
    let place = |line: &str, column: &str| Some((line.parse::<u32>().ok()?, column.trim().parse::<u32>().ok()?));
    let (path, at, message) = match parts.as_slice() {
        [path, l, c, message] if place(l, c).is_some() => (path, place(l, c), (*message).to_owned()),
        [path, l, rest @ ..] if l.parse::<u32>().is_ok() && !rest.is_empty() => (path, place(l, "1"), rest.join(":")),
        _ => return plain_finding(line),
    };
    let span = at.map(|(line, column)| Span { start_line: line, start_column: column, end_line: line, end_column: column });
    Finding { location: Some(Location { path: (*path).to_owned(), span }), ..plain_finding(message.trim()) }
}

/// The results of a SARIF log (OASIS SARIF 2.1.0) that are failures nobody suppressed.
fn sarif(stdout: &[u8]) -> Result<Vec<Finding>, Failure> {
    if values(stdout) > VALUES_MAX {
        return Err(too_many("values in its SARIF", VALUES_MAX));
    }
    let log = Value::deserialize(&mut serde_json::Deserializer::from_slice(stdout));
    let log = log.map_err(|error| violation(format!("its output is no SARIF: {error}")))?;
    let runs = log.get("runs").and_then(Value::as_array).ok_or_else(|| violation("its output is no SARIF: it has no `runs`"))?;
    fn list<'a>(value: &'a Value, at: &str) -> &'a [Value] {
        value.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
    let mut findings = Vec::new();
    let failed =
        |run: &Value| list(run, "/invocations").iter().any(|invocation| invocation.get("executionSuccessful") == Some(&Value::Bool(false)));
    for run in runs {
        let rules = list(run, "/tool/driver/rules");
        // By their names, of which the first counts: a log may have millions of them.
        let mut named = HashMap::new();
        for rule in rules {
            if let Some(id) = rule.get("id").and_then(Value::as_str) {
                named.entry(id).or_insert(rule);
            }
        }
        for result in list(run, "/results") {
            let is_failure = result.get("kind").and_then(Value::as_str).is_none_or(|kind| kind == "fail");
            if !is_failure || !list(result, "/suppressions").is_empty() {
                continue;
            }
            findings.push(sarif_finding(result, rules, &named));
            if findings.len() > FINDINGS_MAX {
                return Ok(findings); // one too many, which is told
            }
        }
    }
    if findings.is_empty() && runs.iter().any(failed) {
        return Err(Failure::new(FailureKind::Permanent, "its SARIF says that the tool failed, and nothing of what it found"));
    }
    Ok(findings)
}

/// How many values a text in JSON has, about: what comes behind one of `[{,` outside of strings.
fn values(json: &[u8]) -> usize {
    let (mut within, mut escaped, mut count) = (false, false, 0);
    for byte in json {
        match (within, byte) {
            (true, _) if std::mem::take(&mut escaped) => {}
            (true, b'\\') => escaped = true,
            (_, b'"') => within = !within,
            (false, b'[' | b'{' | b',') => count += 1,
            (true | false, _) => {}
        }
    }
    count
}

fn sarif_finding(result: &Value, rules: &[Value], named: &HashMap<&str, &Value>) -> Finding {
    let text = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let id = text(result, "/ruleId").or_else(|| text(result, "/rule/id"));
    let index = result.get("ruleIndex").or_else(|| result.pointer("/rule/index")).and_then(Value::as_u64);
    let by_index = index.and_then(|index| rules.get(usize::try_from(index).ok()?));
    let rule = by_index.or_else(|| named.get(id.as_deref()?).copied());
    let level = text(result, "/level").or_else(|| rule.and_then(|rule| text(rule, "/defaultConfiguration/level")));
    let physical = result.pointer("/locations/0/physicalLocation");
    let path = physical.and_then(|place| text(place, "/artifactLocation/uri")).map(|uri| {
        let base = url::Url::parse("file:///subject/").ok();
        let path = base.and_then(|base| base.join(&uri).ok()).and_then(|url| url.to_file_path().ok());
        path.map_or(uri, |path| path.to_string_lossy().into_owned())
    });
    let number = |at: &str| physical.and_then(|place| place.pointer(at)).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let span = number("/region/startLine").map(|start_line| {
        let start_column = number("/region/startColumn").unwrap_or(1);
        let end_line = number("/region/endLine").unwrap_or(start_line);
        Span { start_line, start_column, end_line, end_column: number("/region/endColumn").unwrap_or(start_column) }
    });
    Finding {
        rule: id.or_else(|| rule.and_then(|rule| text(rule, "/id"))).unwrap_or_else(|| "output".to_owned()),
        severity: match level.as_deref() {
            Some("error") => Severity::High,
            Some("note") => Severity::Low,
            Some("none") => Severity::Info,
            Some(_) | None => Severity::Medium,
        },
        message: text(result, "/message/text").or_else(|| text(result, "/message/markdown")).unwrap_or_default(),
        location: path.map(|path| Location { path, span }),
        suggestion: None,
        help_url: rule.and_then(|rule| text(rule, "/helpUri")),
        fix: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SubjectFile;

    fn subject(files: &[&str]) -> Subject {
        let file = |path: &&str| SubjectFile { path: (*path).to_owned(), size_bytes: 0, media_type: String::new() };
        Subject { files: files.iter().map(file).collect(), ..Subject::default() }
    }

    #[test]
    fn lines_of_linters_become_findings_with_a_place() {
        let text = "/subject/src/a.py:3:7: E501 line too long: 99\na.md:12:bad link\nnothing of the kind\n./b.md:1:1: x\nsubject/a.md:1:1: y\nsubject/c.md:1:1: z\n";
        let found = findings(CommandFindings::Lines, text.as_bytes(), &subject(&["a.md", "subject/c.md", "c.md"])).expect("reads");
        let place =
            |at: usize| found[at].location.as_ref().map(|place| (place.path.as_str(), place.span.map(|s| (s.start_line, s.start_column))));
        assert_eq!((found[0].message.as_str(), place(0)), ("E501 line too long: 99", Some(("src/a.py", Some((3, 7))))));
        assert_eq!(place(1), Some(("a.md", Some((12, 1)))));
        assert_eq!(place(2), None);
        let paths: Vec<_> = (3..6).filter_map(place).map(|(path, _)| path).collect();
        assert_eq!(paths, ["b.md", "a.md", "subject/c.md"]);
        assert!(findings(CommandFindings::Lines, "x\n".repeat(FINDINGS_MAX + 1).as_bytes(), &subject(&[])).is_err());
    }

    /// By looking through all rules for each result, this would take minutes.
    #[test]
    fn a_log_of_very_many_rules_is_read_soon() {
        let results = vec![json!({ "ruleId": "none", "message": { "text": "m" } }); FINDINGS_MAX];
        let log = json!({ "runs": [{ "tool": { "driver": { "rules": vec![json!({ "id": "other" }); 300_000] } }, "results": results }] });
        assert_eq!(sarif(log.to_string().as_bytes()).map(|found| found.len()).ok(), Some(FINDINGS_MAX));
    }

    #[test]
    fn a_log_of_more_values_than_memory_should_hold_is_not_read() {
        let log = format!("{{\"runs\": [], \"x\": [{}0]}}", "[0],".repeat(VALUES_MAX / 2));
        let told = sarif(log.as_bytes()).expect_err("is refused");
        assert_eq!((told.kind, told.message.contains("1000000")), (FailureKind::OutputLimit, true), "{told:?}");
        // What is within strings is no value.
        let log = json!({ "runs": [], "x": "[{,:\"\\".repeat(VALUES_MAX) });
        assert_eq!(sarif(log.to_string().as_bytes()).map(|found| found.len()).ok(), Some(0));
    }

    #[test]
    fn a_sarif_log_is_read_as_other_tools_write_it() {
        let log = json!({ "version": "2.1.0", "runs": [{
            "tool": { "driver": { "name": "t", "rules": [
                { "id": "R1", "helpUri": "https://example.com/r1", "defaultConfiguration": { "level": "error" } },
                { "id": "R2" },
            ] } },
            "results": [
                { "ruleIndex": 0, "message": { "text": "one" }, "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": "a%20b/c.py" }, "region": { "startLine": 3, "startColumn": 5, "endColumn": 9 } } }] },
                { "ruleId": "R2", "level": "note", "message": { "text": "two" }, "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": "file:///subject/d.py" } } }] },
                { "ruleId": "R2", "message": { "text": "hidden" }, "suppressions": [{ "kind": "inSource" }] },
                { "ruleId": "R2", "kind": "pass", "message": { "text": "fine" } },
            ],
        }] });
        let found = findings(CommandFindings::Sarif, log.to_string().as_bytes(), &subject(&["d.py"])).expect("reads");
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].rule.as_str(), found[0].severity, found[0].help_url.as_deref()),
            ("R1", Severity::High, Some("https://example.com/r1"))
        );
        let place = found[0].location.as_ref().expect("a place");
        assert_eq!(place.path, "a b/c.py");
        assert_eq!(place.span, Some(Span { start_line: 3, start_column: 5, end_line: 3, end_column: 9 }));
        assert_eq!((found[1].severity, found[1].location.as_ref().map(|place| place.path.as_str())), (Severity::Low, Some("d.py")));
        let failed = "{\"runs\": [{\"invocations\": [{\"executionSuccessful\": false}], \"results\": []}]}";
        for text in [failed, "", "[]", "{\"runs\": 1}", "{"] {
            assert!(findings(CommandFindings::Sarif, text.as_bytes(), &subject(&[])).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_answers_once_and_only_what_was_asked() {
        let task = || Entrance::Worker(Task { params: "{\"n\": 1}".into(), ..Task::default() });
        let ask = |entrance: &Entrance, lines: &str| {
            let capture = Capture::new(10_000);
            line_answer(entrance, lines.as_bytes(), &capture).map(|answer| (answer, capture.finish().lines.len()))
        };
        let made = "{\"log\": {\"level\": \"info\", \"message\": \"hm\"}}\n{\"artifacts\": [{\"name\": \"a\", \"base64\": \"/w==\"}]}\n\n";
        let (answer, logged) = ask(&task(), made).expect("reads");
        let Some(Answer::Artifacts(artifacts)) = answer else { panic!("no artifacts") };
        assert_eq!((artifacts[0].content.as_ref(), logged), (&b"\xff"[..], 1));
        let gate = Entrance::Gate(Subject::default());
        let Some(Answer::Verdict(verdict)) = ask(&gate, "{\"verdict\": \"fail\", \"summary\": \"no\"}").expect("reads").0 else {
            panic!("no verdict")
        };
        assert_eq!(verdict.decision, Decision::Fail);
        let failure = ask(&task(), "{\"failure\": {\"kind\": \"transient\", \"message\": \"later\"}}").err().expect("a failure");
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Transient, "later"));
        assert!(ask(&task(), "").expect("reads").0.is_none());
        for bad in [
            "{}",
            "hello",
            "{\"verdict\": \"pass\"}",
            "{\"artifacts\": []}\n{\"artifacts\": []}",
            "{\"artifacts\": [{\"name\": \"a\"}]}",
            "{\"artifacts\": [{\"name\": \"a\", \"base64\": \"?\"}]}",
            "{\"artifact\": []}",
            "{\"failure\": {\"kind\": \"lost\", \"message\": \"\"}}",
            "{\"log\": {\"level\": \"stdout\", \"message\": \"\"}}",
        ] {
            assert_eq!(ask(&task(), bad).err().expect("refused").kind, FailureKind::ContractViolation, "{bad}");
        }
        let given = io(&Command { protocol: CommandProtocol::Jsonl, ..Command::default() }, &task(), 10).expect("given");
        let line: Value = serde_json::from_slice(&given.stdin).expect("one line");
        assert_eq!((line["task"]["params"]["n"].as_u64(), given.stdin.ends_with(b"}\n")), (Some(1), true));
    }
}
