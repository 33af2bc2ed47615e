//! One call of a worker or a gate on behalf of a run: what it is given, and how its outcome is told.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::FutureExt as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::crew::Workers;
use super::inputs::{Inputs, Part, keep};
use super::slots::Lane;
use super::{Notice, journal};
use crate::clock::Stopwatch;
use crate::journal::{Executing, Store};
use crate::machine::{Effect, Feedback, Input, Provider, Run, TaskKey, TaskState, Work};
use crate::model::{Artifact, ArtifactRef, Attempt, Failure, FailureKind, Finding, Log, Receipt, RunId, Step, Subject, Task, Verdict};

/// What all calls for one step share.
#[derive(Debug)]
pub(super) struct StepContext {
    step: Step,
    inputs: Inputs,
    params: Arc<str>,
    criteria: Vec<String>,
    gate_params: Vec<Arc<str>>,
}

impl StepContext {
    pub(super) fn new(step: &Step, inputs: Inputs) -> Self {
        let json = |params: &serde_json::Map<String, serde_json::Value>| serde_json::Value::Object(params.clone()).to_string().into();
        Self {
            step: step.clone(),
            inputs,
            params: json(&step.params),
            criteria: step.gates.iter().map(crate::model::GateUse::criterion).collect(),
            gate_params: step.gates.iter().map(|gate| json(&gate.params)).collect(),
        }
    }

    fn of(&self) -> &Step {
        &self.step
    }
}

/// Where the calls of a run wait that has a bound of its own on how many execute at once.
pub(super) type Waiting = Arc<Lane<(Stopwatch, Order)>>;

/// How a run stands, for the slots.
#[derive(Clone)]
pub(super) struct Standing {
    /// Ends what executes.
    pub(super) cancel: CancellationToken,
    /// Whether it is paused: what is in line is handed back then.
    pub(super) paused: Arc<AtomicBool>,
    /// What bounds how many of its calls execute at once, where something does beside the host.
    pub(super) lane: Option<Waiting>,
}

/// Everything that a call needs, taken from the run when it was started.
pub(super) struct Order {
    pub(super) run: RunId,
    pub(super) provider: Provider,
    /// How its run stands.
    pub(super) standing: Standing,
    context: Arc<StepContext>,
    /// Where its input is, in a step that has one task for each; and whether it is read ahead.
    part: Option<(Arc<Part>, bool)>,
    task: TaskKey,
    revision: u32,
    feedback: Option<Feedback>,
    previous: Option<Work>,
    call: Call,
}

enum Call {
    Worker { attempt: u32 },
    Gate { gate: u32, attempt: u32, work: Work, receipt: Receipt },
}

/// What orders are carried out with.
pub(super) struct Means {
    pub(super) store: Arc<dyn Store>,
    pub(super) workers: Arc<dyn Workers>,
    pub(super) notices: broadcast::Sender<Notice>,
}

impl Order {
    /// What is to be called, once its start is on record.
    pub(super) fn new(
        id: RunId,
        run: &Run,
        effect: Effect,
        context: Arc<StepContext>,
        standing: Standing,
        provider: Provider,
    ) -> Option<Self> {
        let (task, call) = match effect {
            Effect::RunWorker { task, attempt, .. } => (task, Call::Worker { attempt }),
            Effect::RunGate { task, gate, attempt } => match &run.live(task)?.state {
                TaskState::Validating { work, receipt, .. } => (task, Call::Gate { gate, attempt, work: work.clone(), receipt: *receipt }),
                _ => return None,
            },
            Effect::ResolveInputs { .. } | Effect::ReadPlan { .. } | Effect::Settle => return None,
        };
        let live = run.live(task)?;
        Some(Self {
            run: id,
            provider,
            standing,
            part: context.step.foreach.then(|| context.inputs.part(task.index)),
            context,
            task,
            revision: live.revision,
            feedback: live.feedback.clone(),
            previous: live.previous.clone(),
            call,
        })
    }

    /// What is to be read before its turn comes, for it and for those behind it; if anything. Who needs it reads it if this does not, and
    /// says what is wrong.
    pub(super) fn read_ahead(&self, store: &Arc<dyn Store>) -> Option<impl Future<Output = ()> + Send + use<>> {
        let part = self.part.as_ref().filter(|(part, begins)| *begins && part.is_unread()).map(|(part, _)| Arc::clone(part))?;
        let (store, context, index) = (Arc::clone(store), Arc::clone(&self.context), self.task.index);
        Some(async move { drop(context.inputs.read_ahead(&*store, index, &part).await) })
    }

    /// Whether the result is to be a plan.
    #[cfg(test)]
    pub(super) fn expands(&self) -> bool {
        self.context.of().expand.is_some()
    }

