//! A run, folded from its records: what a person is shown at the end, and a program in JSON.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SCHEMA_VERSION, usage_json};
use crate::clock::{Timestamp, between};
use crate::journal::Record;
use crate::machine::{Event, TaskKey, TaskReason};
use crate::model::text::sanitize;
use crate::model::{ArtifactRef, Digest, Failure, Finding, Metric, Receipt, RunId, Workflow};

fn round(round: &Round) -> Value {
    json!({
        "revision": round.revision,
        "solved": round.solved.len(),
        "still": round.still.len(),
        "new": round.new.len(),
    })
}

/// How many bytes of findings a report has, as JSON, all of its tasks together.
const FINDINGS_BYTES_MAX: u64 = 16 << 20;

/// How a task stands, in the words of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum TaskStatus {
    Running,
    Validating,
    Retrying,
    Revising,
    Blocked,
    Pending,
    Approving,
    Expanding,
    Paused,
    Completed,
    Failed,
    DeadLettered,
    Cancelled,
}

impl TaskStatus {
    /// The word shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Validating => "validating",
            Self::Retrying => "retrying",
            Self::Revising => "revising",
            Self::Blocked => "blocked",
            Self::Pending => "pending",
            Self::Approving => "approving",
            Self::Expanding => "expanding",
            Self::Paused => "paused",
            Self::DeadLettered => "dead_lettered",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What is known of a task.
#[derive(Debug, Clone)]
pub struct TaskReport {
    /// How it stands.
    pub status: TaskStatus,
    /// Attempts started, over all revisions.
    pub attempts: u32,
    /// Rounds after a rejection.
    pub revision: u32,
    /// How its last attempt failed, if it did.
    pub failure: Option<Failure>,
    /// How often the host ended while it was under way.
    pub lost: u32,
    /// When it is to be tried again, if it waits for that.
    pub due_at: Option<Timestamp>,
    /// What gates found: of each round, which gate, and what; as far as the report has room.
    pub findings: Vec<(u32, String, Finding)>,
    /// How many findings are left out.
    pub left_out: u64,
    /// The figures that gates gave to the last round, with the gate.
    pub metrics: Vec<(String, Metric)>,
    /// What it made last, without content: that is in the record which says so.
    pub artifacts: Vec<ArtifactRef>,
    /// The run's version at that record.
    pub made_at: u64,
    /// What its worker used.
    pub worker: Receipt,
    /// What its gates used.
    pub gates: Receipt,
}

/// One round of a task, against the one before: "the same" finding is of the same gate, rule, path and message.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Which revision it was.
    pub revision: u32,
    /// What was found in the round before, and is not any more.
    pub solved: Vec<(String, Finding)>,
    /// What was found in the round before too.
    pub still: Vec<(String, Finding)>,
    /// What was not found in the round before.
    pub new: Vec<(String, Finding)>,
}

impl TaskReport {
    /// The rounds of a task that was sent back, with what became of each finding; none where it never was.
    #[must_use]
    pub fn rounds(&self) -> Vec<Round> {
        if self.revision == 0 {
            return Vec::new();
        }
        let mut found: Vec<Vec<(String, Finding)>> = vec![Vec::new(); self.revision as usize + 1];
        for (revision, gate, finding) in &self.findings {
            // One that was run again from the start may have had more rounds before.
            if let Some(of) = found.get_mut(*revision as usize) {
                of.push((gate.clone(), finding.clone()));
            }
        }
        // Sets, since a gate may find a hundred thousand things in each round.
        let known: Vec<HashSet<_>> = found.iter().map(|of| of.iter().map(identity).collect()).collect();
        let rounds = (0..).zip(found.iter().zip(&known)).map(|(revision, (now, known_now))| {
            let before = (revision as usize).checked_sub(1);
            let is_old = |finding: &(String, Finding)| before.is_some_and(|before| known[before].contains(&identity(finding)));
            let solved = before.map_or(&[][..], |before| &found[before]).iter().filter(|known| !known_now.contains(&identity(known)));
            let (still, new) = now.iter().cloned().partition(is_old);
            Round { revision, solved: solved.cloned().collect(), still, new }
        });
        rounds.collect()
    }
}

