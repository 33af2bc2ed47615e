//! What can be asked of a host, and told to it: the one set of operations behind every door.
//!
//! Commands go to the manager, and are in the journal when they return. Queries read the journal and the registry. Nothing here
//! grants anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, Topic};
use super::metrics::{Metrics, Moment, process};
use super::problem::{Code, Problem};
use super::shapes::{
    Accepted, ArtifactView, Artifacts, AttemptView, BadView, BreakerView, Breakers, Command, Events, Head, InputFile, JournalUsage,
    LetterCommand, LetterView, LetterWord, Letters, LettersDone, LettersQuery, LettersRefused, LogView, PluginView, Plugins, Runs,
    RunsQuery, Sample, Stats, Status, Submission, TaskName, TaskView, Verified, WorkflowView, Workflows,
};
use super::whereabouts::Whereabouts;
use crate::client::Client;
use crate::clock::{Clock as _, Stopwatch, SystemClock};
use crate::config::workflow::{self, Source};
use crate::journal::{DeadLetter, READ_BYTES_MAX, READ_MAX, RunRow, Sqlite, each_dead_letter};
use crate::machine::{BreakerState, Event, Input, TaskKey};
use crate::manager::{self, Handle};
use crate::model::text::counted;
use crate::model::{Artifact, ArtifactRef, Digest, RunId, Workflow, artifact};
use crate::prepare;
use crate::registry::{self, Entry, REPLACING, REPLACING_LOOK, Registry, intake};
use crate::report::{self, RunReport, log_text, usage_json};
use crate::runtime::Runtime;

/// Reads a workflow file of this machine and the files that it names.
pub type Prepare = Arc<dyn Fn(&Path) -> Result<(Workflow, Vec<Vec<Artifact>>), Problem> + Send + Sync>;

/// How many runs, records or dead letters a page has at most.
pub const PAGE_MAX: usize = 1000;
/// How many it has where nobody says.
const PAGE: usize = 100;
/// The furthest place that a journal has: what a client says beyond that is behind everything, too.
const SEQ_MAX: u64 = i64::MAX as u64 - 1;
/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 200;
/// How much a person may say with a command, in bytes: it is kept with each task that it is about.
const SAID_BYTES_MAX: usize = 4096;
/// How many runs are folded into reports at once.
const REPORTS_AT_ONCE: usize = 4;
/// How much that may be of all tasks that one command is about, in bytes: it is recorded at once, and others wait for that.
const SAID_BYTES_MAX_OF_ALL: u64 = 4 << 20;

/// Whether a text is an idempotency key. It goes through a header of HTTP, which keeps no more than that as it is.
///
/// # Errors
/// What is expected.
pub fn check_key(key: &str) -> Result<(), Problem> {
    let fits = !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.trim() == key && key.bytes().all(|b| matches!(b, b' '..=b'~'));
    let expected = || format!("expected an idempotency key of 1 to {KEY_BYTES_MAX} printable ASCII characters, without blanks at its ends");
    if fits { Ok(()) } else { Err(Problem::new(Code::Malformed, expected())) }
}
/// How long a request may wait for the end of a run.
pub const WAIT_MAX: Duration = Duration::from_mins(5);
/// How long a request waits for the journal to go further before it answers that it did not: a peer that is gone is noticed.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// How often the host is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many looks are kept: ten minutes.
const SAMPLES_MAX: usize = 600;
/// How many looks at a host where nothing runs make the memory that it started with.
const QUIET_LOOKS: usize = 30;
/// How much the memory of a host where nothing runs may grow before that is told, in bytes; and again at each doubling.
const GROWTH_TOLD: i64 = 512 << 20;
/// How many workflow files one folder offers.
const WORKFLOWS_MAX: usize = 1000;
/// How many bytes of records the history of a task has, as JSON.
const HISTORY_BYTES_MAX: usize = 16 << 20;

/// What a host is made of.
pub struct Parts {
    /// The manager.
    pub handle: Handle,
    /// The sandbox.
    pub runtime: Runtime,
    /// The plugins.
    pub registry: Arc<Registry>,
    /// How many calls execute at once.
    pub concurrency: usize,
    /// The journal's file, where it is one.
    pub journal: Option<Arc<Sqlite>>,
    /// Reads workflow files of this machine.
    pub prepare: Prepare,
}

/// What a server offers beyond its parts.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Folders whose workflows can be submitted by name.
    pub workflows: Vec<PathBuf>,
    /// The plugin folder that uploads go into; none are taken without.
    pub upload: Option<PathBuf>,
    /// Whether a token is asked for.
    pub auth: bool,
    /// This very host, for the doors that are clients of it.
    pub itself: Option<Client>,
    /// Whether the host is watched from the start, and not only once somebody follows it.
    pub watched: bool,
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    offer: Offer,
    hub: Hub,
    metrics: Metrics,
    whereabouts: Whereabouts,
    started_at: Timestamp,
    followers: Arc<AtomicUsize>,
    samples: Mutex<VecDeque<Sample>>,
    growth: AtomicI64,
    /// Taken by who verifies the journal.
    verifying: Arc<Semaphore>,
    /// Taken by who folds a whole run.
    reports: Arc<Semaphore>,
    stop: CancellationToken,
}

/// One that waits for news of a run, as long as it waits.
struct Follower(Arc<AtomicUsize>);

impl Follower {
    fn new(followers: &Arc<AtomicUsize>) -> Self {
        followers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(followers))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What runs beside the operations, until it is stopped.
pub struct Beside(Vec<JoinHandle<()>>);

impl Beside {
    /// Waits until all of it has ended.
    pub async fn ended(self) {
        for task in self.0 {
            let _ = task.await;
        }
    }
}

/// Reads away from the threads that others wait for.
async fn reading<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let read = tokio::task::spawn_blocking(work).await;
    read.unwrap_or_else(|_| Err(Problem::new(Code::Failed, "a panic while the workflow was read")))
}

