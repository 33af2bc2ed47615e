//! `sandhog call`: one task in one plugin.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::context::Common;
use super::exit::{Error, Exit};
use super::output::OutFolder;
use crate::api;
use crate::client::{Client, Command, InputFile, RemoteStore};
use crate::journal::{READ_MAX, Store};
use crate::machine::Event;
use crate::model::limits::{LimitsPatch, show_bytes, show_fuel};
use crate::model::text::{continued, counted, sanitize_lines};
use crate::model::{Artifact, Attempt, Decision, Digest, Failure, FailureKind, Grant, Receipt, RunId, Subject, Task, Verdict, artifact};
use crate::prepare::media_type;
use crate::report::{artifact_json, attempt_json, log_text, verdict_json};
use crate::runtime::{Call, Kind};

/// The largest input that is read at all, in bytes; the `input` limit is checked besides.
const INPUT_BYTES_MAX: u64 = 1 << 30;

/// How long one question about a call that goes on elsewhere waits.
const POLL: std::time::Duration = std::time::Duration::from_secs(20);

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A worker runs the inputs as one task; a gate judges them as its subject; a command gets them on standard\n\
input, and its arguments from --param 'args=[\"-n\",\"TODO\"]'. A single artifact goes to standard output as it\n\
is, several with their names between; --out writes them as files.\n\n\
Examples:\n  echo hello | sandhog call echo --input -\n  sandhog call contents --input docs/guide/runs.md --param depth=2 --json\n  \
sandhog call ./target/wasm32-wasip2/release/mine.wasm --input in.txt --fuel 50M --memory 16MiB --timeout 2s")]
pub struct CallArguments {
    /// The plugin: its name in the plugin folders, or a path to a component
    plugin: String,
    /// A file to work on, or - for standard input; may be repeated
    #[arg(long, short, value_name = "FILE|-")]
    input: Vec<PathBuf>,
    /// One param; the value is JSON where it reads as such, else a string; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// All params as one JSON object; --param adds to it
    #[arg(long, value_name = "JSON")]
    params: Option<String>,
    /// Fuel: weighted wasm instructions, such as 500M or 2G
    #[arg(long, value_name = "AMOUNT", env = "SANDHOG_FUEL")]
    fuel: Option<String>,
    /// All memories and tables together, such as 64MiB
    #[arg(long, value_name = "SIZE", env = "SANDHOG_MEMORY")]
    memory: Option<String>,
    /// From dispatch to outcome, such as 10s
    #[arg(long, value_name = "SPAN", env = "SANDHOG_TIMEOUT")]
    timeout: Option<String>,
    /// Any other limit: input, output, log, handles or scratch; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<String>,
    /// Write the artifacts into this folder, in the place of files of their names: best one of its own
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Show each call that the guest makes into the host, on standard error
    #[arg(long)]
    pub trace: bool,
    /// Print one JSON object: outcome, failure, blame, usage, artifacts or verdict, log
    #[arg(long)]
    pub json: bool,
}