/// The tasks of a step, among those of a run.
pub(super) fn of_step(step: u32) -> RangeInclusive<TaskKey> {
    TaskKey { step, index: 0 }..=TaskKey { step, index: u32::MAX }
}

/// What makes findings of two rounds the same.
fn identity((gate, finding): &(String, Finding)) -> (&str, (&str, &str, &str)) {
    (gate, finding.identity())
}

impl Default for TaskReport {
    fn default() -> Self {
        Self {
            status: TaskStatus::Running,
            attempts: 0,
            revision: 0,
            failure: None,
            lost: 0,
            due_at: None,
            findings: Vec::new(),
            left_out: 0,
            metrics: Vec::new(),
            artifacts: Vec::new(),
            made_at: 0,
            worker: Receipt::default(),
            gates: Receipt::default(),
        }
    }
}

/// What is known of a step.
#[derive(Debug, Clone, Default)]
pub struct StepReport {
    /// How it stands: waiting, active, completed, failed, skipped or cancelled.
    pub status: &'static str,
    /// How many tasks it has, once that is known.
    pub tasks: Option<u32>,
    /// When its tasks began.
    pub started_at: Option<Timestamp>,
    /// How long it took, once it has ended.
    pub took: Option<Duration>,
}

/// A run, as told by its records.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// What was executed, steps of plans included.
    pub workflow: Workflow,
    /// How it stands: running, completed, failed or cancelled.
    pub status: &'static str,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it took so far.
    pub took: Duration,
    /// The steps, in the order of the workflow, and behind them those of plans.
    pub steps: Vec<StepReport>,
    /// For each step whose inputs are known, their names: see [`RunReport::name_inputs`].
    pub inputs: BTreeMap<u32, Vec<String>>,
    /// The tasks that have started.
    pub tasks: BTreeMap<TaskKey, TaskReport>,
    /// Why it was cancelled, if it was.
    pub cancelled_because: Option<String>,
    /// Why it is paused, if it is.
    pub paused_because: Option<String>,
    /// What it had to do without; of a run that completed.
    pub degraded: Vec<String>,
    /// How many bytes of findings there is room for.
    room: u64,
    /// How many records it has.
    pub version: u64,
    /// The hash of its last record: who keeps it can tell later whether the run's records were edited.
    pub head: Digest,
}

impl RunReport {
    /// Begins with a run's first record; `None` for any other.
    #[must_use]
    pub fn begin(record: &Record) -> Option<Self> {
        let Event::RunStarted { workflow, .. } = &record.event else { return None };
        Some(Self {
            run: record.run,
            steps: vec![StepReport { status: "waiting", ..StepReport::default() }; workflow.steps.len()],
            workflow: workflow.clone(),
            status: "running",
            started_at: record.at,
            took: Duration::ZERO,
            inputs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            cancelled_because: None,
            paused_because: None,
            degraded: Vec::new(),
            room: FINDINGS_BYTES_MAX,
            version: record.version,
            head: record.hash,
        })
    }

