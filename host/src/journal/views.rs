//! What is known of runs without reading all of their records: folded from them, and made again from them at any time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Record;
use crate::clock::Timestamp;
use crate::machine::{Event, TaskKey, TaskReason};
use crate::model::RunId;

/// A run in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The name of its workflow.
    pub workflow: String,
    /// How it stands: running, paused, cancelling, completed, failed or cancelled.
    pub status: String,
    /// What it had to do without; of a run that completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// Its key, if the caller gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// 1 before 2, up to 9.
    pub priority: u8,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// The time of its last record.
    pub changed_at: Timestamp,
    /// How many records it has.
    pub version: u64,
    /// The ids of its steps.
    pub steps: Vec<String>,
    /// How many tasks its steps have, as far as that is known.
    pub tasks: u64,
    /// How many of them completed.
    pub completed: u64,
    /// How many were given up, those set aside included.
    pub failed: u64,
    /// How many are set aside for a person to deal with.
    pub dead_letters: u64,
    /// How many wait for a person's approval.
    pub approving: u64,
    /// How many attempts were started.
    pub attempts: u64,
    /// The weighted wasm instructions that workers and gates used.
    pub fuel: u64,
}

/// A task that was given up and set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The run.
    pub run: RunId,
    /// The name of its workflow.
    pub workflow: String,
    /// The id of its step.
    pub step: String,
    /// The task.
    pub task: TaskKey,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: TaskReason,
}

/// A read model that is not what the records make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The run.
    pub run: RunId,
    /// Which read model, or which record.
    pub what: String,
}

/// Everything that is folded from the records of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Views {
    pub(super) row: RunRow,
    /// Which tasks have a dead letter.
    pub(super) dead: BTreeSet<TaskKey>,
    /// The letters that came since somebody took them, and none for those that went.
    pub(super) letters: BTreeMap<TaskKey, Option<DeadLetter>>,
}

impl Views {
    /// Begins with a run's first record; `None` for any other.
    pub(super) fn begin(record: &Record) -> Option<Self> {
        let Event::RunStarted { workflow, idempotency_key, .. } = &record.event else { return None };
        let row = RunRow {
            run: record.run,
            workflow: workflow.name.clone(),
            status: "running".to_owned(),
            degraded: Vec::new(),
            idempotency_key: idempotency_key.clone(),
            priority: workflow.priority,
            started_at: record.at,
            ended_at: None,
            changed_at: record.at,
            version: record.version,
            steps: workflow.steps.iter().map(|step| step.id.clone()).collect(),
            tasks: 0,
            completed: 0,
            failed: 0,
            dead_letters: 0,
            approving: 0,
            attempts: 0,
            fuel: 0,
        };
        Some(Self { row, dead: BTreeSet::new(), letters: BTreeMap::new() })
    }

    /// Folds the next record.
    pub(super) fn add(&mut self, record: &Record) {
        let row = &mut self.row;
        row.version = record.version;
        row.changed_at = record.at;
        let ended = |row: &mut RunRow, status: &str| {
            status.clone_into(&mut row.status);
            row.ended_at = Some(record.at);
        };
        match &record.event {
            Event::RunStarted { .. }
            | Event::AttemptLost { .. }
            | Event::RetryScheduled { .. }
            | Event::GateStarted { .. }
            | Event::GateLost { .. }
            | Event::GateRetryScheduled { .. }
            | Event::PlanSubmitted { .. }
            | Event::PlanRejected { .. }
            | Event::RevisionRequested { .. }
            | Event::TaskHeld { .. }
            | Event::FallbackStarted { .. }
            | Event::StepCompleted { .. }
            | Event::StepFailed { .. }
            | Event::StepSkipped { .. }
            | Event::StepCancelled { .. }
            | Event::TaskCancelled { .. }
            | Event::BreakerChanged { .. } => {}
            Event::PlanAccepted { steps, .. } => row.steps.extend(steps.iter().map(|step| step.id.clone())),
            Event::StepStarted { tasks, .. } => row.tasks += u64::from(*tasks),
            Event::AttemptStarted { .. } => row.attempts += 1,
            Event::AttemptCompleted { receipt, .. }
            | Event::AttemptFailed { receipt, .. }
            | Event::GateAnswered { receipt, .. }
            | Event::GateFailed { receipt, .. } => row.fuel += receipt.fuel,
            Event::ApprovalRequested { .. } => row.approving += 1,
            Event::ApprovalGiven { .. } | Event::ApprovalRefused { .. } => row.approving = row.approving.saturating_sub(1),
            Event::TaskCompleted { .. } => row.completed += 1,
            Event::TaskFailed { .. } => row.failed += 1,
            Event::TaskDeadLettered { task, reason } => {
                row.failed += 1;
                row.dead_letters += 1;
                let step = row.steps.get(task.step as usize).cloned().unwrap_or_default();
                let workflow = row.workflow.clone();
                let letter = DeadLetter { run: record.run, workflow, step, task: *task, at: record.at, reason: reason.clone() };
                self.dead.insert(*task);
                self.letters.insert(*task, Some(letter));
            }
            Event::TaskRequeued { task } => {
                row.failed = row.failed.saturating_sub(1);
                self.bury(*task);
            }
            Event::TaskDiscarded { task } => self.bury(*task),
            Event::CancelRequested { .. } => {
                "cancelling".clone_into(&mut row.status);
                row.approving = 0;
            }
            Event::RunPaused { .. } => "paused".clone_into(&mut row.status),
            Event::RunResumed => "running".clone_into(&mut row.status),
            Event::RunReopened => {
                "running".clone_into(&mut row.status);
                row.ended_at = None;
                row.degraded.clear();
            }
            Event::RunCompleted { degraded } => {
                ended(row, "completed");
                row.degraded.clone_from(degraded);
            }
            Event::RunFailed => ended(row, "failed"),
            Event::RunCancelled => ended(row, "cancelled"),
        }
    }

    fn bury(&mut self, task: TaskKey) {
        if self.dead.remove(&task) {
            self.row.dead_letters -= 1;
            self.letters.insert(task, None);
        }
    }
}
