//! One attempt: a fresh store and instance (or one that is kept, where that is granted), one call, an outcome.
//!
//! Everything that a guest can run happens inside the timer and the limits: start functions, the call, what comes after
//! it. The order at the end matters: a guest's own answer first, then whether its size is allowed.

use std::collections::HashSet;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{Store, UpdateDeadline};

use super::bindings;
use super::capture::{Capture, OutputCapture};
use super::command;
use super::filesystem::{self, Mount};
use super::outbound::Hooks;
use super::plugin::Entry;
use super::state::{CommandIo, Parts, Progress, State};
use super::warm::{Instance, Places, Share};
use super::{Inner, Kind, MEMORY_PERMIT_BYTES, Plugin, Runtime, isolation, outbound, trap};
use crate::clock::Stopwatch;
use crate::model::limits::show_bytes;
use crate::model::outbound::Canned;
use crate::model::snapshot::Looks;
use crate::model::{
    Artifact, Attempt, Failure, FailureKind, Finding, Grant, Limits, Log, Receipt, Subject, SubjectFile, Task, Verdict, artifact,
};

/// How long a cancelled guest has to notice by itself, before it is ended.
pub(super) const CANCEL_GRACE: std::time::Duration = std::time::Duration::from_millis(100);
/// How many units one file may have: each is judged by itself, within limits of its own.
const UNITS_MAX: usize = 10_000;
/// What one host call may carry beside the `output` limit: names, lengths and padding of the canonical ABI.
const HOSTCALL_SLACK_BYTES: u64 = 64 * 1024;
/// The seed of a guest that imports no randomness: what it is given to work on is not hashed for nothing.
const UNSEEN: blake3::Hash = blake3::Hash::from_bytes([0; 32]);
/// How exact the fuel of an attempt is that the host ended: a guest hands over what it has used each time it has used so
/// much (about a millisecond's work).
const FUEL_REPORT: u64 = 10_000_000;

/// What one attempt may use and touch, and how its caller hears of it.
#[derive(Clone)]
pub struct Call {
    /// What it may use.
    pub limits: Limits,
    /// What it may touch.
    pub grant: Arc<Grant>,
    /// Ends the attempt when cancelled: it may notice by itself for a moment, then it is ended.
    pub cancel: CancellationToken,
    /// Is told how far the task has come.
    pub progress: Option<Progress>,
    /// Is told what a gate looks at in its subject.
    pub looks: Option<Looks>,
    /// What answers its requests over HTTP in place of the network, if anything does.
    pub canned: Option<Arc<[Canned]>>,
}

/// What is to be called.
pub(super) enum Entrance {
    Worker(Task),
    Gate(Subject),
    Units(Subject),
}

/// What came back.
pub(super) enum Answer {
    Artifacts(Vec<Artifact>),
    Verdict(Verdict),
    Units(Vec<String>),
}

impl Runtime {
    /// Runs a task in a worker (or a command), and waits for its outcome. Dropping the future ends the attempt.
    ///
    /// Waits for a free place first, if there is none; the deadline counts from then on.
    pub async fn run(&self, plugin: &Arc<Plugin>, task: Task, call: Call) -> Attempt<Vec<Artifact>> {
        self.attempt(plugin, Entrance::Worker(task), call).await.map(|answer| match answer {
            Answer::Artifacts(artifacts) => Ok(artifacts),
            Answer::Verdict(_) | Answer::Units(_) => Err(wrong_kind(plugin, "worker")),
        })
    }

    /// Has a gate (or a command) judge a subject, and waits for its verdict. A gate that says no has succeeded.
    pub async fn check(&self, plugin: &Arc<Plugin>, subject: Subject, call: Call) -> Attempt<Verdict> {
        self.attempt(plugin, Entrance::Gate(subject), call).await.map(|answer| match answer {
            Answer::Verdict(verdict) => Ok(verdict),
            Answer::Artifacts(_) | Answer::Units(_) => Err(wrong_kind(plugin, "gate")),
        })
    }