    /// Folds the next record.
    pub fn add(&mut self, record: &Record) {
        self.took = between(self.started_at, record.at);
        self.head = record.hash;
        self.version = record.version;
        match &record.event {
            Event::RunStarted { .. } => {}
            Event::StepStarted { step, tasks, .. } => {
                let report = &mut self.steps[*step as usize];
                (report.status, report.tasks, report.started_at) = ("active", Some(*tasks), Some(record.at));
            }
            Event::AttemptStarted { task, revision, .. } => {
                let report = self.tasks.entry(*task).or_default();
                report.attempts += 1;
                report.revision = *revision;
                report.status = TaskStatus::Running;
                report.due_at = None;
            }
            Event::AttemptLost { task, executing, .. } => {
                let report = self.tasks.entry(*task).or_default();
                report.status = TaskStatus::Pending;
                report.lost += u32::from(*executing);
            }
            Event::AttemptCompleted { task, artifacts, receipt, .. } => {
                let report = self.tasks.entry(*task).or_default();
                report.artifacts = artifacts.iter().map(|artifact| ArtifactRef { content: None, ..artifact.clone() }).collect();
                report.made_at = record.version;
                report.failure = None;
                report.worker.add(receipt);
                report.status = TaskStatus::Validating;
            }
            Event::AttemptFailed { task, failure, receipt, .. } => {
                let report = self.tasks.entry(*task).or_default();
                report.failure = Some(failure.clone());
                report.worker.add(receipt);
            }
            Event::RetryScheduled { task, due_at } => {
                let report = self.tasks.entry(*task).or_default();
                (report.status, report.due_at) = (TaskStatus::Retrying, Some(*due_at));
            }
            Event::GateStarted { .. } | Event::GateRetryScheduled { .. } | Event::GateLost { .. } => {}
            Event::ApprovalRequested { task } => self.tasks.entry(*task).or_default().status = TaskStatus::Approving,
            Event::ApprovalGiven { .. } => {}
            Event::ApprovalRefused { task, comment } => {
                self.found(*task, "approval", &[crate::machine::refusal(comment)]);
            }
            Event::PlanSubmitted { task } => self.tasks.entry(*task).or_default().status = TaskStatus::Expanding,
            Event::PlanAccepted { steps, .. } => {
                self.workflow.steps.extend_from_slice(steps);
                self.steps.resize(self.workflow.steps.len(), StepReport { status: "waiting", ..StepReport::default() });
            }
            Event::PlanRejected { task, findings } => {
                self.found(*task, "plan", findings);
            }
            Event::GateAnswered { task, gate, verdict, receipt, .. } => {
                let name = self.workflow.steps[task.step as usize].gates[*gate as usize].gate.clone();
                self.found(*task, &name, &verdict.findings);
                let report = self.tasks.entry(*task).or_default();
                report.metrics.retain(|(gate, _)| *gate != name);
                report.metrics.extend(verdict.metrics.iter().map(|metric| (name.clone(), metric.clone())));
                report.gates.add(receipt);
            }
            Event::GateFailed { task, receipt, .. } => self.tasks.entry(*task).or_default().gates.add(receipt),
            Event::RevisionRequested { task, .. } => self.tasks.entry(*task).or_default().status = TaskStatus::Revising,
            Event::TaskCompleted { task } => self.tasks.entry(*task).or_default().status = TaskStatus::Completed,
            Event::TaskFailed { task, reason } => self.given_up(*task, reason, TaskStatus::Failed),
            Event::TaskDeadLettered { task, reason } => self.given_up(*task, reason, TaskStatus::DeadLettered),
            Event::TaskHeld { task, reason } => self.given_up(*task, reason, TaskStatus::Paused),
            Event::FallbackStarted { task, reason } => self.given_up(*task, reason, TaskStatus::Revising),
            Event::TaskRequeued { task } => {
                self.tasks.entry(*task).or_default().status = TaskStatus::Pending;
                self.steps[task.step as usize].status = "active"; // again, if it had ended
            }
            Event::TaskDiscarded { task } => self.tasks.entry(*task).or_default().status = TaskStatus::Failed,
            Event::TaskCancelled { task } => self.tasks.entry(*task).or_default().status = TaskStatus::Cancelled,
            Event::StepCompleted { step } => self.close(*step, "completed", record.at),
            Event::StepFailed { step } => self.close(*step, "failed", record.at),
            Event::StepSkipped { step, .. } => self.close(*step, "skipped", record.at),
            Event::StepCancelled { step } => self.close(*step, "cancelled", record.at),
            Event::CancelRequested { reason } => {
                self.status = "cancelling";
                self.cancelled_because = Some(reason.clone());
            }
            Event::RunPaused { reason } => {
                self.status = "paused";
                self.paused_because = Some(reason.clone());
            }
            Event::RunResumed | Event::RunReopened => {
                self.status = "running";
                self.paused_because = None;
            }
            Event::RunCompleted { degraded } => {
                self.status = "completed";
                self.degraded.clone_from(degraded);
            }
            Event::BreakerChanged { .. } => {}
            Event::RunFailed => self.status = "failed",
            Event::RunCancelled => self.status = "cancelled",
        }
    }