impl Service {
    /// The operations of a host, and what runs beside them until [`Service::stop`] is cancelled.
    #[must_use]
    pub fn start(parts: Parts, offer: Offer) -> (Self, Beside) {
        let stop = CancellationToken::new();
        let metrics = Metrics::default();
        let (store, handle) = (Arc::clone(parts.handle.store()), parts.handle.clone());
        let (hub, reading) = Hub::start(store, move || handle.notices(), metrics.clone(), offer.watched, stop.clone());
        let inner = Inner {
            parts,
            offer,
            hub,
            metrics,
            whereabouts: Whereabouts::default(),
            started_at: SystemClock.now(),
            followers: Arc::default(),
            samples: Mutex::default(),
            growth: AtomicI64::new(0),
            verifying: Arc::new(Semaphore::new(1)),
            reports: Arc::new(Semaphore::new(REPORTS_AT_ONCE)),
            stop,
        };
        let service = Self { inner: Arc::new(inner) };
        let mut beside = vec![reading];
        if service.inner.offer.watched {
            beside.push(tokio::spawn(service.clone().sample()));
            #[cfg(feature = "otlp")]
            {
                let store = Arc::clone(service.handle().store());
                beside.push(tokio::spawn(super::traces::export(store, service.stop().clone())));
            }
        }
        (service, Beside(beside))
    }