    /// Asks a gate for the units of a subject.
    pub async fn units(&self, plugin: &Arc<Plugin>, subject: Subject, call: Call) -> Attempt<Vec<String>> {
        self.attempt(plugin, Entrance::Units(subject), call).await.map(|answer| match answer {
            Answer::Units(units) => Ok(units),
            Answer::Artifacts(_) | Answer::Verdict(_) => Err(wrong_kind(plugin, "gate with units")),
        })
    }

    pub(super) async fn attempt(&self, plugin: &Arc<Plugin>, entrance: Entrance, call: Call) -> Attempt<Answer> {
        let inner = &self.inner;
        let share = share(&call, self.is_isolated());
        if share.memory > inner.all.memory {
            let sum = show_bytes(call.limits.memory.saturating_add(call.limits.scratch));
            let most = show_bytes(u64::from(inner.all.memory) * MEMORY_PERMIT_BYTES);
            let message =
                format!("the `memory` limit, with `scratch`, is {sum}, and this host allows {most} for all instances (`memory_total`)");
            return refused(Failure::new(FailureKind::Host, message));
        }
        if share.descriptors > inner.all.descriptors {
            let message = format!(
                "with what the plugin is granted it may take {} descriptors, where this host has {} for all instances: lower its `handles`, or \
                 raise the number of files that this process may open (`ulimit -n`)",
                share.descriptors, inner.all.descriptors,
            );
            return refused(Failure::new(FailureKind::Host, message));
        }
        let seat = tokio::select! {
            biased;
            () = call.cancel.cancelled() => return refused(Failure::new(FailureKind::Cancelled, "cancelled before it started")),
            seat = seat(inner, plugin, &entrance, &call, share) => seat,
        };
        let Some((kept, places)) = seat else {
            return refused(Failure::new(FailureKind::Host, "the runtime is shutting down"));
        };
        if let Some(processes) = &inner.processes {
            return Box::pin(processes.attempt(inner, plugin, entrance, call, places)).await; // it is large, and others would have to carry it
        }
        let Some(guests) = &inner.guests else {
            return refused(Failure::new(FailureKind::Host, "the runtime is shutting down"));
        };
        if tokio::runtime::Handle::try_current().is_ok_and(|current| current.id() == guests.handle().id()) {
            // The caller is on a guest thread already (see `Runtime::spawn`): no hop.
            // Pinned where it is: awaited as it is, it would take its place in this one twice.
            let attempt = std::pin::pin!(Execution::new(inner, plugin, &call).run(entrance, kept, places));
            return AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(panicked);
        }
        let (inner, plugin) = (Arc::clone(inner), Arc::clone(plugin));
        let handle = guests.spawn(async move { Execution::new(&inner, &plugin, &call).run(entrance, kept, places).await });
        match AbortOnDropHandle::new(handle).await {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => panicked(error.into_panic()),
            Err(_) => refused(Failure::new(FailureKind::Host, "the runtime is shutting down")),
        }
    }
}

/// What an attempt holds while it is alive.
fn share(call: &Call, is_isolated: bool) -> Share {
    let memory = call.limits.memory.saturating_add(call.limits.scratch);
    let files = if call.grant.files.is_empty() { 0 } else { call.limits.handles.saturating_add(call.grant.files.len() as u32) };
    let sockets = if call.grant.outbound.is_empty() { 0 } else { outbound::DESCRIPTORS };
    let descriptors = sockets.saturating_add(if is_isolated { isolation::DESCRIPTORS } else { files });
    Share { memory: u32::try_from(memory.div_ceil(MEMORY_PERMIT_BYTES)).unwrap_or(u32::MAX), descriptors }
}

