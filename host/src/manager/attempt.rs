//! One call of a worker or a gate on behalf of a run: what it is given, and how its outcome is told.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::crew::Workers;
use super::{Notice, journal};
use crate::journal::Store;
use crate::machine::{Effect, Input, Run, TaskKey, TaskState};
use crate::model::{Artifact, ArtifactRef, Attempt, Failure, FailureKind, Finding, Log, Receipt, RunId, Subject, Task, Workflow};

/// Keeps an artifact's content as a blob.
pub(super) async fn keep(store: &dyn Store, artifact: Artifact) -> Result<ArtifactRef, journal::Error> {
    let Artifact { name, media_type, content } = artifact;
    let size_bytes = content.len() as u64;
    let digest = store.put_blob(content).await?;
    Ok(ArtifactRef { name, media_type, digest, size_bytes })
}

async fn fetch(store: &dyn Store, refs: &[ArtifactRef]) -> Result<Vec<Artifact>, journal::Error> {
    let mut artifacts = Vec::with_capacity(refs.len());
    for ArtifactRef { name, media_type, digest, .. } in refs {
        let content = store.blob(digest).await?;
        artifacts.push(Artifact { name: name.clone(), media_type: media_type.clone(), content });
    }
    Ok(artifacts)
}

/// Everything that a call needs, taken from the run when it was started.
pub(super) struct Order {
    run: RunId,
    workflow: Arc<Workflow>,
    task: TaskKey,
    revision: u32,
    inputs: Vec<ArtifactRef>,
    feedback: Vec<Finding>,
    previous: Vec<ArtifactRef>,
    call: Call,
}

enum Call {
    Worker { attempt: u32 },
    Gate { gate: u32, attempt: u32, artifacts: Vec<ArtifactRef>, receipt: Receipt },
}

impl Order {
    /// What is to be called, once its start is on record.
    pub(super) fn new(id: &RunId, run: &Run, effect: Effect, inputs: Arc<Vec<ArtifactRef>>) -> Option<Self> {
        let (task, gate) = match effect {
            Effect::RunWorker { task, .. } => (task, None),
            Effect::RunGate { task, gate, .. } => (task, Some(gate)),
            Effect::ResolveInputs { .. } | Effect::Settle => return None,
        };
        let live = run.live(task)?;
        let call = match (effect, &live.state) {
            (Effect::RunWorker { attempt, .. }, TaskState::Running { .. }) => Call::Worker { attempt },
            (Effect::RunGate { attempt, .. }, TaskState::Validating { artifacts, receipt, .. }) => {
                Call::Gate { gate: gate?, attempt, artifacts: artifacts.clone(), receipt: *receipt }
            }
            _ => return None,
        };
        let step = run.workflow.steps.get(task.step as usize)?;
        let inputs = if step.foreach { vec![inputs.get(task.index as usize)?.clone()] } else { inputs.to_vec() };
        Some(Self {
            run: id.clone(),
            workflow: Arc::clone(&run.workflow),
            task,
            revision: live.revision,
            inputs,
            feedback: live.feedback.iter().map(|(_, finding)| finding.clone()).collect(),
            previous: live.previous.clone(),
            call,
        })
    }

    /// Calls, and says what to tell the run. A panic on the way is the attempt's failure, and the host's fault.
    pub(super) async fn carry_out(
        self,
        store: Arc<dyn Store>,
        workers: Arc<dyn Workers>,
        notices: broadcast::Sender<Notice>,
        cancel: CancellationToken,
    ) -> Input {
        let task = self.task;
        let chance = rand::random::<f64>();
        match self.call {
            Call::Worker { attempt } => {
                let ended = AssertUnwindSafe(self.call_worker(attempt, &*store, &*workers, &notices, cancel)).catch_unwind().await;
                let (result, receipt) = ended.unwrap_or_else(|_| (Err(panicked()), Receipt::default()));
                Input::WorkerEnded { task, attempt, result, receipt, chance }
            }
            Call::Gate { gate, attempt, .. } => {
                let ended = AssertUnwindSafe(self.call_gate(gate, &*store, &*workers, &notices, cancel)).catch_unwind().await;
                let Attempt { result, receipt, .. } =
                    ended.unwrap_or_else(|_| Attempt { result: Err(panicked()), receipt: Receipt::default(), log: Log::default() });
                Input::GateEnded { task, gate, attempt, result, receipt, chance }
            }
        }
    }