    /// What a slot says that it executes.
    pub(super) fn executing(&self) -> Executing {
        let (gate, attempt) = match &self.call {
            Call::Worker { attempt } => (None, *attempt),
            Call::Gate { gate, attempt, .. } => (Some(*gate), *attempt),
        };
        Executing { run: self.run, task: self.task, gate, attempt }
    }

    /// Hands it back, and says what is to be told: it was not made.
    pub(super) fn hand_back(&self) -> Input {
        let Executing { task, gate, attempt, .. } = self.executing();
        Input::Returned { task, gate, attempt }
    }

    /// Calls, and says what is to be told. Nothing that happens on the way, a panic included, is lost.
    pub(super) async fn carry_out(mut self, means: &Means) -> Input {
        let task = self.task;
        let part = self.part.take().map(|(part, _)| part);
        let chance = rand::random::<f64>();
        match &self.call {
            Call::Worker { attempt } => {
                let attempt = *attempt;
                let ended = AssertUnwindSafe(self.call_worker(attempt, part, means)).catch_unwind().await;
                let Attempt { result, receipt, log } = ended.unwrap_or_else(|_| failed(panicked()));
                Input::WorkerEnded { task, attempt, result, receipt, log, chance }
            }
            Call::Gate { gate, attempt, work, receipt } => {
                let (gate, attempt) = (*gate, *attempt);
                let ended = AssertUnwindSafe(self.call_gate(gate, part, work, receipt, means)).catch_unwind().await;
                let Attempt { result, receipt, log } = ended.unwrap_or_else(|_| failed(panicked()));
                Input::GateEnded { task, gate, attempt, result, receipt, log, chance }
            }
        }
    }

    async fn call_worker(&self, attempt: u32, part: Option<Arc<Part>>, means: &Means) -> Attempt<Vec<ArtifactRef>> {
        let task = match self.handed_in(attempt, part, means).await {
            Ok(task) => task,
            Err(failure) => return failed(failure),
        };
        let (sender, run, key) = (means.notices.clone(), self.run, self.task);
        let progress = Arc::new(move |fraction: f64, note: &str| {
            let _ = sender.send(Notice::Progress { run, task: key, fraction, note: note.to_owned() });
        });
        let step = self.context.of();
        let Attempt { result, receipt, log } =
            means.workers.run(&self.provider.name, step, task, self.standing.cancel.clone(), progress).await;
        self.tell_log(&means.notices, None, &log);
        let result = match result.and_then(artifacts_fit) {
            Ok(artifacts) => keep(&*means.store, artifacts).await.map_err(|error| host(&error)),
            Err(failure) => Err(failure),
        };
        Attempt { result, receipt, log }
    }

    async fn call_gate(&self, gate: u32, part: Option<Arc<Part>>, work: &Work, receipt: &Receipt, means: &Means) -> Attempt<Verdict> {
        let uses = &self.context.of().gates[gate as usize];
        let (files, task) = match (self.artifacts(&*means.store, work).await, self.named(part, &*means.store).await) {
            (Ok(files), Ok(task)) => (files, task),
            (Err(error), _) | (_, Err(error)) => return failed(host(&error)),
        };
        let params = Arc::clone(&self.context.gate_params[gate as usize]);
        let subject = match Subject::of(&files) {
            Ok(subject) => Subject { task: Some(Arc::new(task)), usage: uses.usage.then_some(*receipt), params, ..subject },
            Err(collision) => return failed(Failure::new(FailureKind::ContractViolation, collision.to_string())),
        };
        let ended = means.workers.check(&self.provider.name, uses, subject, self.standing.cancel.clone()).await;
        self.tell_log(&means.notices, Some(gate), &ended.log);
        let Attempt { result, receipt, log } = ended;
        Attempt { result: result.and_then(verdict_fits), receipt, log }
    }

    /// What a worker is given. The part that its input is in is let go of then, for as long as the call takes. Nothing is read that it could
    /// not be given.
    async fn handed_in(&self, attempt: u32, part: Option<Arc<Part>>, means: &Means) -> Result<Task, Failure> {
        let store = &*means.store;
        let (inputs, previous) = self.files(part, store).await.map_err(|error| host(&error))?;
        let bytes = inputs.iter().chain(&previous).map(ArtifactRef::cost_bytes).fold(0, u64::saturating_add);
        if bytes > ASKED_BYTES_MIN
            && let Some(refusal) = means.workers.refusal(&self.provider.name, self.context.of(), bytes)
        {
            return Err(refusal);
        }
        let read = async { Ok((store.artifacts(inputs).await?, store.artifacts(previous).await?)) };
        let (inputs, previous) = read.await.map_err(|error| host(&error))?;
        Ok(self.task(attempt, inputs, previous, self.feedback(store).await.map_err(|error| host(&error))?))
    }