    fn found(&mut self, task: TaskKey, who: &str, findings: &[Finding]) {
        let report = self.tasks.entry(task).or_default();
        for finding in findings {
            let bytes = serde_json::to_vec(finding).map_or(0, |json| json.len() as u64);
            match self.room.checked_sub(bytes) {
                Some(room) => {
                    self.room = room;
                    report.findings.push((report.revision, who.to_owned(), finding.clone()));
                }
                None => report.left_out += 1,
            }
        }
    }

    fn given_up(&mut self, task: TaskKey, reason: &TaskReason, status: TaskStatus) {
        let gates = &self.workflow.steps[task.step as usize].gates;
        let report = self.tasks.entry(task).or_default();
        report.status = status;
        report.failure = match reason {
            TaskReason::Failed { failure } => Some(failure.clone()),
            TaskReason::GateFailed { gate, failure } => {
                let gate = &gates[*gate as usize].gate;
                Some(Failure { message: format!("the gate {gate} could not answer: {}", failure.message), ..failure.clone() })
            }
            TaskReason::Lost { .. } => Some(Failure::new(crate::model::FailureKind::Lost, reason.text())),
            TaskReason::Rejected { .. } | TaskReason::RejectedAgain { .. } => None,
        };
    }

    /// Whether names of a step's inputs are shown: where it has a task for each.
    #[must_use]
    pub fn tells_inputs(&self, step: u32) -> bool {
        self.workflow.steps[step as usize].foreach
    }

    /// Tells the names of a step's inputs, which the records have only as a blob.
    pub fn name_inputs(&mut self, step: u32, names: Vec<String>) {
        self.inputs.insert(step, names);
    }

    /// A task's name for people: its step, and its input where the step has one task for each.
    #[must_use]
    pub fn name(&self, task: TaskKey) -> String {
        let step = &self.workflow.steps[task.step as usize];
        match (step.foreach, self.input(task)) {
            (true, Some(input)) => format!("{}[{}]", step.id, sanitize(input, 200)),
            (true, None) => format!("{}[{}]", step.id, task.index),
            (false, _) => step.id.clone(),
        }
    }

    /// The one input of a task of a step with `foreach`.
    fn input(&self, task: TaskKey) -> Option<&str> {
        let foreach = self.workflow.steps[task.step as usize].foreach;
        self.inputs.get(&task.step)?.get(task.index as usize).filter(|_| foreach).map(String::as_str)
    }

    fn close(&mut self, step: u32, status: &'static str, at: Timestamp) {
        let report = &mut self.steps[step as usize];
        report.status = status;
        report.took = report.started_at.map(|started| between(started, at));
    }

    /// The tasks of a step that have started.
    pub fn tasks_of(&self, step: u32) -> impl Iterator<Item = (u32, &TaskReport)> {
        self.tasks.range(of_step(step)).map(|(key, task)| (key.index, task))
    }

    /// What a step's workers used, and its gates.
    #[must_use]
    pub fn usage_of(&self, step: u32) -> (Receipt, Receipt) {
        let (mut worker, mut gates) = (Receipt::default(), Receipt::default());
        for (_, task) in self.tasks_of(step) {
            worker.add(&task.worker);
            gates.add(&task.gates);
        }
        (worker, gates)
    }

