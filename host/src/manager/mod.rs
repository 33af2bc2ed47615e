//! The one loop: it drains its mailbox, decides for all, appends once, and only then acts.
//!
//! One task owns every run. Others hold a [`Handle`], which hides the channel. Nothing polls: a report of an attempt, a
//! command or a timer wakes the loop. No append, no effect.
//!
//! The loop's body is `Core::step`, a function of messages and a time. Calls are made by a fixed number of slots, which
//! take orders whose start is on record; that starts are on record ahead of their turn is what lets many share a sync.

mod attempt;
mod core;
mod crew;
mod inputs;
mod lookup;
#[cfg(test)]
mod simulation;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::attempt::Means;
use self::core::{Acts, Core};
use self::slots::Slots;
use crate::clock::{Clock, between};
use crate::journal::{self, Executing, READ_MAX, Record, Scoreboard, Store};
use crate::machine::{Balance, BreakerPolicy, Host, Input, Provider, Rejection, Run, RunStatus, TaskKey};
use crate::model::{Artifact, ArtifactRef, Digest, Log, RunId, Workflow};

pub use crew::{Crew, Workers};
pub use slots::Latencies;

/// How many messages wait for the loop: enough that a wide step's reports are taken in large batches; when it is full,
/// the attempts that report wait, which holds nothing else up.
const MAILBOX: usize = 8192;
/// How many messages are taken at once: bounds how long one turn of the loop takes.
const BATCH_MAX: usize = 4096;
/// How long a turn waits for more at the most, while no slot waits for it.
const GATHERING: Duration = Duration::from_millis(1);
/// How many live notices wait for a slow watcher; it is told how many it missed.
const NOTICES: usize = 1024;

/// Why the manager did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manager has stopped.
    #[error("the manager has stopped")]
    Stopped,
    /// There is no such run.
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    /// The run is in no state for it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The idempotency key is that of a run of another workflow.
    #[error("the idempotency key is that of the run {0}, of another workflow; submit with another key")]
    KeyIsTaken(RunId),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

impl Error {
    fn again(&self) -> Self {
        match self {
            Self::Stopped => Self::Stopped,
            Self::NoSuchRun(run) => Self::NoSuchRun(*run),
            Self::KeyIsTaken(run) => Self::KeyIsTaken(*run),
            Self::Rejected(rejection) => Self::Rejected(rejection.clone()),
            Self::Journal(error) => Self::Journal(error.clone()),
        }
    }
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

impl Notice {
    /// The run that it is about.
    #[must_use]
    pub fn run(&self) -> RunId {
        match self {
            Self::Progress { run, .. } | Self::Log { run, .. } => *run,
        }
    }
}

/// How much a manager has to do, at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Runs that have not ended and are gone on with here.
    pub runs: usize,
    /// Calls under way: executing, or next in line.
    pub under_way: usize,
    /// Tasks that are known and have not ended, but for those of `under_way`: they wait for a place, a time, a breaker or a person.
    pub queued: u64,
}