/// A panic of the host's own ends the attempt, and nothing else.
pub(super) fn panicked<T>(panic: Box<dyn std::any::Any + Send>) -> Attempt<T> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    refused(Failure::new(FailureKind::Host, format!("a panic in the host: {}", text.unwrap_or("without a message"))))
}

/// Where an attempt runs: in an instance that is kept for it, or in a place for a fresh one.
async fn seat(inner: &Inner, plugin: &Arc<Plugin>, entrance: &Entrance, call: &Call, share: Share) -> Option<(Option<Instance>, Places)> {
    if call.keeps(entrance)
        && let Some((instance, places)) = inner.warm.take(plugin, call)
    {
        return Some((Some(instance), places));
    }
    inner.warm.places(share).await.map(|places| (None, places))
}

impl Call {
    /// Whether the instance may be kept for the next task. Never that of a gate: what it says does not depend on what it judged
    /// before.
    fn keeps(&self, entrance: &Entrance) -> bool {
        self.grant.reuses() && self.canned.is_none() && matches!(entrance, Entrance::Worker(_))
    }
}

/// What an attempt fails with that has no outcome in time.
pub(super) fn late(limits: &Limits) -> Failure {
    Failure::new(FailureKind::DeadlineExceeded, format!("no outcome within the `timeout` of {:?}", limits.timeout))
}

pub(super) fn refused<T>(failure: Failure) -> Attempt<T> {
    Attempt { result: Err(failure), receipt: Receipt::default(), log: Log::default() }
}

fn wrong_kind(plugin: &Plugin, wanted: &str) -> Failure {
    Failure::new(FailureKind::InvalidInput, format!("the plugin is a {}, where a {wanted} is needed", plugin.kind().as_str()))
}

impl<T> Attempt<T> {
    fn map<U>(self, answer: impl FnOnce(T) -> Result<U, Failure>) -> Attempt<U> {
        Attempt { result: self.result.and_then(answer), receipt: self.receipt, log: self.log }
    }
}

/// One attempt under way.
struct Execution<'a> {
    inner: &'a Inner,
    plugin: &'a Arc<Plugin>,
    call: &'a Call,
    started: Stopwatch,
    deadline: Instant,
}

impl<'a> Execution<'a> {
    fn new(inner: &'a Inner, plugin: &'a Arc<Plugin>, call: &'a Call) -> Self {
        let now = Instant::now();
        // A timeout beyond what the clock can say is no deadline that anyone lives to see: a year will do.
        let deadline = now.checked_add(call.limits.timeout).unwrap_or(now + std::time::Duration::from_secs(365 * 24 * 60 * 60));
        Self { inner, plugin, call, started: Stopwatch::start(), deadline }
    }

    async fn run(self, mut entrance: Entrance, kept: Option<Instance>, places: Places) -> Attempt<Answer> {
        let limits = &self.call.limits;
        self.hide_what_differs(&mut entrance);
        let keeps = self.call.keeps(&entrance);
        let bytes_in = cost_bytes(&entrance);
        let mut receipt = Receipt { bytes_in, ..Receipt::default() };
        let refuse = |failure: Failure, receipt: Receipt| {
            let receipt = Receipt { wall_time: self.started.elapsed(), ..receipt };
            Attempt { result: Err(failure), receipt, log: Log::default() }
        };
        if let Some(refusal) = input_refusal(bytes_in, limits) {
            return refuse(refusal, receipt);
        }
        let command =
            (self.plugin.kind() == Kind::Command).then(|| command::io(&self.plugin.command, &entrance, limits.output)).transpose();
        let command = match command {
            Ok(command) => command,
            Err(failure) => return refuse(failure, receipt),
        };
        let stdout = command.as_ref().map(|c| c.stdout.clone());
        let alive = self.inner.ticker.gauge().enter();
        let instance = match kept {
            Some(kept) => self.again(kept),
            None => {
                let parts = self.parts(&entrance, command);
                let state = if parts.grant.files.is_empty() { Ok(State::new(parts)) } else { Box::pin(self.opened(parts)).await };
                state.and_then(|state| self.afresh(state))
            }
        };
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(failure) => return refuse(failure, receipt),
        };
        instance.uses += 1;
        let capture = instance.store.data().capture.clone();

