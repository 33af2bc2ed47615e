//! What is sent over the wire: requests and answers, the same for the server and for [`super::client`].

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::journal::RunRow;
use crate::model::RunId;

/// A run to be accepted. One of `name`, `workflow` and `path` says which workflow.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The name of a workflow that the server offers: see `GET /v1/workflows`. Its inputs are files of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The text of a workflow file (TOML). Its globs match the names of `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What the file of `workflow` is called, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The files that the workflow's globs are to match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputFile>,
    /// The absolute path of a workflow file. Only over the socket in the state directory, whose peers are the user that runs the
    /// server.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// A file that comes with a workflow: `content` where it is text, else `content_base64`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// A relative path with `/` between its parts.
    pub name: String,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Its bytes (RFC 4648).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Its media type; by the ending of its name where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}

impl InputFile {
    /// A file, as it is sent.
    #[must_use]
    pub fn of(file: crate::model::Artifact) -> Self {
        let crate::model::Artifact { name, media_type, content } = file;
        let media_type = Some(media_type);
        match std::str::from_utf8(&content) {
            Ok(text) => Self { name, content: Some(text.to_owned()), content_base64: None, media_type },
            Err(_) => {
                let digits = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &content);
                Self { name, content: None, content_base64: Some(digits), media_type }
            }
        }
    }
}

/// A workflow of one step with one task of a worker: what it is called with.
///
/// # Errors
/// When the params are no params: TOML knows no null.
pub fn one_task(
    worker: &str,
    params: serde_json::Map<String, Value>,
    limits: serde_json::Map<String, Value>,
    inputs: Vec<InputFile>,
) -> Result<Submission, String> {
    let mut step = toml::Table::new();
    step.insert("id".to_owned(), "call".into());
    step.insert("worker".to_owned(), worker.into());
    step.insert("retry".to_owned(), toml::Table::from_iter([("maximum_attempts".to_owned(), 1.into())]).into());
    for (name, object) in [("params", params), ("limits", limits)] {
        if !object.is_empty() {
            let table = toml::Value::try_from(object).map_err(|error| format!("`{name}`: {error}"))?;
            step.insert(name.to_owned(), table);
        }
    }
    if !inputs.is_empty() {
        step.insert("inputs".to_owned(), toml::Value::Array(vec!["**/*".into()]));
    }
    let workflow = toml::Table::from_iter([("name".to_owned(), "call".into()), ("step".to_owned(), toml::Value::Array(vec![step.into()]))]);
    Ok(Submission { workflow: Some(workflow.to_string()), file: Some("call".to_owned()), inputs, ..Submission::default() })
}

/// The run that was accepted, or told something.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Its name.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskName {
    /// The id of its step.
    pub step: String,
    /// Its place in the step, from 0.
    pub index: u32,
}

/// Something that a person wants of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// End it: nothing of it starts any more, and what runs is ended.
    Cancel {
        /// Why.
        #[serde(default = "asked")]
        reason: String,
    },
    /// Start nothing more for now.
    Pause {
        /// Why.
        #[serde(default = "asked")]
        reason: String,
    },
    /// Go on with it: it was paused, or nobody runs it.
    Resume {},
    /// Run again what was given up.
    Retry {
        /// Which tasks; none means every one.
        #[serde(default)]
        tasks: Vec<TaskName>,
    },
    /// Want no more of dead letters.
    Discard {
        /// Which tasks; none means every one.
        #[serde(default)]
        tasks: Vec<TaskName>,
    },
    /// Let results through that wait for a person, or send them back.
    Approve {
        /// The step.
        step: String,
        /// The task; absent means every one that waits.
        #[serde(default)]
        index: Option<u32>,
        /// Whether they are let through.
        approved: bool,
        /// What the person says; of a refusal, the worker's feedback.
        #[serde(default)]
        comment: String,
    },
}

fn asked() -> String {
    "a person asked for it".to_owned()
}

/// How far the journal goes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct Head {
    /// The `seq` of the last record.
    pub head: u64,
    /// Whether the server goes on with the run that was named; true where none was.
    pub driven: bool,
}

/// A page of runs, the latest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Runs {
    /// The runs: `run`, `workflow`, `status`, `started_at`, `ended_at`, `tasks`, `completed`, `failed` and others, as
    /// `sandhog runs list --json` has them.
    #[schema(value_type = Vec<Object>)]
    pub runs: Vec<RunRow>,
    /// What `before` must be to have the next page; null when this is the last one.
    pub next: Option<String>,
}

/// A page of records.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The records: `seq`, `run`, `version`, `at`, `hash`, `event` and the event's own fields.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<crate::journal::Record>,
    /// What `after` must be to have the next page; null when there is no more now.
    pub next: Option<u64>,
}