/// Calls.
pub fn call(common: &Common, arguments: CallArguments) -> Result<Exit, Error> {
    let patch = limits(&arguments)?;
    let params = params(&arguments)?;
    if let Some(client) = common.remote()? {
        return call_there(&client, arguments, params);
    }
    let context = common.open(Some(1))?;
    if arguments.trace && context.runtime.is_isolated() {
        return Err(Error::usage("--trace shows the calls of a guest in this process").help("leave --isolate=process out"));
    }
    let entry = context.registry.find(&arguments.plugin)?;
    let limits = context.registry.limits(&entry, &patch)?;
    let unfit = context.registry.params_problems(&entry, &params)?;
    if !unfit.is_empty() {
        let help = format!("`sandhog plugins inspect {}` shows the schema of its params", entry.name);
        return Err(Error::usage(format!("`{}` does not take these params:\n  {}", entry.name, unfit.join("\n  "))).help(help));
    }
    let params: Arc<str> = Value::Object(params).to_string().into();
    let inputs = read_inputs(&arguments.input)?;
    let out = arguments.out.as_deref().map(OutFolder::open).transpose()?;
    let loaded = context.registry.load(&entry)?;
    let cancel = tokio_util::sync::CancellationToken::new();
    let call = Call { limits, grant: Arc::clone(&loaded.grant), cancel: cancel.clone(), ..Call::default() };
    let runtime = context.runtime.clone();
    let plugin = Arc::clone(&loaded.plugin);
    let subject = Subject::of(&inputs).map_err(|collision| Error::usage(format!("the inputs: {collision}")))?;
    let (attempt, interrupted) = super::block_on(async move {
        let work = async {
            if plugin.kind() == Kind::Gate {
                let ended = runtime.check(&plugin, Subject { params, ..subject }, call).await;
                Attempt { result: ended.result.map(Answer::Verdict), receipt: ended.receipt, log: ended.log }
            } else {
                let task = Task {
                    step: "call".to_owned(),
                    id: "call".to_owned(),
                    run: "call".to_owned(),
                    attempt: 1,
                    params,
                    inputs,
                    ..Task::default()
                };
                let ended = runtime.run(&plugin, task, call).await;
                Attempt { result: ended.result.map(Answer::Artifacts), receipt: ended.receipt, log: ended.log }
            }
        };
        tokio::pin!(work);
        tokio::select! {
            attempt = &mut work => (attempt, false),
            _ = tokio::signal::ctrl_c() => {
                cancel.cancel();
                (work.await, true)
            }
        }
    })?;
    let called = Called { name: &loaded.entry.name, digest: Some(loaded.entry.digest), granted_nothing: *loaded.grant == Grant::default() };
    finish(&called, attempt, out, arguments.json, interrupted)
}

/// Has a server run the task: as a run of one step, which is in its journal.
fn call_there(client: &Client, arguments: CallArguments, params: Map<String, Value>) -> Result<Exit, Error> {
    let refused = |what: &str| Error::usage(format!("{what} works here, and not over --server"));
    if crate::registry::is_path(&arguments.plugin) {
        return Err(refused("a path to a component").help("name a plugin that the server has: `sandhog plugins list --server URL`"));
    }
    if arguments.trace {
        return Err(refused("--trace"));
    }
    let inputs = read_inputs(&arguments.input)?.into_iter().map(InputFile::of).collect();
    let out = arguments.out.as_deref().map(OutFolder::open).transpose()?;
    let given = [("fuel", &arguments.fuel), ("memory", &arguments.memory), ("timeout", &arguments.timeout)];
    let given = given.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())));
    let mut limits: Map<String, Value> = given.collect();
    limits.extend(arguments.limit.iter().filter_map(|limit| limit.split_once('=')).map(|(name, text)| (name.to_owned(), text.into())));
    let submission = api::one_task(&arguments.plugin, params, limits, inputs).map_err(Error::usage)?;
    let (attempt, interrupted) = super::block_on(async {
        let run = client.submit(&submission, None).await?;
        let mut interrupted = false;
        loop {
            tokio::select! {
                report = client.report(run, Some(POLL)) => {
                    if matches!(report?["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
                        break;
                    }
                }
                _ = tokio::signal::ctrl_c() => {
                    interrupted = true;
                    client.command(run, &Command::Cancel { reason: "interrupted".to_owned() }).await?;
                }
            }
        }
        attempt_of(&RemoteStore::new(client.clone()), run).await.map(|attempt| (attempt, interrupted))
    })??;
    let called = Called { name: &arguments.plugin, digest: None, granted_nothing: false };
    finish(&called, attempt, out, arguments.json, interrupted)
}

/// How the one attempt of a run of one task ended.
async fn attempt_of(store: &dyn Store, run: RunId) -> Result<Attempt<Answer>, Error> {
    for record in store.read(&run, 1, READ_MAX).await? {
        match record.event {
            Event::AttemptCompleted { artifacts, receipt, log, .. } => {
                let mut made = Vec::with_capacity(artifacts.len());
                for artifact in artifacts {
                    let content = store.content(&artifact).await?;
                    made.push(Artifact { name: artifact.name, media_type: artifact.media_type, content });
                }
                return Ok(Attempt { result: Ok(Answer::Artifacts(made)), receipt, log });
            }
            Event::AttemptFailed { failure, receipt, log, .. } => return Ok(Attempt { result: Err(failure), receipt, log }),
            _ => {}
        }
    }
    let failure = Failure::new(FailureKind::Cancelled, "it was cancelled before it started");
    Ok(Attempt { result: Err(failure), receipt: Receipt::default(), log: crate::model::Log::default() })
}