    /// What a gate is told of the task: its files by their names alone.
    async fn named(&self, part: Option<Arc<Part>>, store: &dyn Store) -> Result<Task, journal::Error> {
        let (inputs, previous) = self.files(part, store).await?;
        let named = |refs: Vec<ArtifactRef>| {
            let named = |ArtifactRef { name, media_type, .. }| Artifact { name, media_type, content: bytes::Bytes::new() };
            refs.into_iter().map(named).collect()
        };
        Ok(self.task(1, named(inputs), named(previous), self.feedback(store).await?))
    }

    fn task(&self, attempt: u32, inputs: Vec<Artifact>, previous: Vec<Artifact>, feedback: Vec<Finding>) -> Task {
        let (run, step) = (self.run.to_string(), self.context.of());
        Task {
            id: format!("{run}/{}/{}", step.id, self.task.index),
            run,
            step: step.id.clone(),
            attempt,
            revision: self.revision,
            params: Arc::clone(&self.context.params),
            inputs,
            criteria: self.context.criteria.clone(),
            feedback,
            previous,
        }
    }

    /// What it works on, and what it made in the round before.
    async fn files(&self, part: Option<Arc<Part>>, store: &dyn Store) -> Result<(Vec<ArtifactRef>, Vec<ArtifactRef>), journal::Error> {
        let inputs = match part {
            Some(part) => vec![self.context.inputs.one(store, self.task.index, &part).await?],
            None => self.context.inputs.all(store).await?,
        };
        let previous = match &self.previous {
            Some(previous) => store.work(&self.run, previous).await?,
            None => Vec::new(),
        };
        Ok((inputs, previous))
    }

    async fn feedback(&self, store: &dyn Store) -> Result<Vec<Finding>, journal::Error> {
        let mut feedback = Vec::new();
        for version in self.feedback.iter().flat_map(|feedback| &feedback.versions) {
            feedback.append(&mut store.found(&self.run, *version).await?);
        }
        Ok(feedback)
    }

    async fn artifacts(&self, store: &dyn Store, work: &Work) -> Result<Vec<Artifact>, journal::Error> {
        store.artifacts(store.work(&self.run, work).await?).await
    }

    fn tell_log(&self, notices: &broadcast::Sender<Notice>, gate: Option<u32>, log: &Log) {
        if !log.lines.is_empty() {
            let _ = notices.send(Notice::Log { run: self.run, task: self.task, gate, log: log.clone().tail(LOG_TOLD_BYTES) });
        }
    }
}

/// So many bytes are handed in without asking for the limit first, which is looked at again by whoever makes the call.
const ASKED_BYTES_MIN: u64 = 1 << 20;
/// How many bytes of a log are told live, from its end.
const LOG_TOLD_BYTES: usize = 64 << 10;
/// How many bytes the record of an answer may have, beside content: everybody's records wait for it.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// What a reference to an artifact takes in a record beside its name and media type, in bytes.
const REFERENCE_BYTES: usize = 160;

/// Artifacts, if what is on record of them is not too much.
fn artifacts_fit(artifacts: Vec<Artifact>) -> Result<Vec<Artifact>, Failure> {
    // Of the characters that names and types may have, JSON writes some as two.
    let bytes = |artifact: &Artifact| REFERENCE_BYTES + 2 * (artifact.name.len() + artifact.media_type.len());
    let bytes = artifacts.iter().map(bytes).sum();
    fits(bytes, "the names and media types of the artifacts").map(|()| artifacts)
}

/// A verdict, if it is not too long for a record.
fn verdict_fits(verdict: Verdict) -> Result<Verdict, Failure> {
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, &verdict).map_err(|error| Failure::new(FailureKind::Host, error.to_string()))?;
    fits(counted.0, "the verdict").map(|()| verdict)
}

fn fits(bytes: usize, what: &str) -> Result<(), Failure> {
    let message = || format!("{what} would take {bytes} bytes in the journal, and a record of a run has room for {RECORD_BYTES_MAX}");
    if bytes <= RECORD_BYTES_MAX { Ok(()) } else { Err(Failure::new(FailureKind::OutputLimit, message())) }
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn host(error: &journal::Error) -> Failure {
    Failure::new(FailureKind::Host, error.to_string())
}

fn failed<T>(failure: Failure) -> Attempt<T> {
    Attempt { result: Err(failure), receipt: Receipt::default(), log: Log::default() }
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Host, "a panic in the host while the attempt was prepared or recorded")
}