/// A task that was given up and set aside.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LetterView {
    /// Its name: RUN/STEP/INDEX.
    pub letter: String,
    /// The run.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// The name of its workflow.
    pub workflow: String,
    /// The id of its step.
    pub step: String,
    /// The step's place in the workflow, from 0.
    pub place: u32,
    /// Its place in the step, from 0.
    pub index: u32,
    /// When it was given up.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Why, in a sentence.
    pub reason: String,
    /// Why, for a program: `because`, with `failure`, or with the first `findings` and how many `more` there are.
    #[schema(value_type = Object)]
    pub because: crate::machine::TaskReason,
}

/// A page of dead letters, those of the oldest run first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Letters {
    /// The dead letters.
    pub dead_letters: Vec<LetterView>,
    /// What `after` must be to have the next page; null when this is the last one.
    pub next: Option<String>,
}

/// What is to be done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterWord {
    /// They are run again.
    Requeue,
    /// Nobody wants more of them; their run stays as it ended.
    Discard,
}

/// What is to be done with which dead letters: those of `letters`, those that fit `run`, `workflow`, `step` and `reason`, or `all`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterCommand {
    /// What.
    pub command: LetterWord,
    /// Their names.
    #[serde(default)]
    pub letters: Vec<String>,
    /// Only of this run.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub run: Option<RunId>,
    /// Only of this workflow.
    #[serde(default)]
    pub workflow: Option<String>,
    /// Only of this step.
    #[serde(default)]
    pub step: Option<String>,
    /// Only those whose reason has this text.
    #[serde(default)]
    pub reason: Option<String>,
    /// Every one.
    #[serde(default)]
    pub all: bool,
}

/// The dead letters that something was done with.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LettersDone {
    /// Their names.
    pub letters: Vec<String>,
    /// The runs that refused, of which nothing was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<LettersRefused>,
}

/// A run that refused what was wanted of its dead letters.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LettersRefused {
    /// The run.
    #[schema(value_type = String, format = "uuid")]
    pub run: RunId,
    /// Why.
    pub why: String,
}

/// A workflow that the server offers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkflowView {
    /// The name to submit it by: its file's.
    pub name: String,
    /// What it calls itself; null where it does not read as a workflow.
    pub workflow: Option<String>,
    /// How many steps it has.
    pub steps: usize,
    /// What is wrong with it, if anything is.
    pub problem: Option<String>,
}

/// The workflows that the server offers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Workflows {
    /// In the order of their names.
    pub workflows: Vec<WorkflowView>,
}

/// A plugin in a few fields.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// `worker`, `gate` or `command`.
    pub kind: String,
    /// What it says of its version.
    pub version: Option<String>,
    /// What it says of itself.
    pub description: Option<String>,
    /// Its file, on the server.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its digest.
    pub digest: String,
    /// `serves`, `held`, `disabled` or `shadowed`.
    pub state: String,
    /// Why it is held.
    pub reason: Option<String>,
    /// Whether it came with sandhog.
    pub standard: bool,
}

/// A file of a plugin folder that is no plugin.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BadView {
    /// The file, on the server.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What the plugin folders hold, as this server serves it now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Plugins {
    /// The plugins.
    pub plugins: Vec<PluginView>,
    /// The files that are none.
    pub bad: Vec<BadView>,
}

/// A circuit breaker that is not closed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BreakerView {
    /// The plugin.
    pub plugin: String,
    /// `open` or `half_open`.
    pub state: String,
    /// Until when it is open.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub until: Option<Timestamp>,
}

/// The circuit breakers that are not closed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Breakers {
    /// In the order of their components.
    pub breakers: Vec<BreakerView>,
}

/// A task, with everything that happened to it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// The id of its step.
    pub step: String,
    /// Its place in the step, from 0.
    pub index: u32,
    /// What it works on.
    pub inputs: Vec<ArtifactView>,
    /// The records about it, in order.
    #[schema(value_type = Vec<Object>)]
    pub history: Vec<crate::journal::Record>,
    /// How many of them are left out, since all together would be too long.
    #[serde(default, skip_serializing_if = "crate::model::is_zero")]
    pub left_out: u64,
    /// What its plugins wrote.
    pub logs: Vec<LogView>,
    /// The calls that were made for it.
    pub attempts: Vec<AttemptView>,
}

/// What a plugin wrote in one attempt.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// The plugin.
    pub who: String,
    /// In which round.
    pub revision: u32,
    /// In which attempt.
    pub attempt: u32,
    /// The text: what was kept of it, with a word where some was dropped.
    pub text: String,
}