        let called = {
            let mut call = std::pin::pin!(self.enter(&mut instance, entrance, stdout)); // where it is: it is large
            let mut deadline = std::pin::pin!(tokio::time::sleep_until(self.deadline));
            let mut cancelled = std::pin::pin!(cancelled(&self.call.cancel));
            let mut first = true;
            let called = poll_fn(|cx| {
                let mut is_over = |cx: &mut Context<'_>| {
                    if deadline.as_mut().poll(cx).is_ready() {
                        return Some(Err(Ended::Failure(late(limits))));
                    }
                    cancelled.as_mut().poll(cx).is_ready().then(|| Err(Ended::Failure(Failure::new(FailureKind::Cancelled, "cancelled"))))
                };
                // The timer first: an instance that is past its deadline gets no further slice. Most need one alone, and no timer.
                if !first && let Some(ended) = is_over(cx) {
                    return Poll::Ready(ended);
                }
                let polled = call.as_mut().poll(cx);
                if polled.is_pending() && std::mem::take(&mut first) {
                    return is_over(cx).map_or(Poll::Pending, Poll::Ready);
                }
                polled
            });
            // The timer counts milliseconds; an answer that came after the deadline all the same is late.
            called.await.and_then(|answer| if Instant::now() > self.deadline { Err(Ended::Failure(late(limits))) } else { Ok(answer) })
        };
        let store = &instance.store;
        let result = called.map_err(|ended| match ended {
            Ended::Failure(failure) => failure,
            Ended::Error(error) => trap::failure(&error, limits, store.data().limiter.refused(), &capture),
        });
        let result = result.map_err(|failure| match store.data().hooks.denied() {
            Some(denied) => Failure { message: format!("{}\n  {denied}", failure.message), ..failure },
            None => failure,
        });
        let result = result.and_then(|answer| {
            receipt.bytes_out = answer.cost_bytes();
            answer.checked(limits.output)
        });
        receipt.fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        receipt.peak_memory_bytes = store.data().limiter.peak_bytes();
        let log = capture.finish();
        let bears_more = keeps && result.is_ok() && instance.uses < self.call.grant.reuse && !store.data().limiter.is_half_full();
        if bears_more && !self.call.cancel.is_cancelled() {
            self.inner.warm.put(instance, places, self.plugin, self.call);
        } else {
            drop(instance);
            drop(places);
        }
        drop(alive);
        receipt.wall_time = self.started.elapsed();
        Attempt { result, receipt, log }
    }

    /// A plugin without clock and randomness sees nothing that differs between two equal runs.
    fn hide_what_differs(&self, entrance: &mut Entrance) {
        if !self.call.grant.is_deterministic() {
            return;
        }
        let task = match entrance {
            Entrance::Worker(task) => Some(task),
            Entrance::Gate(subject) | Entrance::Units(subject) => {
                if let Some(usage) = &mut subject.usage {
                    usage.wall_time = std::time::Duration::ZERO;
                }
                subject.task.as_mut().map(Arc::make_mut)
            }
        };
        if let Some(task) = task {
            task.id.clear();
            task.run.clear();
            task.attempt = 1;
        }
    }

    /// What randomness follows from: the component and what it is given.
    fn seed(&self, entrance: &Entrance) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        add(self.plugin.digest.as_bytes());
        let mut add_task = |task: &Task| {
            add(task.params.as_bytes());
            add(&task.revision.to_le_bytes());
            for artifact in task.inputs.iter().chain(&task.previous) {
                add(artifact.name.as_bytes());
                add(&artifact.content);
            }
        };
        match entrance {
            Entrance::Worker(task) => add_task(task),
            Entrance::Gate(subject) | Entrance::Units(subject) => {
                if let Some(task) = &subject.task {
                    add_task(task);
                }
                add(subject.params.as_bytes());
                add(subject.unit.as_deref().unwrap_or_default().as_bytes());
                for file in &subject.files {
                    add(file.path.as_bytes());
                    add(&file.size_bytes.to_le_bytes());
                }
            }
        }
        hasher.finalize()
    }

    fn mounts(&self, entrance: &Entrance) -> Vec<Mount> {
        let (Entrance::Gate(subject) | Entrance::Units(subject)) = entrance else { return Vec::new() };
        let open_bytes = Arc::default();
        let mount = |at, snapshot: &Arc<_>| Mount {
            at,
            snapshot: Arc::clone(snapshot),
            looks: self.call.looks.clone(),
            open_bytes: Arc::clone(&open_bytes),
        };
        vec![mount(filesystem::SUBJECT, &subject.snapshot), mount(filesystem::DATA, &subject.data)]
    }

    fn parts(&self, entrance: &Entrance, command: Option<CommandIo>) -> Parts {
        Parts {
            limits: self.call.limits,
            grant: Arc::clone(&self.call.grant),
            hooks: self.hooks(Capture::new(self.call.limits.log)),
            cancel: self.call.cancel.clone(),
            progress: self.call.progress.clone(),
            seed: if self.plugin.draws { self.seed(entrance) } else { UNSEEN },
            command,
            mounts: self.mounts(entrance),
        }
    }

    /// The state of an attempt with granted directories, which may be as far away as what is in them.
    async fn opened(&self, parts: Parts) -> Result<wasmtime::Result<State>, Failure> {
        let opening = AbortOnDropHandle::new(tokio::task::spawn_blocking(move || State::new(parts)));
        tokio::select! {
            opened = opening => Ok(opened.unwrap_or_else(|error| Err(wasmtime::Error::msg(error.to_string())))),
            () = tokio::time::sleep_until(self.deadline) => Err(late(&self.call.limits)),
            () = cancelled(&self.call.cancel) => Err(Failure::new(FailureKind::Cancelled, "cancelled")),
        }
    }

    /// A store of its own for the attempt. What lives in it is made when it is entered.
    fn afresh(&self, state: wasmtime::Result<State>) -> Result<Instance, Failure> {
        let state = state.map_err(|error| Failure::new(FailureKind::Host, format!("failed to open a granted directory: {error:#}")))?;
        let store = self.store(state).map_err(|error| Failure::new(FailureKind::Host, format!("{error:#}")))?;
        Ok(Instance { store, worker: None, uses: 0 })
    }

    /// An instance that has done a task already: with fuel, a log and whom it belongs to as if it were fresh.
    fn again(&self, mut kept: Instance) -> Result<Instance, Failure> {
        let state = kept.store.data_mut();
        state.hooks = self.hooks(state.capture.clone());
        state.cancel = self.call.cancel.clone();
        state.progress = self.call.progress.clone();
        state.limiter.begin_again();
        kept.store.set_fuel(self.call.limits.fuel).map_err(|error| Failure::new(FailureKind::Host, format!("{error:#}")))?;
        Ok(kept)
    }

    fn hooks(&self, capture: Capture) -> Hooks {
        let canned = self.call.canned.clone();
        Hooks::new(Arc::clone(&self.inner.outbound), canned, Arc::clone(&self.call.grant), self.plugin.name.clone(), capture)
    }

    fn store(&self, state: State) -> wasmtime::Result<Store<State>> {
        let limits = &self.call.limits;
        let mut store = Store::new(&self.inner.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_fuel(limits.fuel)?;
        store.fuel_async_yield_interval(Some(FUEL_REPORT))?;
        store.set_hostcall_fuel(usize::try_from(limits.output.saturating_add(HOSTCALL_SLACK_BYTES)).unwrap_or(usize::MAX));
        store.set_max_component_handles(limits.handles as usize);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
        Ok(store)
    }

    async fn enter(&self, instance: &mut Instance, entrance: Entrance, stdout: Option<OutputCapture>) -> Result<Answer, Ended> {
        let Instance { store, worker, .. } = instance;
        match (&self.plugin.entry, entrance) {
            (Entry::Worker(pre), Entrance::Worker(task)) => {
                let worker = match worker {
                    Some(worker) => worker,
                    None => worker.insert(pre.instantiate_async(&mut *store).await?),
                };
                let answer = worker.sandhog_plugin_worker().call_run(store, &bindings::task(task)).await?;
                Ok(Answer::Artifacts(bindings::artifacts(answer.map_err(guest_failure)?)))
            }
            (Entry::Gate { gate, .. }, Entrance::Gate(subject)) => {
                let instance = gate.instantiate_async(&mut *store).await?;
                let answer = instance.sandhog_plugin_gate().call_check(store, &bindings::subject(subject)).await?;
                Ok(Answer::Verdict(bindings::verdict(answer.map_err(guest_failure)?)))
            }
            (Entry::Gate { units: Some(units), .. }, Entrance::Units(subject)) => {
                let instance = units.instantiate_async(&mut *store).await?;
                let answer = instance.sandhog_plugin_units().call_units(store, &bindings::subject(subject)).await?;
                Ok(Answer::Units(answer.map_err(guest_failure)?))
            }
            (Entry::Command(pre), entrance) => {
                let command = pre.instantiate_async(&mut *store).await?;
                let ended = command.wasi_cli_run().call_run(&mut *store).await;
                let success = match ended {
                    Ok(result) => result.is_ok(),
                    Err(error) => match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
                        Some(exit) => exit.0 == 0,
                        None => return Err(Ended::Error(error)),
                    },
                };
                let stdout = stdout.map_or_else(bytes::Bytes::new, |stdout| stdout.take());
                command::answer(&self.plugin.command, &entrance, success, &stdout, &store.data().capture).map_err(Ended::Failure)
            }
            (Entry::Worker(_) | Entry::Gate { .. }, Entrance::Worker(_) | Entrance::Gate(_) | Entrance::Units(_)) => {
                Err(Ended::Failure(wrong_kind(self.plugin, "plugin of another kind")))
            }
        }
    }
}