    async fn call_worker(
        &self,
        attempt: u32,
        store: &dyn Store,
        workers: &dyn Workers,
        notices: &broadcast::Sender<Notice>,
        cancel: CancellationToken,
    ) -> (Result<Vec<ArtifactRef>, Failure>, Receipt) {
        let step = &self.workflow.steps[self.task.step as usize];
        let task = match self.task(attempt, store).await {
            Ok(task) => task,
            Err(error) => return (Err(Failure::new(FailureKind::Host, error.to_string())), Receipt::default()),
        };
        let (sender, run, key) = (notices.clone(), self.run.clone(), self.task);
        let progress = Arc::new(move |fraction: f64, note: &str| {
            let _ = sender.send(Notice::Progress { run: run.clone(), task: key, fraction, note: note.to_owned() });
        });
        let Attempt { result, receipt, log } = workers.run(step, task, cancel, progress).await;
        self.tell_log(notices, None, log);
        let artifacts = match result {
            Ok(artifacts) => artifacts,
            Err(failure) => return (Err(failure), receipt),
        };
        let mut refs = Vec::with_capacity(artifacts.len());
        for artifact in artifacts {
            match keep(store, artifact).await {
                Ok(reference) => refs.push(reference),
                Err(error) => return (Err(Failure::new(FailureKind::Host, error.to_string())), receipt),
            }
        }
        (Ok(refs), receipt)
    }

    async fn call_gate(
        &self,
        gate: u32,
        store: &dyn Store,
        workers: &dyn Workers,
        notices: &broadcast::Sender<Notice>,
        cancel: CancellationToken,
    ) -> Attempt<crate::model::Verdict> {
        let host = |error: journal::Error| Attempt {
            result: Err(Failure::new(FailureKind::Host, error.to_string())),
            receipt: Receipt::default(),
            log: Log::default(),
        };
        let Call::Gate { artifacts, receipt, .. } = &self.call else { return host(journal::Error::Medium("not a gate".to_owned())) };
        let uses = &self.workflow.steps[self.task.step as usize].gates[gate as usize];
        let (files, task) = match (fetch(store, artifacts).await, self.task(1, store).await) {
            (Ok(files), Ok(task)) => (files, task),
            (Err(error), _) | (_, Err(error)) => return host(error),
        };
        let subject = Subject {
            files,
            task: Some(task),
            usage: uses.usage.then_some(*receipt),
            params: serde_json::Value::Object(uses.params.clone()).to_string().into(),
            unit: None,
        };
        let ended = workers.check(uses, subject, cancel).await;
        self.tell_log(notices, Some(gate), ended.log.clone());
        ended
    }

    async fn task(&self, attempt: u32, store: &dyn Store) -> Result<Task, journal::Error> {
        let step = &self.workflow.steps[self.task.step as usize];
        Ok(Task {
            id: format!("{}/{}/{}", self.run, step.id, self.task.index),
            run: self.run.0.clone(),
            step: step.id.clone(),
            attempt,
            revision: self.revision,
            params: serde_json::Value::Object(step.params.clone()).to_string().into(),
            inputs: fetch(store, &self.inputs).await?,
            criteria: step.gates.iter().map(crate::model::GateUse::criterion).collect(),
            feedback: self.feedback.clone(),
            previous: fetch(store, &self.previous).await?,
        })
    }

    fn tell_log(&self, notices: &broadcast::Sender<Notice>, gate: Option<u32>, log: Log) {
        if !log.lines.is_empty() {
            let _ = notices.send(Notice::Log { run: self.run.clone(), task: self.task, gate, log });
        }
    }
}

/// What is told of a call that could not be made, since what it needs is not in the journal.
pub(super) fn not_called(effect: Effect) -> Input {
    let failure = Failure::new(FailureKind::Host, "the inputs are missing from the journal");
    let (receipt, chance) = (Receipt::default(), 0.0);
    match effect {
        Effect::RunWorker { task, attempt, .. } => Input::WorkerEnded { task, attempt, result: Err(failure), receipt, chance },
        Effect::RunGate { task, gate, attempt } => Input::GateEnded { task, gate, attempt, result: Err(failure), receipt, chance },
        Effect::ResolveInputs { .. } | Effect::Settle => Input::Settle,
    }
}

fn panicked() -> Failure {
    Failure::new(FailureKind::Host, "a panic in the host while the attempt was prepared or recorded")
}