    /// What is followed live.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// What the server offers.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.inner.offer
    }

    /// The plugins.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.parts.registry
    }

    /// Cancelled when the server ends.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// How many wait here for news of a run that is gone on with.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.inner.followers.load(Ordering::Relaxed)
    }

    /// The `seq` of the journal's last record.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.handle().store().head().borrow()
    }

    fn handle(&self) -> &Handle {
        &self.inner.parts.handle
    }

    fn store(&self) -> &dyn crate::journal::Store {
        &**self.inner.parts.handle.store()
    }

    /// Has a run accepted. Paths of this machine are taken from its own user alone.
    ///
    /// # Errors
    /// When what was submitted is wrong, a key is taken, or the host fails.
    pub async fn submit(&self, submission: Submission, key: Option<String>, own_user: bool) -> Result<Accepted, Problem> {
        key.as_deref().map_or(Ok(()), check_key)?;
        let (workflow, files) = self.prepared(submission, own_user).await?;
        let run = self.handle().submit(workflow, files, key).await?;
        Ok(Accepted { run })
    }

    /// What a workflow would do.
    ///
    /// # Errors
    /// When what was submitted is wrong.
    pub async fn plan(&self, submission: Submission, own_user: bool) -> Result<Value, Problem> {
        let (workflow, files) = self.prepared(submission, own_user).await?;
        Ok(report::plan_json(&workflow, &files.iter().map(Vec::len).collect::<Vec<_>>()))
    }

    async fn prepared(&self, submission: Submission, own_user: bool) -> Result<(Workflow, Vec<Vec<Artifact>>), Problem> {
        let Submission { name, workflow, file, inputs, path } = submission;
        let path = match (name, workflow, path) {
            (None, Some(text), None) => return self.prepared_text(file.unwrap_or_else(|| "workflow".to_owned()), text, inputs).await,
            (Some(name), None, None) if inputs.is_empty() => {
                let service = self.clone();
                reading(move || service.find_workflow(&name)).await?
            }
            (None, None, Some(path)) if own_user && path.is_absolute() && inputs.is_empty() => path,
            (None, None, Some(_)) if !own_user => {
                let help = "send the workflow's text as `workflow`, with its files as `inputs`";
                return Err(Problem::new(Code::Forbidden, "paths of this machine are for its own user alone").help(help));
            }
            _ => {
                let help = "send `name`, or `workflow` with the files that its globs match as `inputs`";
                return Err(
                    Problem::new(Code::Invalid, "expected one of `name` and `workflow`, and `inputs` only with the latter").help(help)
                );
            }
        };
        let prepare = Arc::clone(&self.inner.parts.prepare);
        reading(move || prepare(&path)).await
    }

    async fn prepared_text(&self, file: String, text: String, inputs: Vec<InputFile>) -> Result<(Workflow, Vec<Vec<Artifact>>), Problem> {
        let decoded = reading(move || {
            let mut sent = BTreeMap::new();
            for input in inputs {
                let file = decode(input)?;
                if let Some(twice) = sent.insert(file.name.clone(), file) {
                    return Err(Problem::new(Code::Invalid, format!("two of the `inputs` are named {:?}", twice.name)));
                }
            }
            Ok(sent)
        });
        let given = Arc::new((file, text, decoded.await?));
        let watch = Stopwatch::start();
        loop {
            let (service, given) = (self.clone(), Arc::clone(&given));
            let read = move || {
                let (file, text, sent) = &*given;
                let (source, files) = service.checked_text(file, text, sent)?;
                let told = |entry: &Entry| tracing::info!(plugin = %entry.name, "compiling, once");
                let loaded = prepare::load_plugins(&source, &service.inner.parts.registry, told);
                Ok(loaded.map(|()| (source.workflow, files)))
            };
            match reading(read).await? {
                // It is being replaced at this moment: soon there is another, which has to fit as well.
                Err(registry::Error::Replaced { .. }) if watch.elapsed() < REPLACING => tokio::time::sleep(REPLACING_LOOK).await,
                loaded => return Ok(loaded?),
            }
        }
    }

    fn checked_text(&self, file: &str, text: &str, sent: &BTreeMap<String, Artifact>) -> Result<(Source, Vec<Vec<Artifact>>), Problem> {
        let registry = &self.inner.parts.registry;
        let (source, problems) = workflow::read_all(file, text);
        // A component of this machine's disk is named by its own user alone, and nobody learns what lies there.
        if let Some(path) = source.plugins().map(workflow::Use::name).find(|name| registry::is_path(name)) {
            let detail = format!("`{path}` is a path, and a workflow that is sent names plugins");
            return Err(Problem::new(Code::Forbidden, detail).help("GET /v1/plugins lists those that there are"));
        }
        match (problems, prepare::check_plugins(&source, registry)) {
            (None, Ok(())) => {}
            (Some(problems), Ok(())) | (None, Err(problems)) => return Err(problems.into()),
            (Some(problems), Err(others)) => return Err(problems.and(others).into()),
        }
        let names: Vec<String> = sent.keys().cloned().collect();
        let read = |name: &str| sent.get(name).cloned().ok_or_else(|| std::io::Error::other("it was not sent"));
        let files = prepare::match_inputs(&source, "the names of the `inputs` that were sent", &names, read)?;
        Ok((source, files))
    }

    fn find_workflow(&self, name: &str) -> Result<PathBuf, Problem> {
        let found = self.workflow_files().remove(name);
        found.ok_or_else(|| {
            let help = match self.inner.offer.workflows.is_empty() {
                true => "the server offers none: `workflows` in [serve] names folders that have some",
                false => "GET /v1/workflows lists those that are offered",
            };
            Problem::new(Code::NotFound, format!("there is no workflow named `{name}`")).help(help)
        })
    }

    /// The workflow files that are offered, by their names; the first folder that has one counts.
    fn workflow_files(&self) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        for folder in &self.inner.offer.workflows {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for path in entries.take(WORKFLOWS_MAX).flatten().map(|entry| entry.path()) {
                let name = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
                if let Some(name) = name.filter(|_| path.extension().is_some_and(|extension| extension == "toml") && path.is_file()) {
                    found.entry(name).or_insert(path);
                }
            }
        }
        found
    }

    /// The workflows that can be submitted by name.
    pub async fn workflows(&self) -> Workflows {
        let service = self.clone();
        let look = move || {
            let files = service.workflow_files().into_iter();
            files
                .filter_map(|(name, path)| {
                    let text = intake::read(&path, crate::config::reader::FILE_BYTES_MAX).ok()?;
                    let text = String::from_utf8(text).ok()?;
                    let (source, problems) = workflow::read_all(&name, &text);
                    let problem = problems.map(|problems| problems.problems[0].message.clone());
                    let steps = source.workflow.steps.len();
                    // A file of another kind beside the workflows is not offered.
                    let workflow = Some(source.workflow.name).filter(|_| problem.is_none());
                    (steps > 0 || text.contains("[[step]]")).then_some(WorkflowView { name, workflow, steps, problem })
                })
                .collect()
        };
        Workflows { workflows: tokio::task::spawn_blocking(look).await.unwrap_or_default() }
    }

    /// Tells a run something.
    ///
    /// # Errors
    /// When there is no such run, step or task, or the run is in no state for it.
    pub async fn command(&self, run: RunId, command: Command) -> Result<Accepted, Problem> {
        let row = self.run(run).await?;
        match into_input(command, &row)? {
            Some(input) => self.handle().command(run, input).await?,
            None => self.handle().resume(run).await?,
        }
        Ok(Accepted { run })
    }

    /// A run in a line.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn run(&self, run: RunId) -> Result<RunRow, Problem> {
        self.store().run(&run).await?.ok_or_else(|| Problem::no_run(run))
    }

    /// A page of runs.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn runs(&self, query: &RunsQuery) -> Result<Runs, Problem> {
        let limit = limit(query.limit)?;
        let runs = self.store().runs(query.before, query.open, limit).await?;
        let next = runs.last().filter(|_| runs.len() == limit).map(|last| last.run.to_string());
        Ok(Runs { runs, next })
    }

    /// The whole story of a run, once it has ended, or as it stands when the wait is over.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn report(&self, run: RunId, wait: Option<Duration>) -> Result<Value, Problem> {
        if let Some(wait) = wait {
            self.ended_within(run, wait).await?;
        }
        // It is as large as the run: not many at once, and not where others are waited for.
        let place = Arc::clone(&self.inner.reports).acquire_owned().await;
        let mut report = self.folded(run).await?;
        let breakers = report::breakers(self.store()).await?;
        report::mark_blocked(&mut report, &breakers, SystemClock.now());
        reading(move || {
            let _place = place;
            Ok(report.to_json())
        })
        .await
    }

    async fn folded(&self, run: RunId) -> Result<RunReport, Problem> {
        report::run_report(self.store(), run).await?.ok_or_else(|| Problem::no_run(run))
    }

    /// Whether a run has ended, or ends within some time. One that nobody goes on with is not waited for.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn ended_within(&self, run: RunId, wait: Duration) -> Result<bool, Problem> {
        self.run(run).await?;
        if self.handle().drives(run).await? {
            let _follower = Follower::new(&self.inner.followers);
            tokio::select! {
                ended = self.handle().wait(run) => drop(ended),
                () = tokio::time::sleep(wait) => {}
                () = self.inner.stop.cancelled() => {}
            }
        }
        Ok(self.run(run).await?.ended_at.is_some())
    }

    /// A page of a run's records.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn events_of(&self, run: RunId, after: u64, most: Option<u32>) -> Result<Events, Problem> {
        let limit = limit(most)?;
        let events = self.store().read(&run, after.min(SEQ_MAX) + 1, limit).await?;
        let version = if run == RunId::HOST { u64::MAX } else { self.run(run).await?.version };
        let next = events.last().map(|last| last.version).filter(|last| *last < version);
        Ok(Events { events, next })
    }

    /// A page of all records.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn events(&self, after: u64, most: Option<u32>) -> Result<Events, Problem> {
        let limit = limit(most)?;
        let events = self.store().after(after.min(SEQ_MAX), limit).await?;
        let next = events.last().map(|last| last.seq).filter(|last| *last < *self.store().head().borrow());
        Ok(Events { events, next })
    }

    /// How far the journal goes: as soon as it goes further than `after`, or a while later, or when `run` is not gone on with.
    ///
    /// # Errors
    /// When the host ends.
    pub async fn head(&self, after: u64, run: Option<RunId>) -> Result<Head, Problem> {
        let mut head = self.handle().store().head();
        let driven = match run {
            Some(run) => self.handle().drives(run).await?,
            None => true,
        };
        if after == 0 || !driven {
            let head = *head.borrow(); // to be sure that somebody is here
            return Ok(Head { head, driven });
        }
        let _follower = run.map(|_| Follower::new(&self.inner.followers));
        tokio::select! {
            grown = head.wait_for(|head| *head > after) => drop(grown.map_err(|_| manager::Error::Stopped)?),
            () = tokio::time::sleep(HEAD_WAIT) => {}
            () = self.inner.stop.cancelled() => return Err(manager::Error::Stopped.into()),
        }
        let head = *head.borrow();
        Ok(Head { head, driven })
    }

    /// A blob of the journal.
    ///
    /// # Errors
    /// When there is no such blob.
    pub async fn blob(&self, digest: Digest) -> Result<Bytes, Problem> {
        Ok(self.store().blob(&digest).await?)
    }

    /// What the tasks of a run made.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn artifacts(&self, run: RunId) -> Result<Artifacts, Problem> {
        let _place = self.inner.reports.acquire().await;
        let report = self.folded(run).await?;
        let of_task = |(key, task): (&TaskKey, &crate::report::TaskReport)| {
            let step = report.workflow.steps[key.step as usize].id.clone();
            let index = key.index;
            let view =
                move |artifact: &ArtifactRef| ArtifactView { step: Some(step.clone()), index: Some(index), ..artifact_view(artifact) };
            task.artifacts.iter().map(view).collect::<Vec<_>>()
        };
        Ok(Artifacts { artifacts: report.tasks.iter().flat_map(of_task).collect() })
    }

    /// The content of something that a task of a run made, or works on, with its name.
    ///
    /// # Errors
    /// When the run has nothing of that digest.
    pub async fn artifact(&self, run: RunId, digest: Digest) -> Result<(String, Bytes), Problem> {
        self.run(run).await?;
        let found = self.inner.whereabouts.find(self.store(), run, &digest).await?;
        let missing = || Problem::new(Code::NotFound, format!("the run has no artifact {digest}"));
        let found = found.ok_or_else(|| missing().help("GET /v1/runs/{run}/artifacts lists them"))?;
        let content = self.store().content(&found).await?;
        Ok((found.name, content))
    }

    /// A task, with everything that happened to it.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn task(&self, run: RunId, step: &str, index: u32) -> Result<TaskView, Problem> {
        let row = self.run(run).await?;
        let key = TaskKey { step: place(&row, step)?, index };
        let mut view = TaskView {
            step: step.to_owned(),
            index,
            inputs: Vec::new(),
            history: Vec::new(),
            left_out: 0,
            logs: Vec::new(),
            attempts: Vec::new(),
        };
        let mut steps = Vec::new();
        let mut room = HISTORY_BYTES_MAX;
        let (mut tasks, mut revision, mut version) = (0, 0, 1);
        loop {
            let records = self.store().read(&run, version, READ_MAX).await?;
            let Some(last) = records.last() else { break };
            version = last.version + 1;
            for record in records {
                match &record.event {
                    Event::RunStarted { workflow: Workflow { steps: more, .. }, .. } | Event::PlanAccepted { steps: more, .. } => {
                        steps.extend_from_slice(more);
                    }
                    Event::StepStarted { step, inputs, tasks: count } if *step == key.step => {
                        tasks = *count;
                        view.inputs = self.inputs(inputs, steps.get(key.step as usize).is_some_and(|step| step.foreach), index).await?;
                    }
                    _ => {}
                }
                if record.event.task() == Some(key) {
                    if let (Event::AttemptStarted { revision: round, .. }, Some(_)) = (&record.event, steps.get(key.step as usize)) {
                        revision = *round;
                    }
                    if let Some(step) = steps.get(key.step as usize) {
                        tell_attempt(&mut view, &record, step, revision);
                    }
                    let bytes = serde_json::to_vec(&record).map_or(0, |json| json.len());
                    if bytes <= room {
                        room -= bytes;
                        view.history.push(record);
                    } else {
                        view.left_out += 1;
                    }
                }
            }
        }
        if index >= tasks {
            let detail = format!("the step `{step}` has no task {index}: it has {tasks}");
            return Err(Problem::new(Code::NotFound, detail).help("a task is named by its place in the step, from 0"));
        }
        Ok(view)
    }

    async fn inputs(&self, list: &Digest, foreach: bool, index: u32) -> Result<Vec<ArtifactView>, Problem> {
        let listed = match foreach {
            true => manager::input_at(self.store(), list, index).await?.into_iter().collect(),
            false => manager::inputs_of(self.store(), list).await?,
        };
        Ok(listed.iter().map(artifact_view).collect())
    }

    /// A page of dead letters.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn letters(&self, query: &LettersQuery) -> Result<Letters, Problem> {
        let limit = limit(query.limit)?;
        let mut after = query.after.as_deref().map(parse_cursor).transpose()?;
        let (mut page, mut room) = (Vec::new(), READ_BYTES_MAX);
        loop {
            let is_filtered = query.workflow.is_some() || query.step.is_some() || query.reason.is_some();
            let wanted = if is_filtered { READ_MAX } else { limit - page.len() };
            let letters = self.store().dead_letters(query.run, after, wanted).await?;
            if letters.is_empty() {
                return Ok(Letters { dead_letters: page, next: None });
            }
            for letter in letters {
                after = Some((letter.run, letter.task));
                if !fits(&letter, query) {
                    continue;
                }
                let view = letter_view(&letter);
                room = room.saturating_sub(serde_json::to_vec(&view).map_or(0, |json| json.len()));
                page.push(view);
                if page.len() == limit || room == 0 {
                    return Ok(Letters { dead_letters: page, next: Some(cursor(letter.run, letter.task)) });
                }
            }
        }
    }

    /// Does something with dead letters.
    ///
    /// # Errors
    /// When none is named, or one that is named is not there; nothing is done then.
    pub async fn deal(&self, command: LetterCommand) -> Result<LettersDone, Problem> {
        let LetterCommand { command: word, letters, run, workflow, step, reason, all } = command;
        let filtered = run.is_some() || workflow.is_some() || step.is_some() || reason.is_some();
        if usize::from(!letters.is_empty()) + usize::from(filtered) + usize::from(all) != 1 {
            let help = "send `letters`, or a filter (`run`, `workflow`, `step`, `reason`), or `\"all\": true`";
            return Err(Problem::new(Code::Invalid, "expected one way to say which dead letters").help(help));
        }
        let query = LettersQuery { run, workflow, step, reason, after: None, limit: None };
        let mut chosen: Vec<(String, RunId, TaskKey)> = Vec::new();
        if letters.is_empty() {
            let take = |letter: DeadLetter| {
                if fits(&letter, &query) {
                    chosen.push((letter_name(&letter), letter.run, letter.task));
                }
            };
            each_dead_letter(self.store(), run, take).await?;
        } else {
            let missing = |name: &str| {
                Problem::new(Code::NotFound, format!("there is no dead letter {name}")).help("GET /v1/dead-letters lists them")
            };
            let mut named: BTreeMap<RunId, BTreeSet<&str>> = BTreeMap::new();
            for name in &letters {
                let run = name.split('/').next().and_then(|run| run.parse().ok()).ok_or_else(|| missing(name))?;
                named.entry(run).or_default().insert(name);
            }
            for (run, mut names) in named {
                let take = |letter: DeadLetter| {
                    let name = letter_name(&letter);
                    if names.remove(name.as_str()) {
                        chosen.push((name, letter.run, letter.task));
                    }
                };
                each_dead_letter(self.store(), Some(run), take).await?;
                if let Some(name) = names.first() {
                    return Err(missing(name));
                }
            }
        }
        let mut by_run: BTreeMap<RunId, Vec<TaskKey>> = BTreeMap::new();
        for (_, run, task) in &chosen {
            by_run.entry(*run).or_default().push(*task);
        }
        // What one run refuses is nothing to the others.
        let (mut refused, mut first) = (BTreeMap::new(), None);
        for (run, tasks) in by_run {
            let input = match word {
                LetterWord::Requeue => Input::Requeue { tasks },
                LetterWord::Discard => Input::Discard { tasks },
            };
            match self.handle().command(run, input).await {
                Ok(()) => {}
                Err(error @ crate::manager::Error::Stopped) => return Err(error.into()),
                Err(error) => {
                    refused.insert(run, error.to_string());
                    first = first.or(Some(error));
                }
            }
        }
        let letters: Vec<String> = chosen.into_iter().filter(|(_, run, _)| !refused.contains_key(run)).map(|(name, _, _)| name).collect();
        match first {
            Some(error) if letters.is_empty() => Err(error.into()),
            _ => Ok(LettersDone { letters, refused: refused.into_iter().map(|(run, why)| LettersRefused { run, why }).collect() }),
        }
    }

    /// What the plugin folders hold.
    #[must_use]
    pub fn plugins(&self) -> Plugins {
        let registry = &self.inner.parts.registry;
        let shelf = registry.shelf();
        let standard = shelf.settings.standard.clone();
        let view = |entry: &Arc<Entry>, reason: Option<String>| PluginView {
            name: entry.name.clone(),
            kind: entry.kind.as_str().to_owned(),
            version: entry.manifest.version.clone(),
            description: entry.manifest.description.clone(),
            path: entry.path.to_string_lossy().into_owned(),
            size_bytes: entry.size_bytes,
            digest: entry.digest.to_string(),
            state: report::plugin_state(&shelf, entry).to_owned(),
            reason,
            standard: standard.as_ref().is_some_and(|folder| entry.path.starts_with(folder)),
        };
        let serving = shelf.plugins.values().map(|entry| view(entry, None));
        let held = shelf.held.values().map(|held| view(&held.entry, Some(held.reason.to_string())));
        let others = shelf.disabled.values().chain(&shelf.shadowed).map(|entry| view(entry, None));
        let bad = shelf.bad.iter().map(|(path, bad)| BadView { path: path.to_string_lossy().into_owned(), problem: bad.to_string() });
        Plugins { plugins: serving.chain(held).chain(others).collect(), bad: bad.collect() }
    }

    /// All about a plugin. What an environment variable holds is not told.
    ///
    /// # Errors
    /// When there is no such plugin.
    pub fn plugin(&self, name: &str) -> Result<Value, Problem> {
        let registry = &self.inner.parts.registry;
        let missing = || Problem::new(Code::NotFound, format!("there is no plugin named `{name}`")).help("GET /v1/plugins lists them");
        if registry::is_path(name) {
            return Err(missing());
        }
        let entry = registry.find_newest(name).map_err(|_| missing())?;
        Ok(self.told(&entry))
    }

    /// A plugin with all that is known of it.
    fn told(&self, entry: &Arc<Entry>) -> Value {
        let mut told = report::plugin_json(&self.inner.parts.registry, entry);
        if let Some(told) = told.as_object_mut() {
            told.remove("grant"); // has the values of variables
        }
        told
    }

    /// Takes a component into the plugin folder, where the server takes any. It serves once it has been compiled, with what its name and
    /// digest are granted: nothing, for a new one.
    ///
    /// # Errors
    /// When uploads are off, the name is none, or the component is no plugin.
    pub async fn upload(&self, name: &str, component: Bytes) -> Result<Value, Problem> {
        let Some(folder) = self.inner.offer.upload.clone() else {
            let help = "`upload` in [serve] names the plugin folder that takes them";
            return Err(Problem::new(Code::Forbidden, "this server takes no plugins").help(help));
        };
        let taken = crate::config::manifest::check_name(name);
        taken.map_err(|expected| Problem::new(Code::Malformed, format!("`{name}` cannot be a plugin's name: {expected}")))?;
        let (service, name) = (self.clone(), name.to_owned());
        let work = move || {
            let failed = |error: std::io::Error| Problem::new(Code::Failed, format!("the plugin folder cannot be written: {error}"));
            // Where nobody takes it for a plugin yet, and under the name that it has where it does not say one itself.
            let aside = tempfile::Builder::new().prefix(".upload-").tempdir_in(&folder).map_err(failed)?;
            let file = aside.path().join(format!("{name}.wasm"));
            std::fs::write(&file, &component).map_err(failed)?;
            let entry = registry::examine(&file).map_err(|bad| Problem::new(Code::Invalid, format!("this is no plugin: {bad}")))?;
            if entry.name != name {
                let detail = format!("the component calls itself `{}`, and was sent as `{name}`", entry.name);
                return Err(Problem::new(Code::Conflict, detail).help("send it under its own name"));
            }
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&file, permissions).map_err(failed)?;
            std::fs::rename(&file, folder.join(format!("{name}.wasm"))).map_err(failed)?;
            service.registry().look_again();
            // Where another folder has one of its name, that one serves, and it is not the one to be told of.
            let shelf = service.registry().shelf();
            match shelf.shadowed.iter().find(|one| one.name == name && one.digest == entry.digest) {
                Some(shadowed) => Ok(service.told(shadowed)),
                None => service.plugin(&name),
            }
        };
        let told = tokio::task::spawn_blocking(work).await;
        told.unwrap_or_else(|_| Err(Problem::new(Code::Failed, "a panic while the plugin was read")))
    }

    /// Looks through the plugin folders now, and takes what is new into service.
    pub async fn reload(&self) -> Plugins {
        let service = self.clone();
        let _ = tokio::task::spawn_blocking(move || service.registry().look_again()).await;
        self.plugins_changed();
        self.plugins()
    }

    /// What says that something changed in the plugin folders. It keeps nothing of the host open.
    pub fn tell_plugins_changed(&self) -> impl Fn() + Send + Sync + 'static {
        let service = Arc::downgrade(&self.inner);
        move || {
            if let Some(inner) = service.upgrade() {
                Self { inner }.plugins_changed();
            }
        }
    }

    /// How much the journal has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn journal_usage(&self) -> Result<JournalUsage, Problem> {
        let usage = self.on_file(|file| file.usage()).await?;
        Ok(JournalUsage { usage: json!(usage) })
    }

    /// Whether the journal's records are what they were.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn journal_verify(&self) -> Result<Verified, Problem> {
        // One after another, also where nobody waits any more: each reads all there is.
        let place = Arc::clone(&self.inner.verifying).acquire_owned().await;
        let verify = move |file: &Sqlite| {
            let _place = place;
            file.verify()
        };
        let damages = self.on_file(verify).await?;
        Ok(Verified { intact: damages.is_empty(), damages: damages.iter().map(|damage| json!(damage)).collect() })
    }

    async fn on_file<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sqlite) -> Result<T, crate::journal::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(file) = self.inner.parts.journal.clone() else {
            return Err(Problem::new(Code::NotFound, "the journal of this host is no file"));
        };
        let read = tokio::task::spawn_blocking(move || read(&file)).await;
        Ok(read.unwrap_or_else(|_| Err(crate::journal::Error::Medium("a panic while it was read".to_owned())))?)
    }

    /// Says that something changed in the plugin folders to those who follow it.
    fn plugins_changed(&self) {
        self.inner.hub.tell(Topic::Plugins, "plugins", &json!({ "at": SystemClock.now() }));
    }

    /// The circuit breakers that are not closed.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn breakers(&self) -> Result<Breakers, Problem> {
        let breakers = report::breakers(self.store()).await?;
        let view = |breaker: crate::machine::Breaker| {
            let (state, until) = match breaker.state {
                BreakerState::Open { until } => ("open", Some(until)),
                BreakerState::HalfOpen => ("half_open", None),
                BreakerState::Closed => ("closed", None),
            };
            BreakerView { plugin: breaker.plugin, state: state.to_owned(), until }
        };
        Ok(Breakers { breakers: breakers.into_iter().map(view).collect() })
    }

    /// How the host is.
    ///
    /// # Errors
    /// When it ends.
    pub async fn status(&self) -> Result<Status, Problem> {
        let load = self.handle().load().await?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.inner.started_at,
            head: *self.handle().store().head().borrow(),
            auth: self.inner.offer.auth,
            uploads: self.inner.offer.upload.is_some(),
            open_runs: load.runs,
            executing: load.under_way,
            queued: load.queued,
            live_instances: self.inner.parts.runtime.live_instances(),
            concurrency: self.inner.parts.concurrency,
            subscribers: self.inner.hub.subscribers(),
            process: process(),
        })
    }

    /// How the host was lately.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let samples = self.inner.samples.lock().unwrap_or_else(PoisonError::into_inner);
        Stats { interval_ms: INTERVAL.as_millis() as u64, samples: samples.iter().copied().collect() }
    }

    /// The figures of this moment, for Prometheus.
    ///
    /// # Errors
    /// When the host ends.
    pub async fn prometheus(&self) -> Result<String, Problem> {
        let status = self.status().await?;
        let latencies = self.handle().latencies();
        let dispatch = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];
        let dispatch = dispatch.iter().filter_map(|(word, part)| Some((*word, latencies.quantile(*part)?.as_secs_f64())));
        let word = |state: &str| if state == "open" { "open" } else { "half_open" };
        let moment = Moment {
            live_instances: status.live_instances,
            idle_instances: self.inner.parts.runtime.idle_instances(),
            reserved_memory_bytes: self.inner.parts.runtime.reserved_memory_bytes(),
            executing: status.executing,
            queued: status.queued,
            open_runs: status.open_runs,
            subscribers: status.subscribers,
            breakers: self.breakers().await?.breakers.into_iter().map(|of| (of.plugin, word(&of.state))).collect(),
            head: status.head,
            dispatch: dispatch.collect(),
            process: status.process,
            growth_bytes: self.inner.growth.load(Ordering::Relaxed),
        };
        Ok(self.inner.metrics.render(&moment))
    }

    /// Looks at the host each second, as long as it is there.
    async fn sample(self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watch = Stopwatch::start();
        let mut quiet = Quiet::default();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.inner.stop.cancelled() => return,
            }
            let Ok(status) = self.status().await else { return };
            let seconds = std::mem::replace(&mut watch, Stopwatch::start()).elapsed().as_secs_f64().max(0.001);
            let sums = self.inner.metrics.sums();
            let sample = Sample {
                at: SystemClock.now(),
                attempts_per_second: sums.attempts as f64 / seconds,
                events_per_second: sums.records as f64 / seconds,
                fuel_per_second: sums.fuel as f64 / seconds,
                executing: status.executing,
                queued: status.queued,
                live_instances: status.live_instances,
                guest_memory_bytes: self.inner.parts.runtime.reserved_memory_bytes(),
                resident_bytes: status.process.resident_bytes,
            };
            if status.executing == 0 && status.live_instances == 0 {
                self.inner.growth.store(quiet.look(status.process.resident_bytes), Ordering::Relaxed);
            }
            let mut samples = self.inner.samples.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(sample);
            drop(samples);
            self.inner.hub.tell(Topic::Stats, "stats", &json!({ "sample": sample }));
        }
    }
}