enum Message {
    Submit {
        workflow: Box<Workflow>,
        files: Vec<Option<Digest>>,
        key: Option<String>,
        reply: oneshot::Sender<Result<RunId, Error>>,
    },
    Command {
        run: RunId,
        input: Input,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Resume {
        run: RunId,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Wait {
        run: RunId,
        reply: oneshot::Sender<Result<RunStatus, Error>>,
    },
    Drives {
        run: RunId,
        reply: oneshot::Sender<Result<bool, Error>>,
    },
    /// Who does the work of a name may be another by now.
    PluginsChanged,
    /// A run that was not in memory was read from the journal.
    Loaded {
        run: RunId,
        loaded: Result<Option<Box<Run>>, journal::Error>,
    },
    /// What a run asked for was read.
    Found {
        run: RunId,
        input: Input,
    },
    /// A call has ended, or was not made.
    Ended {
        run: RunId,
        provider: Provider,
        input: Input,
    },
    /// How much there is to do.
    Load {
        reply: oneshot::Sender<Result<Load, Error>>,
    },
    /// To be told when nothing is under way here any more.
    Idle {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Drain,
}

impl Message {
    /// The run that is told something, or asked about.
    fn run(&self) -> Option<RunId> {
        match self {
            Self::Command { run, .. } | Self::Resume { run, .. } | Self::Wait { run, .. } | Self::Drives { run, .. } => Some(*run),
            _ => None,
        }
    }

    /// Answers that it cannot be.
    fn refuse(self, error: Error) {
        match self {
            Self::Submit { reply, .. } => drop(reply.send(Err(error))),
            Self::Command { reply, .. } | Self::Resume { reply, .. } => drop(reply.send(Err(error))),
            Self::Wait { reply, .. } => drop(reply.send(Err(error))),
            Self::Drives { reply, .. } => drop(reply.send(Err(error))),
            _ => {}
        }
    }
}

/// What others hold of a manager. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    mailbox: mpsc::Sender<Message>,
    store: Arc<dyn Store>,
    notices: broadcast::Sender<Notice>,
    latencies: Arc<Latencies>,
}

/// How a manager is to work.
#[derive(Debug)]
pub struct Options {
    /// How many calls execute at once.
    pub concurrency: usize,
    /// When circuit breakers open, and how they close again.
    pub breaker: BreakerPolicy,
    /// How the next call finds its provider, where several provide the same name.
    pub balance: Balance,
    /// Whether runs that are told something are gone on with here, and not only those submitted or resumed.
    pub drives: bool,
    /// What the host before this one was executing.
    pub executing: HashMap<RunId, Vec<Executing>>,
    /// The folder of the scoreboard; absent where the journal does not survive the process either.
    pub folder: Option<std::path::PathBuf>,
}

impl Options {
    /// So many calls at once, and nothing that outlives the process.
    #[must_use]
    pub fn in_memory(concurrency: usize) -> Self {
        Self {
            concurrency,
            breaker: BreakerPolicy::default(),
            balance: Balance::default(),
            drives: true,
            executing: HashMap::new(),
            folder: None,
        }
    }

    /// So many calls at once, recovering what a host before was executing in a folder.
    ///
    /// # Errors
    /// When the scoreboard cannot be read.
    pub fn in_folder(concurrency: usize, folder: &std::path::Path) -> Result<Self, journal::Error> {
        let executing = Scoreboard::read(folder)?;
        Ok(Self { executing, folder: Some(folder.to_owned()), ..Self::in_memory(concurrency) })
    }
}

/// A manager under way. Dropping it leaves the manager to run until every [`Handle`] is dropped.
pub struct Running {
    task: JoinHandle<Result<(), Error>>,
    stop: CancellationToken,
    mailbox: mpsc::WeakSender<Message>,
}

impl Running {
    /// Ends the manager: attempts under way are ended, and their outcomes not recorded. They are run again when their run
    /// is gone on with, and do not count.
    ///
    /// # Errors
    /// Why the manager had ended before, if it had.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.unwrap_or(Err(Error::Stopped))
    }

    /// Ends the manager once the calls that execute have ended, and at the latest after a grace period. Nothing starts
    /// any more meanwhile.
    ///
    /// # Errors
    /// Why the manager had ended before, if it had.
    pub async fn drain(self, grace: Duration) -> Result<(), Error> {
        if let Some(mailbox) = self.mailbox.upgrade() {
            let _ = mailbox.send(Message::Drain).await;
        }
        let mut task = self.task;
        match tokio::time::timeout(grace, &mut task).await {
            Ok(ended) => ended.unwrap_or(Err(Error::Stopped)),
            Err(_) => {
                self.stop.cancel();
                task.await.unwrap_or(Err(Error::Stopped))
            }
        }
    }
}

/// Starts a manager, on the caller's tokio runtime, once what a host before was executing is on record as lost.
///
/// # Errors
/// When the journal cannot be read or written.
pub async fn start(
    store: Arc<dyn Store>,
    workers: Arc<dyn Workers>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<(Handle, Running), Error> {
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let (notices, _) = broadcast::channel(NOTICES);
    let stop = CancellationToken::new();
    let Options { concurrency, breaker, balance, drives, executing, folder } = options;
    let concurrency = concurrency.max(1);
    let mut core = Core::new(Arc::clone(&store), Arc::clone(&workers), concurrency, Host::new(breaker, balance), stop.clone());
    core.drives = drives;
    core.recover(executing, clock.now()).await?;
    // Only now: until what it said is on record, it is what the next start needs.
    let scoreboard = match &folder {
        Some(folder) => Scoreboard::begin(folder)?,
        None => Scoreboard::nowhere(),
    };
    let threads = workers.threads();
    let means = Means { store: Arc::clone(&store), workers, notices: notices.clone() };
    let latencies = Arc::new(Latencies::default());
    let slots = Slots::start(concurrency, means, scoreboard, sender.downgrade(), threads, Arc::clone(&latencies));
    let manager =
        Manager { store: Arc::clone(&store), core, clock, slots, reading: JoinSet::new(), mailbox: sender.downgrade(), stop: stop.clone() };
    let task = tokio::spawn(manager.run(mailbox));
    let running = Running { task, stop, mailbox: sender.downgrade() };
    Ok((Handle { mailbox: sender, store, notices, latencies }, running))
}

impl Handle {
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Message) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(message(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Accepts a run. It is in the journal when this returns. `files` are, for each step, the files that its globs matched.
    /// With an idempotency key that was used before, it is the run of then.
    ///
    /// # Errors
    /// When the journal fails, or the manager has stopped.
    pub async fn submit(&self, workflow: Workflow, files: Vec<Vec<Artifact>>, key: Option<String>) -> Result<RunId, Error> {
        let mut lists = Vec::with_capacity(files.len());
        for of_step in files {
            lists.push(if of_step.is_empty() { None } else { Some(inputs::keep_files(&*self.store, of_step).await?) });
        }
        self.ask(|reply| Message::Submit { workflow: Box::new(workflow), files: lists, key, reply }).await
    }

    /// Tells a run something that a person wants of it. It is in the journal when this returns.
    ///
    /// # Errors
    /// When there is no such run, or it is in no state for it.
    pub async fn command(&self, run: RunId, input: Input) -> Result<(), Error> {
        self.ask(|reply| Message::Command { run, input, reply }).await
    }

    /// Cancels a run: nothing of it starts any more, and what runs is ended.
    ///
    /// # Errors
    /// When there is no such run, or it is over.
    pub async fn cancel(&self, run: RunId, reason: &str) -> Result<(), Error> {
        self.command(run, Input::Cancel { reason: reason.to_owned() }).await
    }

    /// Goes on with a run: one that is paused, or one that nobody runs since the host that did has ended.
    ///
    /// # Errors
    /// When there is no such run, or it is over.
    pub async fn resume(&self, run: RunId) -> Result<(), Error> {
        self.ask(|reply| Message::Resume { run, reply }).await
    }

    /// Whether a run is gone on with here.
    ///
    /// # Errors
    /// When the manager has stopped.
    pub async fn drives(&self, run: RunId) -> Result<bool, Error> {
        self.ask(|reply| Message::Drives { run, reply }).await
    }

    /// What says that who does the work of a name may be another by now. It keeps neither the manager nor its journal open, and blocks
    /// while the mailbox is full: not for asynchronous work.
    pub fn plugins_changed(&self) -> impl Fn() + Send + Sync + 'static {
        let mailbox = self.mailbox.downgrade();
        move || {
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.blocking_send(Message::PluginsChanged); // one that has stopped asks nobody any more
            }
        }
    }

    /// How much there is to do now.
    ///
    /// # Errors
    /// When the manager has stopped.
    pub async fn load(&self) -> Result<Load, Error> {
        self.ask(|reply| Message::Load { reply }).await
    }

    /// Waits for the end of a run that is under way, and says how it ended.
    ///
    /// # Errors
    /// When nobody runs it, or the manager stopped before it ended.
    pub async fn wait(&self, run: RunId) -> Result<RunStatus, Error> {
        self.ask(|reply| Message::Wait { run, reply }).await
    }

    /// Waits until the manager has ended: because it was told to, or because the journal failed.
    pub async fn stopped(&self) {
        self.mailbox.closed().await;
    }

    /// Waits until no run is under way here, as far as that does not depend on a person.
    ///
    /// # Errors
    /// When the manager stopped.
    pub async fn idle(&self) -> Result<(), Error> {
        self.ask(|reply| Message::Idle { reply }).await
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

    /// How long free slots waited for their next call, since the manager started.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The journal.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// The inputs of a step that has started, without content, by the digest in its event.
///
/// # Errors
/// When the journal fails.
pub async fn inputs_of(store: &dyn Store, list: &Digest) -> Result<Vec<ArtifactRef>, journal::Error> {
    inputs::described(store, list).await
}

/// The input of a step that has started at a place, without content, by the digest of the list in its event; none behind its end.
///
/// # Errors
/// When the journal fails.
pub async fn input_at(store: &dyn Store, list: &Digest, place: u32) -> Result<Option<ArtifactRef>, journal::Error> {
    inputs::described_at(store, list, place).await
}

/// The input of a step that has started which has a digest, by the digest of the list in its event.
///
/// # Errors
/// When the journal fails.
pub async fn input_of(store: &dyn Store, list: &Digest, digest: &Digest) -> Result<Option<ArtifactRef>, journal::Error> {
    inputs::find(store, list, digest).await
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
                self.ended = record.event.ends_the_run();
                return Ok(Some(record));
            }
            self.head.mark_unchanged(); // before reading, so that a record appended behind the read wakes us
            let records = self.store.read(&self.run, self.version, READ_MAX).await?;
            // A run that was opened again goes on behind its end.
            if records.is_empty() && (self.ended || self.head.changed().await.is_err()) {
                return Ok(None);
            }
            self.ready = records.into_iter();
        }
    }
}

