//! The one loop: it drains its mailbox, decides for all, appends once, and only then acts.
//!
//! One task owns every run. Others hold a [`Handle`], which hides the channel. Nothing polls: a report of an attempt, a
//! command or a timer wakes the loop. No append, no effect: what the journal did not take did not happen, and the run
//! is loaded from the journal again.
//!
//! The loop's body is `Manager::step`, a function of messages and a time: tests call it with a clock of their own.

mod attempt;
mod crew;
mod inputs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp, between};
use crate::journal::{self, Append, READ_MAX, Record, Store};
use crate::machine::{Effect, Event, Input, Rejection, Run, RunStatus, StepState, TaskKey, decide};
use crate::model::{Artifact, ArtifactRef, Log, RunId, Workflow};

pub use crew::{Crew, Workers};

/// How many messages wait for the loop: enough that a wide step's reports are taken in large batches; when it is full,
/// the attempts that report wait, which holds nothing else up.
const MAILBOX: usize = 4096;
/// How many messages are taken at once: bounds how long one turn of the loop takes.
const BATCH_MAX: usize = 512;
/// How many live notices wait for a slow watcher; it is told how many it missed.
const NOTICES: usize = 1024;

/// Why the manager did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manager has stopped.
    #[error("the manager has stopped")]
    Stopped,
    /// There is no such run under way.
    #[error("there is no run {0} under way")]
    NoSuchRun(RunId),
    /// The run is in no state for it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// Something worth showing that is not an event: not kept, and missed by who does not watch.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A worker says how far it has come.
    Progress {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskKey,
        /// From 0 to 1.
        fraction: f64,
        /// A short note.
        note: String,
    },
    /// What a worker or gate wrote during an attempt that has ended.
    Log {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskKey,
        /// The gate's place in the step; absent for a worker.
        gate: Option<u32>,
        /// What it wrote.
        log: Log,
    },
}

enum Message {
    Submit { workflow: Box<Workflow>, files: Vec<Vec<ArtifactRef>>, reply: oneshot::Sender<Result<RunId, Error>> },
    Cancel { run: RunId, reason: String, reply: oneshot::Sender<Result<(), Error>> },
    Told { run: RunId, input: Input, frees_slot: bool },
}

/// What others hold of a manager. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    mailbox: mpsc::Sender<Message>,
    store: Arc<dyn Store>,
    notices: broadcast::Sender<Notice>,
}

/// A manager under way. Dropping it leaves the manager to run until every [`Handle`] is dropped.
pub struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    /// Ends the manager: attempts under way are ended, and their outcomes not recorded.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

/// Starts a manager, on the caller's tokio runtime.
pub fn start(store: Arc<dyn Store>, workers: Arc<dyn Workers>, clock: Arc<dyn Clock>, concurrency: usize) -> (Handle, Running) {
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let (notices, _) = broadcast::channel(NOTICES);
    let stop = CancellationToken::new();
    let manager = Manager {
        store: Arc::clone(&store),
        threads: workers.threads(),
        workers,
        clock,
        concurrency: concurrency.max(1),
        busy: 0,
        runs: BTreeMap::new(),
        next_run: 0,
        calls: JoinSet::new(),
        mailbox: sender.downgrade(),
        notices: notices.clone(),
        stop: stop.clone(),
    };
    let task = tokio::spawn(manager.run(mailbox));
    (Handle { mailbox: sender, store, notices }, Running { task, stop })
}