/// The memory of a host where nothing runs: what it was at first, and how it grows. A host that leaks never comes back down.
#[derive(Default)]
struct Quiet {
    looks: usize,
    at_first: u64,
    told: i64,
}

impl Quiet {
    /// How much more it is than at first.
    fn look(&mut self, resident_bytes: u64) -> i64 {
        self.looks += 1;
        if self.looks <= QUIET_LOOKS {
            self.at_first = self.at_first.max(resident_bytes);
            return 0;
        }
        let growth = resident_bytes as i64 - self.at_first as i64;
        if growth >= GROWTH_TOLD.max(self.told * 2) {
            self.told = growth;
            tracing::warn!(resident_bytes, growth_bytes = growth, "the process keeps more memory than it did at first, and nothing runs");
        }
        growth
    }
}

/// What a run is told, from what a person wants; none for what the manager does itself.
///
/// # Errors
/// When the run has no such step, or too much is said.
pub fn into_input(command: Command, row: &RunRow) -> Result<Option<Input>, Problem> {
    let (said, tasks) = match &command {
        Command::Cancel { reason } | Command::Pause { reason } => (reason.as_str(), 1),
        Command::Approve { comment, index, .. } => (comment.as_str(), if index.is_some() { 1 } else { row.approving.max(1) }),
        Command::Resume {} | Command::Retry { .. } | Command::Discard { .. } => ("", 1),
    };
    let most = (SAID_BYTES_MAX as u64).min(SAID_BYTES_MAX_OF_ALL / tasks);
    if said.len() as u64 > most {
        let detail = format!("what is said has {} bytes, and at most {most} are kept with each of {}", said.len(), counted(tasks, "task"));
        return Err(Problem::new(Code::Invalid, detail).help("say less, or name a task"));
    }
    let keys = |tasks: Vec<TaskName>| {
        let key = |task: TaskName| Ok(TaskKey { step: place(row, &task.step)?, index: task.index });
        tasks.into_iter().map(key).collect::<Result<Vec<_>, Problem>>()
    };
    Ok(Some(match command {
        Command::Cancel { reason } => Input::Cancel { reason },
        Command::Pause { reason } => Input::Pause { reason },
        Command::Resume {} => return Ok(None),
        Command::Retry { tasks } => Input::Requeue { tasks: keys(tasks)? },
        Command::Discard { tasks } => Input::Discard { tasks: keys(tasks)? },
        Command::Approve { step, index, approved, comment } => Input::Approve { step: place(row, &step)?, index, approved, comment },
    }))
}