/// What was called.
struct Called<'a> {
    name: &'a str,
    digest: Option<Digest>,
    granted_nothing: bool,
}

enum Answer {
    Artifacts(Vec<Artifact>),
    Verdict(Verdict),
}

fn finish(called: &Called<'_>, attempt: Attempt<Answer>, out: Option<OutFolder>, as_json: bool, interrupted: bool) -> Result<Exit, Error> {
    let Attempt { result, receipt, log } = attempt;
    let exit = match &result {
        _ if interrupted => Exit::Interrupted,
        Ok(Answer::Verdict(Verdict { decision: Decision::Fail, .. })) => Exit::Failed,
        Ok(Answer::Artifacts(_) | Answer::Verdict(_)) => Exit::Passed,
        Err(failure) if failure.kind == FailureKind::Host => Exit::Engine,
        Err(_) => Exit::Failed,
    };
    let mut written = 0;
    if let (Some(mut out), Ok(Answer::Artifacts(artifacts))) = (out, &result) {
        for artifact in artifacts {
            out.add(&artifact.name, &artifact.content)?;
        }
        written = out.finish()?;
    }
    if as_json {
        let answer = match &result {
            Ok(Answer::Artifacts(artifacts)) => json!({ "artifacts": artifacts.iter().map(artifact_json).collect::<Vec<_>>() }),
            Ok(Answer::Verdict(verdict)) => json!({ "artifacts": [], "verdict": verdict_json(verdict) }),
            Err(_) => json!({ "artifacts": [] }),
        };
        let told = Attempt { result: Ok(()), receipt, log };
        outln!("{}", attempt_json(called.name, called.digest.as_ref(), result.as_ref().err(), answer, &told));
        return Ok(exit);
    }
    err!("{}", log_text(&log));
    match &result {
        Ok(Answer::Artifacts(artifacts)) if written == 0 => print_artifacts(artifacts)?,
        Ok(Answer::Artifacts(_)) => errln!("wrote {}", counted(written, "file")),
        Ok(Answer::Verdict(verdict)) => print_verdict(verdict),
        Err(failure) => print_failure(called, failure),
    }
    errln!("{}", receipt_line(&receipt));
    Ok(exit)
}

fn print_artifacts(artifacts: &[Artifact]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    let to_terminal = stdout.is_terminal();
    let mut write = || {
        for artifact in artifacts {
            if artifacts.len() > 1 {
                writeln!(stdout, "== {} ({})", artifact.name, show_bytes(artifact.content.len() as u64))?;
            }
            stdout.write_all(&printed(&artifact.content, to_terminal))?;
        }
        stdout.flush()
    };
    match write() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::engine(format!("standard output: {error}"))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Content as it is printed: what could steer a terminal is escaped on its way to one, and as it is everywhere else.
fn printed(content: &[u8], to_terminal: bool) -> Cow<'_, [u8]> {
    if !to_terminal {
        return Cow::Borrowed(content);
    }
    match std::str::from_utf8(content) {
        Ok(text) => Cow::Owned(sanitize_lines(text, usize::MAX).into_bytes()),
        Err(_) => {
            Cow::Owned(format!("({} that are no text; a pipe or --out gets them)\n", counted(content.len() as u64, "byte")).into_bytes())
        }
    }
}

fn print_verdict(verdict: &Verdict) {
    for finding in &verdict.findings {
        outln!("{}", super::progress::finding_line(finding));
    }
    let word = match verdict.decision {
        Decision::Pass => "passed",
        Decision::Fail => "rejected",
    };
    outln!("{word}: {}", crate::model::text::sanitize(&verdict.summary, 400));
}