/// The loop around the core.
struct Manager {
    store: Arc<dyn Store>,
    core: Core,
    clock: Arc<dyn Clock>,
    slots: Slots,
    reading: JoinSet<()>,
    mailbox: mpsc::WeakSender<Message>,
    stop: CancellationToken,
}

impl Manager {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) -> Result<(), Error> {
        let result = self.turns(&mut mailbox).await;
        if let Err(error) = &result {
            tracing::error!(%error, "the journal did not take what was decided: the manager stops");
            self.core.give_up(error);
        }
        self.stop.cancel();
        drop(mailbox); // slots that report find nobody, and end
        self.reading.shutdown().await;
        self.slots.stop().await;
        result
    }

    async fn turns(&mut self, mailbox: &mut mpsc::Receiver<Message>) -> Result<(), Error> {
        let mut messages = Vec::with_capacity(BATCH_MAX);
        let mut breakers = 0;
        loop {
            // Each turn costs a wake-up, and where the journal is on disk a sync. As long as the slots have work in line, nobody waits for
            // this one but who looks on: so it gathers what ends meanwhile.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.slots.run_dry() => {}
                () = tokio::time::sleep(GATHERING) => {}
            }
            let timer = self.core.next_timer().map(|at| between(self.clock.now(), at));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                taken = mailbox.recv_many(&mut messages, BATCH_MAX) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
                // A millisecond on top: a timer may fire a little early, and the wake-up would be for nothing.
                () = tokio::time::sleep(timer.unwrap_or_default() + Duration::from_millis(1)), if timer.is_some() => {}
            }
            let now = self.clock.now();
            let Acts { orders, lookups, loads } = self.core.step(messages.drain(..), now).await?;
            if self.core.host.version != breakers {
                breakers = self.core.host.version;
                self.slots.hold_off(self.core.host.held_off());
            }
            while self.reading.try_join_next().is_some() {}
            for order in orders {
                if let Some(read) = order.read_ahead(&self.store) {
                    self.reading.spawn(read);
                }
                self.slots.take(order);
            }
            for (run, lookup) in lookups {
                self.look_up(run, lookup);
            }
            for run in loads {
                let (store, mailbox) = (Arc::clone(&self.store), self.mailbox.clone());
                self.reading.spawn(async move {
                    let loaded = core::load(&*store, run).await.map(|run| run.map(Box::new));
                    if let Some(mailbox) = mailbox.upgrade() {
                        let _ = mailbox.send(Message::Loaded { run, loaded }).await;
                    }
                });
            }
            if self.core.draining {
                self.slots.drain();
                if self.core.under_way == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Reads what a run asks for from the journal, and has it told.
    fn look_up(&mut self, run: RunId, lookup: lookup::Lookup) {
        let (store, mailbox) = (Arc::clone(&self.store), self.mailbox.clone());
        self.reading.spawn(async move {
            let what = lookup.what();
            let input = lookup.answer(&*store).await.unwrap_or_else(|error| {
                tracing::error!(%run, %what, %error, "the journal cannot be read");
                Input::Cancel { reason: format!("{what} cannot be read: {error}") }
            });
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.send(Message::Found { run, input }).await;
            }
        });
    }
}