/// A step's place in the workflow of a run.
fn place(row: &RunRow, step: &str) -> Result<u32, Problem> {
    let found = row.steps.iter().position(|id| id == step);
    found.map(|place| place as u32).ok_or_else(|| {
        let detail = format!("the run has no step `{step}`");
        Problem::new(Code::NotFound, detail).help(format!("one of {}", row.steps.join(", ")))
    })
}

fn limit(given: Option<u32>) -> Result<usize, Problem> {
    match given.map_or(PAGE, |limit| limit as usize) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => Err(Problem::new(Code::Malformed, format!("expected a `limit` of 1 to {PAGE_MAX}, found {limit}"))),
    }
}

fn decode(input: InputFile) -> Result<Artifact, Problem> {
    let InputFile { name, content, content_base64, media_type } = input;
    artifact::check_name(&name)
        .map_err(|reason| Problem::new(Code::Invalid, format!("the name {name:?} of an input is refused: {reason}")))?;
    let content: Bytes = match (content, content_base64) {
        (Some(text), None) => text.into(),
        (None, Some(digits)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(digits);
            decoded.map_err(|error| Problem::new(Code::Invalid, format!("the input {name:?} is no base64: {error}")))?.into()
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::new(Code::Invalid, format!("the input {name:?} needs one of `content` and `content_base64`")));
        }
    };
    let media_type = media_type.unwrap_or_else(|| prepare::media_type(&name).to_owned());
    artifact::check_media_type(&media_type)
        .map_err(|reason| Problem::new(Code::Invalid, format!("the media type of the input {name:?} is refused: {reason}")))?;
    Ok(Artifact { name, media_type, content })
}

