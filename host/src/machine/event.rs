//! Everything that can happen to a run, in the past tense. Closed: a new event is a new word in the journal for ever.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{ArtifactRef, Digest, Failure, Finding, Receipt, Verdict, Workflow};

/// A task: the step's place in the workflow, and the task's place in the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the type's sentence says it")]
pub struct TaskKey {
    pub step: u32,
    pub index: u32,
}

/// Why a task was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum TaskReason {
    /// Its last attempt failed, and no further one is due.
    Failed {
        /// How it failed.
        failure: Failure,
    },
    /// A gate could not answer, and is not asked again: what was not judged has not passed.
    GateFailed {
        /// Which gate, by its place in the step.
        gate: u32,
        /// How it failed.
        failure: Failure,
    },
    /// Gates rejected it, and no revision is left.
    Rejected {
        /// What they found, in the last round.
        findings: Vec<Finding>,
    },
    /// Gates rejected it twice with the same findings: another round would end the same.
    RejectedAgain {
        /// What they found, both times.
        findings: Vec<Finding>,
    },
}

/// An event of a run. Each says from which states it leads to which; the manager emits all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every run. Steps without needs may start.
    RunStarted {
        /// What is to be executed.
        workflow: Workflow,
        /// For each step, the files its globs matched, read and kept when the run started.
        files: Vec<Vec<ArtifactRef>>,
    },
    /// A step whose needs are completed knows its inputs. `Starting` to `Active`.
    StepStarted {
        /// The step.
        step: u32,
        /// How many tasks it has.
        tasks: u32,
        /// The blob that lists its inputs.
        inputs: Digest,
    },
    /// A worker is about to be called. From `PENDING`, `RETRYING` or `REVISING` to `RUNNING`.
    AttemptStarted {
        /// The task.
        task: TaskKey,
        /// Counts tries within the revision, from 1.
        attempt: u32,
        /// Counts rounds, from 0.
        revision: u32,
    },
    /// The worker returned. `RUNNING` to `VALIDATING`.
    AttemptCompleted {
        /// The task.
        task: TaskKey,
        /// Which attempt.
        attempt: u32,
        /// What it made.
        artifacts: Vec<ArtifactRef>,
        /// What it used.
        receipt: Receipt,
    },
    /// The attempt gave no answer. From `RUNNING`; another event of the same append says to where.
    AttemptFailed {
        /// The task.
        task: TaskKey,
        /// Which attempt.
        attempt: u32,
        /// How it failed.
        failure: Failure,
        /// What it used.
        receipt: Receipt,
    },
    /// Another attempt is due. To `RETRYING`.
    RetryScheduled {
        /// The task.
        task: TaskKey,
        /// When; jitter is in it already.
        due_at: Timestamp,
    },
    /// A gate is about to be called. Stays `VALIDATING`.
    GateStarted {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// Counts tries, from 1.
        attempt: u32,
    },
    /// A gate gave its verdict. Stays `VALIDATING` until all have.
    GateAnswered {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// Which attempt.
        attempt: u32,
        /// What it said.
        verdict: Verdict,
        /// Whether that lets the task through: the verdict and the step's threshold.
        passed: bool,
        /// What it used.
        receipt: Receipt,
    },
    /// A gate could not answer. Stays `VALIDATING`.
    GateFailed {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// Which attempt.
        attempt: u32,
        /// How it failed.
        failure: Failure,
        /// What it used.
        receipt: Receipt,
    },
    /// A gate that could not answer will be asked again. Stays `VALIDATING`.
    GateRetryScheduled {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// When.
        due_at: Timestamp,
    },
    /// Gates sent the work back. `VALIDATING` to `REVISING`.
    RevisionRequested {
        /// The task.
        task: TaskKey,
        /// The round that follows.
        revision: u32,
    },
    /// The result passed every gate. `VALIDATING` to `COMPLETED`.
    TaskCompleted {
        /// The task.
        task: TaskKey,
    },
    /// The task is given up. From `RUNNING` or `VALIDATING` to `FAILED`.
    TaskFailed {
        /// The task.
        task: TaskKey,
        /// Why.
        reason: TaskReason,
    },
    /// The task was cancelled. From any state to `CANCELLED`.
    TaskCancelled {
        /// The task.
        task: TaskKey,
    },
    /// All tasks of a step are completed. Steps that need it may start.
    StepCompleted {
        /// The step.
        step: u32,
    },
    /// All tasks of a step ended, and not all were completed.
    StepFailed {
        /// The step.
        step: u32,
    },
    /// A step will not start, since one that it needs did not complete.
    StepSkipped {
        /// The step.
        step: u32,
        /// The step that it needed.
        need: u32,
    },
    /// The step was cancelled before all of its tasks ended.
    StepCancelled {
        /// The step.
        step: u32,
    },
    /// Somebody asked to cancel the run. Nothing starts any more; what runs is ended.
    CancelRequested {
        /// Why, for a person.
        reason: String,
    },
    /// Every step completed. The run has ended.
    RunCompleted,
    /// Every step ended, and not all completed. The run has ended.
    RunFailed,
    /// The run was cancelled, and nothing of it is under way any more. The run has ended.
    RunCancelled,
}

impl Event {
    /// The event's word, as in the journal.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::StepStarted { .. } => "step_started",
            Self::AttemptStarted { .. } => "attempt_started",
            Self::AttemptCompleted { .. } => "attempt_completed",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::RetryScheduled { .. } => "retry_scheduled",
            Self::GateStarted { .. } => "gate_started",
            Self::GateAnswered { .. } => "gate_answered",
            Self::GateFailed { .. } => "gate_failed",
            Self::GateRetryScheduled { .. } => "gate_retry_scheduled",
            Self::RevisionRequested { .. } => "revision_requested",
            Self::TaskCompleted { .. } => "task_completed",
            Self::TaskFailed { .. } => "task_failed",
            Self::TaskCancelled { .. } => "task_cancelled",
            Self::StepCompleted { .. } => "step_completed",
            Self::StepFailed { .. } => "step_failed",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepCancelled { .. } => "step_cancelled",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::RunCompleted => "run_completed",
            Self::RunFailed => "run_failed",
            Self::RunCancelled => "run_cancelled",
        }
    }
}