impl Handle {
    /// Accepts a run. It is in the journal when this returns. `files` are, for each step, the files that its globs matched.
    ///
    /// # Errors
    /// When the journal fails, or the manager has stopped.
    pub async fn submit(&self, workflow: Workflow, files: Vec<Vec<Artifact>>) -> Result<RunId, Error> {
        let mut references = Vec::with_capacity(files.len());
        for of_step in files {
            let mut refs = Vec::with_capacity(of_step.len());
            for file in of_step {
                refs.push(attempt::keep(&*self.store, file).await?);
            }
            references.push(refs);
        }
        let (reply, answer) = oneshot::channel();
        let message = Message::Submit { workflow: Box::new(workflow), files: references, reply };
        self.mailbox.send(message).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Cancels a run: nothing of it starts any more, and what runs is ended.
    ///
    /// # Errors
    /// When there is no such run, or it is over.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Cancel { run: run.clone(), reason: reason.to_owned(), reply };
        self.mailbox.send(message).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// The records of a run, from the first on, as they come.
    #[must_use]
    pub fn follow(&self, run: RunId) -> Feed {
        Feed { head: self.store.head(), store: Arc::clone(&self.store), run, version: 1, ready: Vec::new().into_iter(), ended: false }
    }

    /// What is worth showing beside the records, from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// The journal.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// The records of one run, in order, with nothing skipped, to its end.
pub struct Feed {
    head: watch::Receiver<u64>,
    store: Arc<dyn Store>,
    run: RunId,
    version: u64,
    ready: std::vec::IntoIter<Record>,
    ended: bool,
}

impl Feed {
    /// The next record; `None` behind the one that ends the run.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn next(&mut self) -> Result<Option<Record>, journal::Error> {
        loop {
            if let Some(record) = self.ready.next() {
                self.version = record.version + 1;
                self.ended = matches!(record.event, Event::RunCompleted | Event::RunFailed | Event::RunCancelled);
                return Ok(Some(record));
            }
            if self.ended {
                return Ok(None);
            }
            self.head.mark_unchanged(); // before reading, so that a record appended behind the read wakes us
            let records = self.store.read(&self.run, self.version, READ_MAX).await?;
            if records.is_empty() && self.head.changed().await.is_err() {
                return Ok(None);
            }
            self.ready = records.into_iter();
        }
    }
}

/// A run under way, and what of it lives only in memory.
struct Live {
    run: Run,
    cancel: CancellationToken,
    /// The inputs of active steps: read from the blobs that the events name.
    inputs: HashMap<u32, Arc<Vec<ArtifactRef>>>,
    /// Steps whose inputs are being resolved.
    resolving: HashSet<u32>,
}

/// The owner of all runs.
struct Manager {
    store: Arc<dyn Store>,
    workers: Arc<dyn Workers>,
    threads: Option<tokio::runtime::Handle>,
    clock: Arc<dyn Clock>,
    concurrency: usize,
    /// Attempts under way.
    busy: usize,
    runs: BTreeMap<RunId, Live>,
    /// Whose turn it is first when places are free.
    next_run: usize,
    calls: JoinSet<()>,
    mailbox: mpsc::WeakSender<Message>,
    notices: broadcast::Sender<Notice>,
    stop: CancellationToken,
}

/// What one turn of the loop wants appended and done.
#[derive(Default)]
struct Turn {
    appends: BTreeMap<RunId, (u64, Vec<Event>)>,
    calls: Vec<(RunId, Effect)>,
    resolve: Vec<(RunId, u32)>,
    replies: Vec<(RunId, Reply)>,
}

enum Reply {
    Submitted(oneshot::Sender<Result<RunId, Error>>),
    Done(oneshot::Sender<Result<(), Error>>),
}

impl Manager {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH_MAX);
        loop {
            let now = self.clock.now();
            // With no place free a timer could start nothing; the report that frees one wakes the loop.
            let may_start = self.busy < self.concurrency;
            let timers = self.runs.values().filter_map(|live| live.run.next_timer());
            let timer = timers.min().filter(|_| may_start).map(|at| between(now, at));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                taken = mailbox.recv_many(&mut messages, BATCH_MAX) => {
                    if taken == 0 {
                        break;
                    }
                }
                // A millisecond on top: a timer may fire a little early, and the wake-up would be for nothing.
                () = tokio::time::sleep(timer.unwrap_or_default() + Duration::from_millis(1)), if timer.is_some() => {}
            }
            let now = self.clock.now();
            self.step(messages.drain(..), now).await;
        }
        for live in self.runs.values() {
            live.cancel.cancel();
        }
        self.calls.shutdown().await;
    }

    /// One turn: all messages are decided, what is due is started, everything is appended at once, and then done.
    async fn step(&mut self, messages: impl IntoIterator<Item = Message>, now: Timestamp) {
        while self.calls.try_join_next().is_some() {}
        let mut turn = Turn::default();
        for message in messages {
            self.take(message, now, &mut turn);
        }
        self.start_due(now, &mut turn);
        self.append(now, turn).await;
        self.runs.retain(|_, live| !live.run.status.is_final());
    }

    fn take(&mut self, message: Message, now: Timestamp, turn: &mut Turn) {
        match message {
            Message::Submit { workflow, files, reply } => {
                let id = RunId(uuid::Uuid::new_v7(uuid_time(now)).to_string());
                let event = Event::RunStarted { workflow: *workflow, files };
                match Run::begin(now, &event) {
                    Ok(run) => {
                        let live = Live { run, cancel: self.stop.child_token(), inputs: HashMap::new(), resolving: HashSet::new() };
                        self.runs.insert(id.clone(), live);
                        turn.appends.insert(id.clone(), (0, vec![event]));
                        turn.replies.push((id, Reply::Submitted(reply)));
                    }
                    Err(_) => {
                        let _ = reply.send(Err(Error::Rejected(Rejection::NotUnderWay)));
                    }
                }
            }
            Message::Cancel { run, reason, reply } => match self.tell(&run, Input::Cancel { reason }, now, turn) {
                Ok(()) => {
                    if let Some(live) = self.runs.get(&run) {
                        live.cancel.cancel();
                    }
                    turn.replies.push((run, Reply::Done(reply)));
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            Message::Told { run, input, frees_slot } => {
                if frees_slot {
                    self.busy -= 1;
                }
                // A late answer (its run ended, or was loaded again) is no longer asked for.
                if let Err(error) = self.tell(&run, input, now, turn) {
                    tracing::debug!(%run, %error, "an answer came too late");
                }
            }
        }
    }

    /// Decides an input, and applies what follows in place.
    fn tell(&mut self, id: &RunId, input: Input, now: Timestamp, turn: &mut Turn) -> Result<(), Error> {
        let live = self.runs.get_mut(id).ok_or_else(|| Error::NoSuchRun(id.clone()))?;
        let before = live.run.version;
        let events = decide(&live.run, input, now)?;
        for event in &events {
            live.run.apply(now, event).expect("a decided event fits the state that it was decided on");
            if let Event::StepCompleted { step } | Event::StepFailed { step } | Event::StepCancelled { step } = event {
                live.inputs.remove(step);
            }
        }
        turn.appends.entry(id.clone()).or_insert_with(|| (before, Vec::new())).1.extend(events);
        Ok(())
    }

    /// Starts what is due, as far as there are free places; runs take turns.
    fn start_due(&mut self, now: Timestamp, turn: &mut Turn) {
        let mut ids: Vec<RunId> = self.runs.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let first = self.next_run % ids.len();
        ids.rotate_left(first);
        self.next_run = self.next_run.wrapping_add(1);
        for id in ids {
            loop {
                let free = self.concurrency.saturating_sub(self.busy);
                let Some(live) = self.runs.get_mut(&id) else { break };
                let mut moved = false;
                for effect in live.run.due(now, free) {
                    match effect {
                        Effect::ResolveInputs { step } => {
                            let Some(live) = self.runs.get_mut(&id) else { break };
                            if live.resolving.insert(step) {
                                turn.resolve.push((id.clone(), step));
                            }
                        }
                        Effect::Settle => moved |= self.tell(&id, Input::Settle, now, turn).is_ok(),
                        Effect::RunWorker { .. } | Effect::RunGate { .. } => {
                            if self.busy >= self.concurrency {
                                break;
                            }
                            if self.tell(&id, Input::Start(effect), now, turn).is_ok() {
                                self.busy += 1;
                                turn.calls.push((id.clone(), effect));
                            }
                        }
                    }
                }
                if !moved {
                    break; // nothing was closed, so nothing new can be due
                }
            }
        }
    }

    /// Appends what was decided, and then does what follows; what was not appended is undone by loading the run again.
    async fn append(&mut self, now: Timestamp, turn: Turn) {
        let Turn { appends, calls, resolve, replies } = turn;
        let ids: Vec<RunId> = appends.keys().cloned().collect();
        let appends = appends.into_iter().map(|(run, (expected_version, events))| Append { run, expected_version, at: now, events });
        let appends: Vec<Append> = appends.collect();
        let mut failed: BTreeMap<RunId, journal::Error> = BTreeMap::new();
        if !appends.is_empty() {
            for (id, result) in ids.into_iter().zip(self.store.append(appends).await) {
                if let Err(error) = result {
                    tracing::error!(run = %id, %error, "the journal did not take what was decided");
                    self.reload(&id).await;
                    failed.insert(id, error);
                }
            }
        }
        for (id, effect) in calls {
            if failed.contains_key(&id) {
                self.busy -= 1;
            } else {
                self.call(&id, effect).await;
            }
        }
        for (id, step) in resolve {
            if !failed.contains_key(&id) {
                self.resolve(&id, step);
            }
        }
        for (id, reply) in replies {
            let failure = failed.get(&id).cloned().map(Error::Journal);
            match reply {
                Reply::Submitted(reply) => drop(reply.send(failure.map_or(Ok(id), Err))),
                Reply::Done(reply) => drop(reply.send(failure.map_or(Ok(()), Err))),
            }
        }
    }

    /// Replaces a run by what the journal has of it.
    async fn reload(&mut self, id: &RunId) {
        let mut run: Option<Run> = None;
        let mut version = 1;
        while let Ok(records) = self.store.read(id, version, READ_MAX).await {
            let Some(last) = records.last() else { break };
            version = last.version + 1;
            for record in &records {
                match &mut run {
                    None => run = Run::begin(record.at, &record.event).ok(),
                    Some(run) => {
                        if let Err(error) = run.apply(record.at, &record.event) {
                            tracing::error!(run = %id, seq = record.seq, %error, "the journal is damaged");
                        }
                    }
                }
            }
        }
        match (run, self.runs.get_mut(id)) {
            (Some(run), Some(live)) => live.run = run,
            (None, Some(_)) => drop(self.runs.remove(id)),
            (Some(_) | None, None) => {}
        }
    }

    /// Calls a worker or a gate whose start is on record, and has the outcome reported, whatever happens.
    async fn call(&mut self, id: &RunId, effect: Effect) {
        let order = self.order(id, effect).await;
        let cancel = self.runs.get(id).map_or_else(CancellationToken::new, |live| live.cancel.clone());
        let (store, workers, notices) = (Arc::clone(&self.store), Arc::clone(&self.workers), self.notices.clone());
        let (mailbox, run) = (self.mailbox.clone(), id.clone());
        let call = async move {
            let input = match order {
                Some(order) => order.carry_out(store, workers, notices, cancel).await,
                None => attempt::not_called(effect),
            };
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.send(Message::Told { run, input, frees_slot: true }).await;
            }
        };
        match &self.threads {
            Some(threads) => self.calls.spawn_on(call, threads),
            None => self.calls.spawn(call),
        };
    }

    /// What a call needs; nothing where the journal has lost it.
    async fn order(&mut self, id: &RunId, effect: Effect) -> Option<attempt::Order> {
        let (Effect::RunWorker { task, .. } | Effect::RunGate { task, .. }) = effect else { return None };
        let inputs = self.inputs(id, task.step).await?;
        attempt::Order::new(id, &self.runs.get(id)?.run, effect, inputs)
    }

    /// The inputs of an active step.
    async fn inputs(&mut self, id: &RunId, step: u32) -> Option<Arc<Vec<ArtifactRef>>> {
        let live = self.runs.get(id)?;
        if let Some(inputs) = live.inputs.get(&step) {
            return Some(Arc::clone(inputs));
        }
        let StepState::Active(active) = live.run.steps.get(step as usize)? else { return None };
        let inputs = Arc::new(inputs::load(&*self.store, &active.inputs).await.ok()?);
        self.runs.get_mut(id)?.inputs.insert(step, Arc::clone(&inputs));
        Some(inputs)
    }

    /// Finds out the inputs of a step, and has them told.
    fn resolve(&mut self, id: &RunId, step: u32) {
        let Some(live) = self.runs.get(id) else { return };
        let (workflow, files) = (Arc::clone(&live.run.workflow), Arc::clone(&live.run.files));
        let (store, mailbox, run) = (Arc::clone(&self.store), self.mailbox.clone(), id.clone());
        self.calls.spawn(async move {
            let input = match inputs::resolve(&*store, &run, &workflow, &files, step).await {
                Ok((tasks, inputs)) => Input::StepInputs { step, tasks, inputs },
                Err(error) => {
                    tracing::error!(%run, step, %error, "the inputs of a step cannot be read");
                    Input::Cancel { reason: format!("the inputs of step {step} cannot be read: {error}") }
                }
            };
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.send(Message::Told { run, input, frees_slot: false }).await;
            }
        });
    }
}

/// A time as UUIDs count it.
fn uuid_time(now: Timestamp) -> uuid::Timestamp {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    uuid::Timestamp::from_unix(uuid::NoContext, seconds, u32::try_from(now.subsec_nanosecond()).unwrap_or_default())
}

/// Waits for the end of a run, and says how it ended.
///
/// # Errors
/// When the journal fails, or the manager stopped before the run ended.
pub async fn wait(handle: &Handle, run: &RunId) -> Result<RunStatus, Error> {
    let mut feed = handle.follow(run.clone());
    while let Some(record) = feed.next().await? {
        match record.event {
            Event::RunCompleted => return Ok(RunStatus::Completed),
            Event::RunFailed => return Ok(RunStatus::Failed),
            Event::RunCancelled => return Ok(RunStatus::Cancelled),
            _ => {}
        }
    }
    Err(Error::Stopped)
}