fn artifact_view(artifact: &ArtifactRef) -> ArtifactView {
    ArtifactView {
        step: None,
        index: None,
        name: artifact.name.clone(),
        media_type: artifact.media_type.clone(),
        size_bytes: artifact.size_bytes,
        digest: artifact.digest.to_string(),
    }
}

fn letter_name(letter: &DeadLetter) -> String {
    format!("{}/{}/{}", letter.run, letter.step, letter.task.index)
}

fn letter_view(letter: &DeadLetter) -> LetterView {
    LetterView {
        letter: letter_name(letter),
        run: letter.run,
        workflow: letter.workflow.clone(),
        step: letter.step.clone(),
        place: letter.task.step,
        index: letter.task.index,
        at: letter.at,
        reason: letter.reason.text(),
        because: letter.reason.clone(),
    }
}

fn fits(letter: &DeadLetter, query: &LettersQuery) -> bool {
    query.workflow.as_ref().is_none_or(|workflow| *workflow == letter.workflow)
        && query.step.as_ref().is_none_or(|step| *step == letter.step)
        && query.reason.as_ref().is_none_or(|reason| letter.reason.text().contains(reason.as_str()))
}

/// A dead letter, as what comes behind it is asked for.
pub(super) fn cursor(run: RunId, task: TaskKey) -> String {
    format!("{run}/{}/{}", task.step, task.index)
}