/// Why there is no answer.
enum Ended {
    /// The guest said so, or the host decided.
    Failure(Failure),
    /// wasmtime ended it; what that means is [`trap`]'s to say.
    Error(wasmtime::Error),
}

impl From<wasmtime::Error> for Ended {
    fn from(error: wasmtime::Error) -> Self {
        Self::Error(error)
    }
}

fn guest_failure(failure: bindings::types::Failure) -> Ended {
    Ended::Failure(bindings::failure(failure))
}

/// Resolves a moment after cancellation: the guest may ask, and stop by itself.
async fn cancelled(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(CANCEL_GRACE).await;
}

/// What more input than is allowed comes to.
/// Why so many bytes are not handed in, if they are not.
#[must_use]
pub fn input_refusal(bytes_in: u64, limits: &Limits) -> Option<Failure> {
    let refusal = || format!("{bytes_in} bytes are handed in, and the `input` limit is {}", show_bytes(limits.input));
    (bytes_in > limits.input).then(|| Failure::new(FailureKind::InvalidInput, refusal()))
}

pub(super) fn cost_bytes(entrance: &Entrance) -> u64 {
    match entrance {
        Entrance::Worker(task) => task.cost_bytes(),
        Entrance::Gate(subject) | Entrance::Units(subject) => {
            // Their content is served, not handed in.
            let files = subject.files.iter().map(SubjectFile::cost_bytes).sum::<u64>();
            // Inputs and previous artifacts of the judged task are named, not handed in.
            let task = subject.task.as_ref().map_or(0, |task| task.cost_bytes() - task.files_bytes());
            files + task + subject.params.len() as u64
        }
    }
}