fn print_failure(called: &Called<'_>, failure: &Failure) {
    let plugin = called.name;
    let blame = match failure.kind.blame() {
        crate::model::Blame::Guest => "blame: guest",
        crate::model::Blame::Host => "blame: host",
    };
    errln!("{plugin} failed: {} ({blame})\n  {}", failure.kind, continued(&failure.message));
    let by_itself = matches!(failure.kind, FailureKind::Trapped | FailureKind::Exited | FailureKind::Permanent);
    if by_itself && called.granted_nothing {
        errln!("  hint: it is granted nothing; `sandhog plugins inspect {plugin}` shows what it imports, and how to grant it");
    }
}

/// What an attempt used, in a line.
pub fn receipt_line(receipt: &Receipt) -> String {
    format!(
        "fuel {}, peak memory {}, {:.1} ms, {} in, {} out",
        show_fuel(receipt.fuel),
        show_bytes(receipt.peak_memory_bytes),
        receipt.wall_time.as_secs_f64() * 1000.0,
        show_bytes(receipt.bytes_in),
        show_bytes(receipt.bytes_out)
    )
}

fn limits(arguments: &CallArguments) -> Result<LimitsPatch, Error> {
    let mut patch = LimitsPatch::default();
    for (name, text) in [("fuel", &arguments.fuel), ("memory", &arguments.memory), ("timeout", &arguments.timeout)] {
        if let Some(text) = text {
            patch.set(name, text).map_err(|error| Error::usage(format!("--{name}: {error}")))?;
        }
    }
    for limit in &arguments.limit {
        let (name, text) = limit.split_once('=').ok_or_else(|| Error::usage(format!("--limit: expected NAME=VALUE, found `{limit}`")))?;
        patch.set(name, text).map_err(|error| Error::usage(format!("--limit {name}: {error}")))?;
    }
    Ok(patch)
}

fn params(arguments: &CallArguments) -> Result<Map<String, Value>, Error> {
    let mut params = match &arguments.params {
        Some(text) => serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| Error::usage(format!("--params: expected a JSON object: {error}")))?,
        None => Map::new(),
    };
    for param in &arguments.param {
        let (name, text) = param.split_once('=').ok_or_else(|| Error::usage(format!("--param: expected NAME=VALUE, found `{param}`")))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        params.insert(name.to_owned(), value);
    }
    Ok(params)
}

fn read_inputs(paths: &[PathBuf]) -> Result<Vec<Artifact>, Error> {
    let mut inputs: Vec<Artifact> = Vec::with_capacity(paths.len());
    for path in paths {
        let cannot = |error: std::io::Error| Error::usage(format!("the input {} cannot be read: {error}", path.display()));
        let mut content = Vec::new();
        let name = if path.as_os_str() == "-" {
            std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut content).map_err(cannot)?;
            "stdin".to_owned()
        } else {
            let file = std::fs::File::open(path).map_err(cannot)?;
            if file.metadata().map_err(cannot)?.is_dir() {
                return Err(cannot(std::io::Error::other("it is a folder")));
            }
            file.take(INPUT_BYTES_MAX + 1).read_to_end(&mut content).map_err(cannot)?;
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        if content.len() as u64 > INPUT_BYTES_MAX {
            return Err(Error::usage(format!("the input {} is larger than {INPUT_BYTES_MAX} bytes", path.display())));
        }
        artifact::check_name(&name).map_err(|reason| Error::usage(format!("the input name {name:?} is refused: {reason}")))?;
        if inputs.iter().any(|input| input.name == name) {
            return Err(Error::usage(format!("two inputs are named `{name}`")));
        }
        inputs.push(Artifact { media_type: media_type(&name).to_owned(), name, content: content.into() });
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_steers_no_terminal_and_is_whole_elsewhere() {
        let content = b"a\n\x1b[2J\x1b]0;title\x07\xe2\x80\xae";
        assert_eq!(printed(content, false), Cow::Borrowed(&content[..]));
        assert_eq!(printed(content, true), Cow::Borrowed(&b"a\n\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{202e}"[..]));
        assert_eq!(printed(b"\xff\x1b", true), Cow::Borrowed(&b"(2 bytes that are no text; a pipe or --out gets them)\n"[..]));
    }
}