/// The dead letter behind which a page begins, as the page before named it.
fn parse_cursor(text: &str) -> Result<(RunId, TaskKey), Problem> {
    let mut parts = text.split('/');
    let parsed = (|| {
        let run = parts.next()?.parse().ok()?;
        let (step, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some((run, TaskKey { step, index }))
    })();
    parsed.ok_or_else(|| Problem::new(Code::Malformed, "`after` is no cursor").help("it is `next` of the page before"))
}

/// Adds what a record tells of a call.
fn tell_attempt(view: &mut TaskView, record: &crate::journal::Record, step: &crate::model::Step, revision: u32) {
    let gate_name = |gate: u32| step.gates.get(gate as usize).map_or_else(String::new, |gate| gate.gate.clone());
    let mut log = |who: String, attempt: u32, log: &crate::model::Log| {
        if !log.is_empty() {
            view.logs.push(LogView { who, revision, attempt, text: log_text(log) });
        }
    };
    let (who, place, attempt, outcome, failure, receipt) = match &record.event {
        Event::AttemptStarted { attempt, provider, .. } => {
            (provider.clone().unwrap_or_else(|| step.worker.clone()), None, *attempt, "running", None, None)
        }
        Event::GateStarted { gate, attempt, provider, .. } => {
            (provider.clone().unwrap_or_else(|| gate_name(*gate)), Some(*gate), *attempt, "running", None, None)
        }
        Event::AttemptCompleted { attempt, receipt, log: said, .. } => {
            log(step.worker.clone(), *attempt, said);
            (step.worker.clone(), None, *attempt, "completed", None, Some(receipt))
        }
        Event::AttemptFailed { attempt, failure, receipt, log: said, .. } => {
            log(step.worker.clone(), *attempt, said);
            (step.worker.clone(), None, *attempt, "failed", Some(failure), Some(receipt))
        }
        Event::AttemptLost { attempt, .. } => (step.worker.clone(), None, *attempt, "lost", None, None),
        Event::GateAnswered { gate, attempt, passed, receipt, log: said, .. } => {
            log(gate_name(*gate), *attempt, said);
            (gate_name(*gate), Some(*gate), *attempt, if *passed { "passed" } else { "rejected" }, None, Some(receipt))
        }
        Event::GateFailed { gate, attempt, failure, receipt, log: said, .. } => {
            log(gate_name(*gate), *attempt, said);
            (gate_name(*gate), Some(*gate), *attempt, "failed", Some(failure), Some(receipt))
        }
        Event::GateLost { gate, attempt, .. } => (gate_name(*gate), Some(*gate), *attempt, "lost", None, None),
        _ => return,
    };
    if outcome == "running" {
        let started = AttemptView {
            who,
            gate: place.is_some(),
            place,
            revision,
            attempt,
            started_at: record.at,
            ended_at: None,
            outcome: outcome.to_owned(),
            failure: None,
            usage: None,
        };
        view.attempts.push(started);
        return;
    }
    let open = |of: &&mut AttemptView| of.ended_at.is_none() && of.place == place && of.attempt == attempt;
    let found = view.attempts.iter_mut().rev().find(open);
    if let Some(open) = found {
        open.ended_at = Some(record.at);
        outcome.clone_into(&mut open.outcome);
        open.failure = failure.map(|failure| json!({ "kind": failure.kind, "message": failure.message }));
        open.usage = receipt.map(usage_json);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(approving: u64) -> RunRow {
        let row = json!({
            "run": RunId(uuid::Uuid::from_u128(1)), "workflow": "w", "status": "running", "priority": 5, "started_at": SystemClock.now(),
            "changed_at": SystemClock.now(), "version": 1, "steps": ["s"], "tasks": approving, "completed": 0, "failed": 0,
            "dead_letters": 0, "approving": approving, "attempts": 0, "fuel": 0,
        });
        serde_json::from_value(row).expect("a run in a line")
    }

    proptest! {
        /// However many tasks wait, what is kept with all of them stays within its bound; said of one, it has that of one.
        #[test]
        fn what_is_said_of_many_tasks_is_short(approving in 0_u64..5_000, length in 0_usize..5000, index in prop::option::of(0_u32..9)) {
            let told = into_input(Command::Approve { step: "s".into(), index, approved: false, comment: "x".repeat(length) }, &row(approving));
            let tasks = if index.is_some() { 1 } else { approving.max(1) };
            let fits = length <= 4096 && length as u64 * tasks <= 4 << 20;
            prop_assert_eq!(told.is_ok(), fits, "{:?}", told);
        }
    }
}