    /// The whole run as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut usage = Receipt::default();
        let steps: Vec<Value> = (0..)
            .zip(&self.steps)
            .map(|(place, step)| {
                let (mut both, gates) = self.usage_of(place);
                both.add(&gates);
                usage.add(&both);
                let count = |status| self.tasks_of(place).filter(|(_, task)| task.status == status).count();
                let definition = &self.workflow.steps[place as usize];
                json!({
                    "id": definition.id,
                    "worker": definition.worker,
                    "needs": definition.needs,
                    "gates": definition.gates.iter().map(|gate| &gate.gate).collect::<Vec<_>>(),
                    "foreach": definition.foreach,
                    "approval": definition.approval,
                    "optional": definition.optional,
                    "expand": definition.expand.is_some(),
                    "fallback": definition.fallback,
                    "status": step.status,
                    "tasks": step.tasks,
                    "completed": count(TaskStatus::Completed),
                    "failed": count(TaskStatus::Failed) + count(TaskStatus::DeadLettered),
                    "dead_lettered": count(TaskStatus::DeadLettered),
                    "cancelled": count(TaskStatus::Cancelled),
                    "started_at": step.started_at,
                    "took_ms": step.took.map(|took| took.as_micros() as f64 / 1000.0),
                    "usage": usage_json(&both),
                })
            })
            .collect();
        let tasks: Vec<Value> = self
            .tasks
            .iter()
            .map(|(key, task)| {
                let mut both = task.worker;
                both.add(&task.gates);
                let findings = task.findings.iter().map(|(revision, gate, finding)| {
                    let mut object = json!(finding);
                    object["gate"] = gate.as_str().into();
                    object["revision"] = (*revision).into();
                    object
                });
                let mut told = json!({
                    "step": self.workflow.steps[key.step as usize].id,
                    "index": key.index,
                    "input": self.input(*key),
                    "status": task.status.as_str(),
                    "attempts": task.attempts,
                    "rounds": task.rounds().iter().map(round).collect::<Vec<_>>(),
                    "revisions": task.revision,
                    "lost": task.lost,
                    "due_at": task.due_at,
                    "failure": task.failure.as_ref().map(|failure| json!({ "kind": failure.kind, "message": failure.message })),
                    "blame": task.failure.as_ref().map(|failure| failure.kind.blame()),
                    "findings": findings.collect::<Vec<_>>(),
                    "artifacts": task.artifacts.iter().map(artifact_json).collect::<Vec<_>>(),
                    "usage": usage_json(&both),
                });
                if task.left_out > 0 {
                    told["findings_left_out"] = task.left_out.into();
                }
                told
            })
            .collect();
        json!({
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "workflow": self.workflow.name,
            "status": self.status,
            "cancelled_because": self.cancelled_because,
            "paused_because": self.paused_because,
            "degraded": self.degraded,
            "head": self.head,
            "version": self.version,
            "started_at": self.started_at,
            "took_ms": self.took.as_micros() as f64 / 1000.0,
            "usage": usage_json(&usage),
            "steps": steps,
            "tasks": tasks,
        })
    }
}

/// An artifact, without its content.
fn artifact_json(artifact: &ArtifactRef) -> Value {
    json!({
        "name": artifact.name,
        "media_type": artifact.media_type,
        "digest": artifact.digest,
        "size_bytes": artifact.size_bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Severity;

    fn found(revision: u32, what: u32) -> (u32, String, Finding) {
        let (location, suggestion, help_url) = (None, None, None);
        let message = what.to_string();
        (revision, "g".into(), Finding { rule: "r".into(), severity: Severity::High, message, location, suggestion, help_url, fix: None })
    }

    proptest! {
        #[test]
        fn what_was_mended_is_told_by_what_was_found_before(rounds in prop::collection::vec(prop::collection::vec(0_u32..6, 0..8), 2..5)) {
            let findings = (0..).zip(&rounds).flat_map(|(revision, of)| of.iter().map(move |what| found(revision, *what))).collect();
            let told = TaskReport { revision: rounds.len() as u32 - 1, findings, ..TaskReport::default() }.rounds();
            prop_assert_eq!(told.len(), rounds.len());
            let mut before: &[u32] = &[];
            for (round, now) in told.iter().zip(&rounds) {
                let of = |told: &[(String, Finding)]| told.iter().map(|(_, finding)| finding.message.parse().expect("a number")).collect::<Vec<u32>>();
                let gone: Vec<u32> = before.iter().copied().filter(|what| !now.contains(what)).collect();
                let (still, new): (Vec<u32>, Vec<u32>) = now.iter().copied().partition(|what| before.contains(what));
                prop_assert_eq!((of(&round.solved), of(&round.still), of(&round.new)), (gone, still, new));
                before = now;
            }
        }
    }

    /// By comparing each with each, this would take an hour.
    #[test]
    fn a_gate_that_finds_a_great_deal_in_each_round_is_told_of_soon() {
        let findings = (0..600_000).map(|n| found(n / 300_000, n)).collect();
        let told = TaskReport { revision: 1, findings, ..TaskReport::default() }.rounds();
        assert_eq!((told[1].solved.len(), told[1].still.len(), told[1].new.len()), (300_000, 0, 300_000));
    }
}