impl Answer {
    pub(super) fn cost_bytes(&self) -> u64 {
        match self {
            Self::Artifacts(artifacts) => artifacts.iter().map(Artifact::cost_bytes).sum(),
            Self::Verdict(verdict) => verdict.cost_bytes(),
            Self::Units(units) => units.iter().map(|u| u.len() as u64).sum(),
        }
    }

    /// The answer, if it is of the allowed size and keeps the contract. Places of findings are as the subject has them.
    pub(super) fn checked(mut self, output_bytes: u64) -> Result<Self, Failure> {
        let bytes = self.cost_bytes();
        if bytes > output_bytes {
            let message = format!("{bytes} bytes came back, and the `output` limit is {}", show_bytes(output_bytes));
            return Err(Failure::new(FailureKind::OutputLimit, message));
        }
        let violation = |message: String| Failure::new(FailureKind::ContractViolation, message);
        if let Self::Units(units) = &self
            && units.len() > UNITS_MAX
        {
            let message = format!("{} units came back, and of one file at most {UNITS_MAX} are judged", units.len());
            return Err(Failure::new(FailureKind::OutputLimit, message));
        }
        if let Self::Verdict(verdict) = &mut self {
            verdict.findings = std::mem::take(&mut verdict.findings).into_iter().map(Finding::within_subject).collect();
        }
        match &self {
            Self::Artifacts(artifacts) => {
                let mut names = HashSet::new();
                for artifact in artifacts {
                    artifact::check_name(&artifact.name)
                        .map_err(|reason| violation(format!("the artifact name {:?} is refused: {reason}", artifact.name)))?;
                    artifact::check_media_type(&artifact.media_type)
                        .map_err(|reason| violation(format!("the media type of {:?} is refused: {reason}", artifact.name)))?;
                    if !names.insert(artifact.name.as_str()) {
                        return Err(violation(format!("two artifacts are named {:?}", artifact.name)));
                    }
                }
                for artifact in artifacts {
                    let mut parents = artifact.name.match_indices('/').map(|(at, _)| &artifact.name[..at]);
                    if let Some(parent) = parents.find(|parent| names.contains(parent)) {
                        return Err(violation(format!("{parent:?} is an artifact, and cannot be a folder of another too")));
                    }
                }
            }
            Self::Verdict(verdict) => {
                if let Some(metric) = verdict.metrics.iter().find(|metric| !metric.value.is_finite()) {
                    return Err(violation(format!("the metric {:?} is not a finite number", metric.name)));
                }
            }
            Self::Units(units) => {
                let mut names = HashSet::new();
                if let Some(unit) = units.iter().find(|unit| unit.is_empty() || !names.insert(*unit)) {
                    return Err(violation(format!("the unit {unit:?} is empty or named twice")));
                }
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_collide_on_disk_break_the_contract() {
        let artifact = |name: &str| Artifact { name: name.into(), media_type: String::new(), content: bytes::Bytes::new() };
        for names in [["a", "a"], ["a", "a/b"], ["../a", "b"]] {
            let answer = Answer::Artifacts(names.map(artifact).to_vec());
            let failure = answer.checked(100).err().expect("a failure");
            assert_eq!(failure.kind, FailureKind::ContractViolation, "{names:?}");
        }
    }

    #[test]
    fn a_file_has_so_many_units_and_no_more() {
        let units = |count: usize| Answer::Units((0..count).map(|n| n.to_string()).collect()).checked(1 << 20);
        assert!(units(UNITS_MAX).is_ok());
        let failure = units(UNITS_MAX + 1).err().expect("a failure");
        assert_eq!(failure.kind, FailureKind::OutputLimit, "{}", failure.message);
    }
}
