//! Everything that can happen to a run, in the past tense. Closed: a new event is a new word in the journal for ever.

use serde::{Deserialize, Serialize};

use super::host::BreakerState;
use crate::clock::Timestamp;
use crate::model::text::counted;
use crate::model::{ArtifactRef, Digest, Failure, Finding, Log, Receipt, Step, Verdict, Workflow};

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
        /// What they found, in the last round: the first of it, since the verdicts are on record.
        findings: Vec<Finding>,
        /// How many findings are left out.
        #[serde(default, skip_serializing_if = "crate::model::is_zero")]
        more: u64,
    },
    /// Gates rejected it twice with the same findings: another round would end the same.
    RejectedAgain {
        /// What they found, both times: the first of it.
        findings: Vec<Finding>,
        /// How many findings are left out.
        #[serde(default, skip_serializing_if = "crate::model::is_zero")]
        more: u64,
    },
    /// The host ended again and again while it was executing: it is not trusted to be run once more.
    Lost {
        /// How often.
        times: u32,
    },
}

impl TaskReason {
    /// The reason in a line, for a person.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Failed { failure } => failure.to_string(),
            Self::GateFailed { failure, .. } => format!("a gate could not answer: {failure}"),
            Self::Rejected { findings, more } => {
                format!("rejected with {}, and no revision is left", counted(findings.len() as u64 + more, "finding"))
            }
            Self::RejectedAgain { findings, more } => {
                format!("rejected twice with the same {}", counted(findings.len() as u64 + more, "finding"))
            }
            Self::Lost { times } => format!("the host ended {times} times while it was executing"),
        }
    }
}