/// One call of a worker or a gate.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The plugin.
    pub who: String,
    /// Whether it is a gate.
    pub gate: bool,
    /// The gate's place in its step.
    #[serde(skip)]
    pub place: Option<u32>,
    /// In which round.
    pub revision: u32,
    /// Which attempt.
    pub attempt: u32,
    /// When it was put on record as started.
    #[schema(value_type = String, format = "date-time")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub ended_at: Option<Timestamp>,
    /// `running`, `completed`, `failed`, `passed`, `rejected` or `lost`.
    pub outcome: String,
    /// How it failed: `kind` and `message`.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Value>,
    /// What it used: `fuel`, `peak_memory_bytes`, `wall_time_ms`, `bytes_in`, `bytes_out`.
    #[schema(value_type = Option<Object>)]
    pub usage: Option<Value>,
}

/// An artifact, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// The step whose task made it; absent for an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Its name.
    pub name: String,
    /// Its media type; empty means `application/octet-stream`.
    pub media_type: String,
    /// Its size.
    pub size_bytes: u64,
    /// The digest of its content.
    pub digest: String,
}

/// What the tasks of a run made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Artifacts {
    /// Of every task that has made something, in the order of steps and tasks; of its last attempt.
    pub artifacts: Vec<ArtifactView>,
}

/// What the process takes of the machine.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_files: u64,
}

/// How the server is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of sandhog.
    pub version: String,
    /// When it started.
    #[schema(value_type = String, format = "date-time")]
    pub started_at: Timestamp,
    /// The `seq` of the journal's last record.
    pub head: u64,
    /// Whether a token is asked for.
    pub auth: bool,
    /// Whether plugins can be uploaded.
    pub uploads: bool,
    /// Runs that have not ended and are gone on with.
    pub open_runs: usize,
    /// Calls that execute, or are next in line.
    pub executing: usize,
    /// Tasks that wait for a place, a time, a breaker or a person.
    pub queued: u64,
    /// Instances that are alive.
    pub live_instances: usize,
    /// How many calls execute at once at most.
    pub concurrency: usize,
    /// Connections that follow live events.
    pub subscribers: usize,
    /// The process.
    pub process: ProcessView,
}

/// How the server was during one interval.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// The interval's end.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Attempts of workers and gates that ended.
    pub attempts_per_second: f64,
    /// Records of the journal.
    pub events_per_second: f64,
    /// The weighted wasm instructions of those attempts.
    pub fuel_per_second: f64,
    /// Calls that execute, or are next in line.
    pub executing: usize,
    /// Tasks that wait.
    pub queued: u64,
    /// Instances that are alive.
    pub live_instances: usize,
    /// The memory that these may take by their limits.
    pub guest_memory_bytes: u64,
    /// The resident memory of the process.
    pub resident_bytes: u64,
}

/// How the server was lately.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// How long an interval is.
    pub interval_ms: u64,
    /// The last intervals, the oldest first.
    pub samples: Vec<Sample>,
}

/// A page of the journal's usage.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JournalUsage {
    /// `runs`, `records`, `blobs`, `blob_bytes`, `file_bytes`.
    #[schema(value_type = Object)]
    pub usage: Value,
}

/// What a verification of the journal found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// Whether nothing is wrong.
    pub intact: bool,
    /// What is: `run`, `version`, `seq`, `what`.
    #[schema(value_type = Vec<Object>)]
    pub damages: Vec<Value>,
}

/// A token, for a session of a browser.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The server's token.
    pub token: String,
}

/// Which runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Only those accepted before this one: `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<RunId>,
    /// Only those that have not ended.
    #[serde(default)]
    pub open: bool,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// From where.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only those behind this `seq`, or, of one run, behind this `version`.
    #[serde(default)]
    pub after: u64,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Whether to wait.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Wait for the run's end, so long at most, such as `30s`; at most 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// How far a reader has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HeadQuery {
    /// Answer as soon as the journal goes further than this; 0 means at once.
    #[serde(default)]
    pub after: u64,
    /// Answer at once where this run is not gone on with.
    #[param(value_type = Option<String>, format = "uuid")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// Which step.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StepQuery {
    /// Its id.
    pub step: String,
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LettersQuery {
    /// Only of this run.
    #[param(value_type = Option<String>, format = "uuid")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Only of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Only of this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Only those whose reason has this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only those behind this one: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What is followed, over server-sent events. Lists are separated by commas.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only behind this `seq`; from now on without. A `last-event-id` header stands over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// Plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins: Option<String>,
    /// Topics: runs, steps, tasks, breakers, progress, logs, stats, plugins. Without: the first four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<String>,
    /// What happens when the reader is slow: `wait`, so that it gets every record, late (the default), or `skip` to what is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<super::hub::Lag>,
}