/// An event of a run. Each says from which states it leads to which; the manager emits all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every run. Steps without needs may start.
    RunStarted {
        /// What is to be executed.
        workflow: Workflow,
        /// For each step, the list of the files that its globs matched, read and kept when the run was accepted.
        files: Vec<Option<Digest>>,
        /// The caller's key: a second submission with it is this run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
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
        /// The plugin that is called, where another than the one named provides the work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
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
        /// The end of what it wrote.
        #[serde(default, skip_serializing_if = "Log::is_empty")]
        log: Log,
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
        /// What it wrote.
        #[serde(default, skip_serializing_if = "Log::is_empty")]
        log: Log,
    },
    /// The host ended while the attempt was on record as started, or took it back before its turn. From `RUNNING`; it is run
    /// again.
    AttemptLost {
        /// The task.
        task: TaskKey,
        /// Which attempt.
        attempt: u32,
        /// Whether it had begun to execute: only then it counts, and is run again alone.
        executing: bool,
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
        /// The plugin that is called, where another than the one named provides the work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
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
        /// The end of what it wrote.
        #[serde(default, skip_serializing_if = "Log::is_empty")]
        log: Log,
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
        /// What it wrote.
        #[serde(default, skip_serializing_if = "Log::is_empty")]
        log: Log,
    },
    /// The host ended while a gate was on record as called, or took the call back before its turn. Stays `VALIDATING`; it is
    /// called again.
    GateLost {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// Which attempt.
        attempt: u32,
        /// Whether it had begun to execute.
        executing: bool,
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
    /// The gates let it through, and a person is to say so too. `VALIDATING` to `APPROVING`.
    ApprovalRequested {
        /// The task.
        task: TaskKey,
    },
    /// A person approved. Stays `APPROVING`; completed by another event of the same append.
    ApprovalGiven {
        /// The task.
        task: TaskKey,
        /// What the person said.
        comment: String,
    },
    /// A person refused. Stays `APPROVING`; another event of the same append says to where.
    ApprovalRefused {
        /// The task.
        task: TaskKey,
        /// What the person said: feedback for the worker.
        comment: String,
    },
    /// A result that is a plan passed its gates, and is to be read. `VALIDATING` or `APPROVING` to `EXPANDING`.
    PlanSubmitted {
        /// The task.
        task: TaskKey,
    },
    /// The plan fits: its steps are the run's from now on, behind those that it has. Stays `EXPANDING`; completed by another
    /// event of the same append.
    PlanAccepted {
        /// The task.
        task: TaskKey,
        /// The plan's steps, under the names that they have in the run.
        steps: Vec<Step>,
        /// For each of them, the list of the artifacts beside the plan that its globs matched.
        files: Vec<Option<Digest>>,
    },
    /// The plan does not fit. Stays `EXPANDING`; another event of the same append says to where.
    PlanRejected {
        /// The task.
        task: TaskKey,
        /// What is wrong with it: feedback for the worker.
        findings: Vec<Finding>,
    },
    /// Gates, a person or the reader of plans sent the work back. `VALIDATING`, `APPROVING` or `EXPANDING` to `REVISING`.
    RevisionRequested {
        /// The task.
        task: TaskKey,
        /// The round that follows.
        revision: u32,
    },
    /// The result passed every gate. `VALIDATING`, `APPROVING` or `EXPANDING` to `COMPLETED`.
    TaskCompleted {
        /// The task.
        task: TaskKey,
    },
    /// The task is given up. From `RUNNING`, `VALIDATING`, `APPROVING` or `EXPANDING` to `FAILED`.
    TaskFailed {
        /// The task.
        task: TaskKey,
        /// Why.
        reason: TaskReason,
    },
    /// The task is given up, and set aside with its reason and input until a person deals with it. To `DEAD_LETTERED`.
    TaskDeadLettered {
        /// The task.
        task: TaskKey,
        /// Why.
        reason: TaskReason,
    },
    /// The task waits for a person: the run is paused. From `RUNNING`, `VALIDATING`, `APPROVING` or `EXPANDING` to `PAUSED`.
    TaskHeld {
        /// The task.
        task: TaskKey,
        /// Why.
        reason: TaskReason,
    },
    /// The step's other worker takes the task over. From `RUNNING`, `VALIDATING`, `APPROVING` or `EXPANDING` to
    /// `REVISING`.
    FallbackStarted {
        /// The task.
        task: TaskKey,
        /// Why.
        reason: TaskReason,
    },
    /// A person has a task that was given up run again. From `FAILED` or `DEAD_LETTERED` to `PENDING`.
    TaskRequeued {
        /// The task.
        task: TaskKey,
    },
    /// A person has seen a dead letter, and wants no more of it. `DEAD_LETTERED` to `FAILED`.
    TaskDiscarded {
        /// The task.
        task: TaskKey,
    },
    /// The task was cancelled. From any state to `CANCELLED`.
    TaskCancelled {
        /// The task.
        task: TaskKey,
    },
    /// All tasks of a step have ended, and what they made is enough. Steps that need it may start.
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
    /// Nothing starts any more until the run is resumed; what runs goes on to its end.
    RunPaused {
        /// Why, for a person.
        reason: String,
    },
    /// The run goes on; tasks that were held are run again.
    RunResumed,
    /// A person has tasks of a run that had ended run again.
    RunReopened,
    /// Every step completed, or was optional. The run has ended.
    RunCompleted {
        /// What had to be done without, for a person. Empty: nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        degraded: Vec<String>,
    },
    /// Every step ended, and not all completed. The run has ended.
    RunFailed,
    /// The run was cancelled, and nothing of it is under way any more. The run has ended.
    RunCancelled,
    /// Of the host, and of no run: a circuit breaker opened, is being probed, or closed.
    BreakerChanged {
        /// The component and its grants.
        component: String,
        /// The plugin's name.
        plugin: String,
        /// How it stands now.
        to: BreakerState,
    },
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
            Self::AttemptLost { .. } => "attempt_lost",
            Self::RetryScheduled { .. } => "retry_scheduled",
            Self::GateStarted { .. } => "gate_started",
            Self::GateAnswered { .. } => "gate_answered",
            Self::GateFailed { .. } => "gate_failed",
            Self::GateLost { .. } => "gate_lost",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalGiven { .. } => "approval_given",
            Self::ApprovalRefused { .. } => "approval_refused",
            Self::GateRetryScheduled { .. } => "gate_retry_scheduled",
            Self::PlanSubmitted { .. } => "plan_submitted",
            Self::PlanAccepted { .. } => "plan_accepted",
            Self::PlanRejected { .. } => "plan_rejected",
            Self::RevisionRequested { .. } => "revision_requested",
            Self::TaskCompleted { .. } => "task_completed",
            Self::TaskFailed { .. } => "task_failed",
            Self::TaskDeadLettered { .. } => "task_dead_lettered",
            Self::TaskHeld { .. } => "task_held",
            Self::FallbackStarted { .. } => "fallback_started",
            Self::TaskRequeued { .. } => "task_requeued",
            Self::TaskDiscarded { .. } => "task_discarded",
            Self::TaskCancelled { .. } => "task_cancelled",
            Self::StepCompleted { .. } => "step_completed",
            Self::StepFailed { .. } => "step_failed",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepCancelled { .. } => "step_cancelled",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::RunPaused { .. } => "run_paused",
            Self::RunResumed => "run_resumed",
            Self::RunReopened => "run_reopened",
            Self::RunCompleted { .. } => "run_completed",
            Self::RunFailed => "run_failed",
            Self::RunCancelled => "run_cancelled",
            Self::BreakerChanged { .. } => "breaker_changed",
        }
    }

    /// The task that the event is about, where it is about one.
    #[must_use]
    pub fn task(&self) -> Option<TaskKey> {
        match self {
            Self::AttemptStarted { task, .. }
            | Self::AttemptCompleted { task, .. }
            | Self::AttemptFailed { task, .. }
            | Self::AttemptLost { task, .. }
            | Self::RetryScheduled { task, .. }
            | Self::GateStarted { task, .. }
            | Self::GateAnswered { task, .. }
            | Self::GateFailed { task, .. }
            | Self::GateLost { task, .. }
            | Self::GateRetryScheduled { task, .. }
            | Self::ApprovalRequested { task }
            | Self::ApprovalGiven { task, .. }
            | Self::ApprovalRefused { task, .. }
            | Self::PlanSubmitted { task }
            | Self::PlanAccepted { task, .. }
            | Self::PlanRejected { task, .. }
            | Self::RevisionRequested { task, .. }
            | Self::TaskCompleted { task }
            | Self::TaskFailed { task, .. }
            | Self::TaskDeadLettered { task, .. }
            | Self::TaskHeld { task, .. }
            | Self::FallbackStarted { task, .. }
            | Self::TaskRequeued { task }
            | Self::TaskDiscarded { task }
            | Self::TaskCancelled { task } => Some(*task),
            Self::RunStarted { .. }
            | Self::StepStarted { .. }
            | Self::StepCompleted { .. }
            | Self::StepFailed { .. }
            | Self::StepSkipped { .. }
            | Self::StepCancelled { .. }
            | Self::CancelRequested { .. }
            | Self::RunPaused { .. }
            | Self::RunResumed
            | Self::RunReopened
            | Self::RunCompleted { .. }
            | Self::RunFailed
            | Self::RunCancelled
            | Self::BreakerChanged { .. } => None,
        }
    }

    /// Whether the run has ended with it.
    #[must_use]
    pub fn ends_the_run(&self) -> bool {
        matches!(self, Self::RunCompleted { .. } | Self::RunFailed | Self::RunCancelled)
    }

    /// The step that it is about, where it is about a step as a whole.
    #[must_use]
    pub fn step(&self) -> Option<u32> {
        match self {
            Self::StepStarted { step, .. }
            | Self::StepCompleted { step }
            | Self::StepFailed { step }
            | Self::StepSkipped { step, .. }
            | Self::StepCancelled { step } => Some(*step),
            _ => None,
        }
    }

    /// The gate's place in its step, where it is about a call of a gate.
    #[must_use]
    pub fn gate(&self) -> Option<u32> {
        match self {
            Self::GateStarted { gate, .. }
            | Self::GateAnswered { gate, .. }
            | Self::GateFailed { gate, .. }
            | Self::GateLost { gate, .. }
            | Self::GateRetryScheduled { gate, .. } => Some(*gate),
            _ => None,
        }
    }
}
