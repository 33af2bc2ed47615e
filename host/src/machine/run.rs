//! A run: the state that events fold into, and what is outstanding in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{Event, TaskKey, TaskReason};
use crate::clock::Timestamp;
use crate::model::{ArtifactRef, Digest, Failure, Finding, Receipt, Workflow};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum RunStatus {
    Running,
    Cancelling,
    Completed,
    Failed,
    Cancelled,
}

impl RunStatus {
    /// The word shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Running | Self::Cancelling => false,
        }
    }
}

/// What a step has come to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks completed.
    pub completed: u32,
    /// Tasks given up.
    pub failed: u32,
    /// Tasks cancelled.
    pub cancelled: u32,
    /// Attempts started.
    pub attempts: u64,
    /// Rounds after a rejection.
    pub revisions: u64,
    /// What its workers and gates used together.
    pub receipt: Receipt,
}

/// One gate's part in judging a task.
#[derive(Debug, Clone, PartialEq)]
pub enum GateState {
    /// To be called.
    Ready {
        /// Which attempt that will be.
        attempt: u32,
    },
    /// Being called.
    Running {
        /// Which attempt.
        attempt: u32,
    },
    /// Could not answer; another event decides what follows.
    Faltered {
        /// Which attempt.
        attempt: u32,
        /// How it failed.
        failure: Failure,
    },
    /// Will be asked again.
    Retrying {
        /// Which attempt that will be.
        attempt: u32,
        /// When.
        due_at: Timestamp,
    },
    /// Gave its verdict.
    Answered {
        /// Whether that lets the task through.
        passed: bool,
        /// What it found.
        findings: Vec<Finding>,
    },
}

/// Where a task that is alive stands. `PENDING` tasks are those from the step's cursor on; ended ones are counted.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// Sent back, and to be run again: `REVISING`.
    Revising,
    /// Its worker is being called.
    Running {
        /// Which attempt.
        attempt: u32,
    },
    /// Its attempt failed; another event of the same append decides what follows.
    Faltered {
        /// Which attempt.
        attempt: u32,
        /// How it failed.
        failure: Failure,
    },
    /// Waits for another attempt.
    Retrying {
        /// Which attempt that will be.
        attempt: u32,
        /// When.
        due_at: Timestamp,
    },
    /// Its result is being judged.
    Validating {
        /// What is judged.
        artifacts: Vec<ArtifactRef>,
        /// What the judged attempt used.
        receipt: Receipt,
        /// The gates, in the order of the step.
        gates: Vec<GateState>,
    },
}

/// A task that has started and not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveTask {
    /// Counts rounds, from 0.
    pub revision: u32,
    /// What each gate said in the round before.
    pub feedback: Vec<(u32, Finding)>,
    /// What was rejected in the round before.
    pub previous: Vec<ArtifactRef>,
    /// Where it stands.
    pub state: TaskState,
}

/// A step that has inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRun {
    /// How many tasks it has.
    pub tasks: u32,
    /// The blob that lists its inputs.
    pub inputs: Digest,
    /// The first task that has not started.
    pub cursor: u32,
    /// The tasks that have started and not ended.
    pub live: BTreeMap<u32, LiveTask>,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// Needs steps that have not completed.
    Waiting {
        /// How many.
        unmet: u32,
    },
    /// Its needs are completed; its inputs are to be resolved.
    Starting,
    /// Its tasks are under way.
    Active(StepRun),
    /// All tasks completed.
    Completed,
    /// Not all tasks completed.
    Failed,
    /// Not started, since a need did not complete.
    Skipped,
    /// Cancelled.
    Cancelled,
}

impl StepState {
    /// The word shown.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Starting => "starting",
            Self::Active(_) => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Something outstanding, to be done by the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Find out the inputs of a step, and answer with [`super::Input::StepInputs`].
    ResolveInputs {
        /// The step.
        step: u32,
    },
    /// Call a gate.
    RunGate {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// Which attempt it will be.
        attempt: u32,
    },
    /// Call a worker.
    RunWorker {
        /// The task.
        task: TaskKey,
        /// Which attempt it will be.
        attempt: u32,
        /// Which round.
        revision: u32,
    },
    /// Close what is done: answer with [`super::Input::Settle`].
    Settle,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Task(TaskKey),
    Gate(TaskKey, u32),
}

/// An event that does not fit the state: on replay the journal is damaged; before an append it is our bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event {event} does not fit a run that is {status} at version {version}")]
pub struct IllegalTransition {
    /// The event's word.
    pub event: &'static str,
    /// How the run stands.
    pub status: &'static str,
    /// How many events it has had.
    pub version: u64,
}

/// One execution of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What is executed.
    pub workflow: Arc<Workflow>,
    /// For each step, the files that its globs matched.
    pub files: Arc<Vec<Vec<ArtifactRef>>>,
    /// When it started.
    pub started_at: Timestamp,
    /// How it stands.
    pub status: RunStatus,
    /// How its steps stand, in the order of the workflow.
    pub steps: Vec<StepState>,
    /// What its steps have come to.
    pub tallies: Vec<Tally>,
    /// The number of events applied.
    pub version: u64,
    pub(super) graph: Graph,
    // What is due, indexed: follows from the states above, and is never found by walking them.
    pub(super) starting: BTreeSet<u32>,
    pub(super) wide: BTreeSet<u32>,
    pub(super) revising: BTreeSet<TaskKey>,
    pub(super) gates: BTreeSet<(TaskKey, u32)>,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// Steps that can be closed now.
    pub(super) closable: BTreeSet<u32>,
    /// How many steps are not closed.
    pub(super) open: u32,
}

/// The edges of a workflow, by place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graph {
    pub(super) needs: Vec<Vec<u32>>,
    pub(super) dependents: Vec<Vec<u32>>,
}

impl Graph {
    fn of(workflow: &Workflow) -> Option<Self> {
        let places: BTreeMap<&str, u32> = workflow.steps.iter().zip(0..).map(|(step, place)| (step.id.as_str(), place)).collect();
        let mut dependents = vec![Vec::new(); workflow.steps.len()];
        let mut needs = Vec::with_capacity(workflow.steps.len());
        for (step, place) in workflow.steps.iter().zip(0_u32..) {
            let of_step = step.needs.iter().map(|need| places.get(need.as_str()).copied()).collect::<Option<Vec<u32>>>()?;
            for need in &of_step {
                dependents[*need as usize].push(place);
            }
            needs.push(of_step);
        }
        Some(Self { needs, dependents })
    }
}

impl Run {
    /// The state after the first event of a run.
    ///
    /// # Errors
    /// When the event is not [`Event::RunStarted`], or its workflow needs steps that it does not have.
    pub fn begin(at: Timestamp, event: &Event) -> Result<Self, IllegalTransition> {
        let illegal = IllegalTransition { event: event.name(), status: "not started", version: 0 };
        let Event::RunStarted { workflow, files } = event else { return Err(illegal) };
        if files.len() != workflow.steps.len() {
            return Err(illegal);
        }
        let graph = Graph::of(workflow).ok_or(illegal)?;
        let mut run = Self {
            workflow: Arc::new(workflow.clone()),
            files: Arc::new(files.clone()),
            started_at: at,
            status: RunStatus::Running,
            steps: Vec::with_capacity(workflow.steps.len()),
            tallies: vec![Tally::default(); workflow.steps.len()],
            version: 1,
            graph,
            starting: BTreeSet::new(),
            wide: BTreeSet::new(),
            revising: BTreeSet::new(),
            gates: BTreeSet::new(),
            timers: BTreeSet::new(),
            closable: BTreeSet::new(),
            open: workflow.steps.len() as u32,
        };
        for place in 0..workflow.steps.len() {
            let unmet = run.graph.needs[place].len() as u32;
            if unmet == 0 {
                run.starting.insert(place as u32);
                run.steps.push(StepState::Starting);
            } else {
                run.steps.push(StepState::Waiting { unmet });
            }
        }
        Ok(run)
    }

    /// Folds an event into the state: live and on replay alike.
    ///
    /// # Errors
    /// When the event does not fit the state; the state is then as it was.
    pub fn apply(&mut self, at: Timestamp, event: &Event) -> Result<(), IllegalTransition> {
        let _ = at; // every time that matters is in an event's own fields
        if self.status.is_final() {
            return Err(self.illegal(event));
        }
        match event {
            Event::RunStarted { .. } => return Err(self.illegal(event)),
            Event::StepStarted { step, tasks, inputs } => self.step_started(event, *step, *tasks, *inputs)?,
            Event::AttemptStarted { task, attempt, revision } => self.attempt_started(event, *task, *attempt, *revision)?,
            Event::AttemptCompleted { task, attempt, artifacts, receipt } => {
                let gates = self.workflow.steps.get(task.step as usize).map_or(0, |step| step.gates.len());
                let live = self.running(event, *task, *attempt)?;
                live.state = TaskState::Validating {
                    artifacts: artifacts.clone(),
                    receipt: *receipt,
                    gates: vec![GateState::Ready { attempt: 1 }; gates],
                };
                self.gates.extend((0..gates as u32).map(|gate| (*task, gate)));
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::AttemptFailed { task, attempt, failure, receipt } => {
                let live = self.running(event, *task, *attempt)?;
                live.state = TaskState::Faltered { attempt: *attempt, failure: failure.clone() };
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::RetryScheduled { task, due_at } => {
                let illegal = self.illegal(event);
                let live = self.live_mut(*task).ok_or(illegal)?;
                let TaskState::Faltered { attempt, .. } = live.state else { return Err(illegal) };
                live.state = TaskState::Retrying { attempt: attempt + 1, due_at: *due_at };
                self.timers.insert((*due_at, Timer::Task(*task)));
            }
            Event::GateStarted { task, gate, attempt } => self.gate_started(event, *task, *gate, *attempt)?,
            Event::GateAnswered { task, gate, attempt, verdict, passed, receipt } => {
                let state = self.running_gate(event, *task, *gate, *attempt)?;
                *state = GateState::Answered { passed: *passed, findings: verdict.findings.clone() };
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::GateFailed { task, gate, attempt, failure, receipt } => {
                let state = self.running_gate(event, *task, *gate, *attempt)?;
                *state = GateState::Faltered { attempt: *attempt, failure: failure.clone() };
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::GateRetryScheduled { task, gate, due_at } => {
                let illegal = self.illegal(event);
                let state = self.gate_mut(*task, *gate).ok_or(illegal)?;
                let GateState::Faltered { attempt, .. } = *state else { return Err(illegal) };
                *state = GateState::Retrying { attempt: attempt + 1, due_at: *due_at };
                self.timers.insert((*due_at, Timer::Gate(*task, *gate)));
            }
            Event::RevisionRequested { task, revision } => self.revision_requested(event, *task, *revision)?,
            Event::TaskCompleted { task } => {
                let illegal = self.illegal(event);
                match self.live(*task).map(|live| &live.state) {
                    Some(TaskState::Validating { gates, .. })
                        if gates.iter().all(|gate| matches!(gate, GateState::Answered { passed: true, .. })) => {}
                    Some(
                        TaskState::Validating { .. }
                        | TaskState::Revising
                        | TaskState::Running { .. }
                        | TaskState::Faltered { .. }
                        | TaskState::Retrying { .. },
                    )
                    | None => return Err(illegal),
                }
                self.tallies[task.step as usize].completed += 1;
                self.end_task(*task);
            }
            Event::TaskFailed { task, reason } => {
                let illegal = self.illegal(event);
                let fits = match (self.live(*task).map(|live| &live.state), reason) {
                    (Some(TaskState::Faltered { .. }), TaskReason::Failed { .. })
                    | (
                        Some(TaskState::Validating { .. }),
                        TaskReason::GateFailed { .. } | TaskReason::Rejected { .. } | TaskReason::RejectedAgain { .. },
                    ) => true,
                    (
                        Some(
                            TaskState::Faltered { .. }
                            | TaskState::Validating { .. }
                            | TaskState::Revising
                            | TaskState::Running { .. }
                            | TaskState::Retrying { .. },
                        )
                        | None,
                        TaskReason::Failed { .. }
                        | TaskReason::GateFailed { .. }
                        | TaskReason::Rejected { .. }
                        | TaskReason::RejectedAgain { .. },
                    ) => false,
                };
                if !fits {
                    return Err(illegal);
                }
                self.tallies[task.step as usize].failed += 1;
                self.end_task(*task);
            }
            Event::TaskCancelled { task } => {
                if self.status != RunStatus::Cancelling || self.live(*task).is_none() {
                    return Err(self.illegal(event));
                }
                self.tallies[task.step as usize].cancelled += 1;
                self.end_task(*task);
            }
            Event::StepCompleted { step } => self.step_completed(event, *step)?,
            Event::StepFailed { step } => self.step_closed(event, *step, StepState::Failed)?,
            Event::StepCancelled { step } => self.step_closed(event, *step, StepState::Cancelled)?,
            Event::StepSkipped { step, need } => {
                let skipped = match (self.steps.get(*step as usize), self.steps.get(*need as usize)) {
                    (Some(StepState::Waiting { .. }), Some(StepState::Failed | StepState::Skipped | StepState::Cancelled)) => true,
                    (
                        Some(
                            StepState::Waiting { .. }
                            | StepState::Starting
                            | StepState::Active(_)
                            | StepState::Completed
                            | StepState::Failed
                            | StepState::Skipped
                            | StepState::Cancelled,
                        )
                        | None,
                        _,
                    ) => false,
                };
                if !skipped {
                    return Err(self.illegal(event));
                }
                self.steps[*step as usize] = StepState::Skipped;
                self.open -= 1;
            }
            Event::CancelRequested { .. } => {
                if self.status != RunStatus::Running {
                    return Err(self.illegal(event));
                }
                self.status = RunStatus::Cancelling;
                let closable = (0..).zip(&self.steps).filter(|(_, state)| match state {
                    StepState::Waiting { .. } | StepState::Starting => true,
                    StepState::Active(active) => active.live.is_empty(),
                    StepState::Completed | StepState::Failed | StepState::Skipped | StepState::Cancelled => false,
                });
                self.closable.extend(closable.map(|(step, _)| step));
            }
            Event::RunCompleted => self.end(event, RunStatus::Completed)?,
            Event::RunFailed => self.end(event, RunStatus::Failed)?,
            Event::RunCancelled => self.end(event, RunStatus::Cancelled)?,
        }
        self.version += 1;
        Ok(())
    }

    /// What is outstanding now, the most urgent first: closing what is done and resolving inputs, all of it; then at most
    /// `calls` calls: gates, then rounds and retries of tasks that have started, then new tasks, of all active steps in turn.
    #[must_use]
    pub fn due(&self, now: Timestamp, calls: usize) -> Vec<Effect> {
        let mut due = Vec::new();
        if self.status.is_final() {
            return due;
        }
        if self.open == 0 || !self.closable.is_empty() {
            due.push(Effect::Settle);
        }
        if self.status == RunStatus::Cancelling {
            return due;
        }
        due.extend(self.starting.iter().map(|step| Effect::ResolveInputs { step: *step }));
        let full = due.len() + calls;
        due.extend(self.gates.iter().take(calls).filter_map(|(task, gate)| self.gate_effect(*task, *gate)));
        let tasks = self.revising.iter().copied().take(calls);
        due.extend(tasks.filter_map(|task| self.live(task).map(|live| Effect::RunWorker { task, attempt: 1, revision: live.revision })));
        let elapsed = self.timers.iter().take_while(|(at, _)| *at <= now).take(calls);
        due.extend(elapsed.filter_map(|(_, timer)| match timer {
            Timer::Task(task) => self.live(*task).and_then(|live| match live.state {
                TaskState::Retrying { attempt, .. } => Some(Effect::RunWorker { task: *task, attempt, revision: live.revision }),
                TaskState::Revising | TaskState::Running { .. } | TaskState::Faltered { .. } | TaskState::Validating { .. } => None,
            }),
            Timer::Gate(task, gate) => self.gate_effect(*task, *gate),
        }));
        let mut offset = 0;
        while due.len() < full {
            let before = due.len();
            for step in &self.wide {
                let StepState::Active(active) = &self.steps[*step as usize] else { continue };
                if let Some(index) = active.cursor.checked_add(offset).filter(|index| *index < active.tasks) {
                    due.push(Effect::RunWorker { task: TaskKey { step: *step, index }, attempt: 1, revision: 0 });
                }
            }
            offset += 1;
            if due.len() == before {
                break;
            }
        }
        due.truncate(full);
        due
    }

    /// When the next retry is due; absent when none waits.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        if self.status != RunStatus::Running {
            return None;
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// A task that has started and not ended.
    #[must_use]
    pub fn live(&self, task: TaskKey) -> Option<&LiveTask> {
        match self.steps.get(task.step as usize)? {
            StepState::Active(active) => active.live.get(&task.index),
            StepState::Waiting { .. }
            | StepState::Starting
            | StepState::Completed
            | StepState::Failed
            | StepState::Skipped
            | StepState::Cancelled => None,
        }
    }

    fn gate_effect(&self, task: TaskKey, gate: u32) -> Option<Effect> {
        let TaskState::Validating { gates, .. } = &self.live(task)?.state else { return None };
        match gates.get(gate as usize)? {
            GateState::Ready { attempt } | GateState::Retrying { attempt, .. } => Some(Effect::RunGate { task, gate, attempt: *attempt }),
            GateState::Running { .. } | GateState::Faltered { .. } | GateState::Answered { .. } => None,
        }
    }

    pub(super) fn illegal(&self, event: &Event) -> IllegalTransition {
        IllegalTransition { event: event.name(), status: self.status.as_str(), version: self.version }
    }

    fn active_mut(&mut self, step: u32) -> Option<&mut StepRun> {
        match self.steps.get_mut(step as usize)? {
            StepState::Active(active) => Some(active),
            StepState::Waiting { .. }
            | StepState::Starting
            | StepState::Completed
            | StepState::Failed
            | StepState::Skipped
            | StepState::Cancelled => None,
        }
    }

    fn live_mut(&mut self, task: TaskKey) -> Option<&mut LiveTask> {
        self.active_mut(task.step)?.live.get_mut(&task.index)
    }

    fn gate_mut(&mut self, task: TaskKey, gate: u32) -> Option<&mut GateState> {
        match &mut self.live_mut(task)?.state {
            TaskState::Validating { gates, .. } => gates.get_mut(gate as usize),
            TaskState::Revising | TaskState::Running { .. } | TaskState::Faltered { .. } | TaskState::Retrying { .. } => None,
        }
    }

    fn running(&mut self, event: &Event, task: TaskKey, attempt: u32) -> Result<&mut LiveTask, IllegalTransition> {
        if !matches!(self.live(task).map(|live| &live.state), Some(TaskState::Running { attempt: a }) if *a == attempt) {
            return Err(self.illegal(event));
        }
        let illegal = self.illegal(event);
        self.live_mut(task).ok_or(illegal)
    }

    fn running_gate(&mut self, event: &Event, task: TaskKey, gate: u32, attempt: u32) -> Result<&mut GateState, IllegalTransition> {
        let illegal = self.illegal(event);
        match self.gate_mut(task, gate) {
            Some(state) if *state == (GateState::Running { attempt }) => Ok(state),
            Some(_) | None => Err(illegal),
        }
    }

    fn step_started(&mut self, event: &Event, step: u32, tasks: u32, inputs: Digest) -> Result<(), IllegalTransition> {
        if self.steps.get(step as usize) != Some(&StepState::Starting) || self.status != RunStatus::Running {
            return Err(self.illegal(event));
        }
        self.starting.remove(&step);
        self.steps[step as usize] = StepState::Active(StepRun { tasks, inputs, cursor: 0, live: BTreeMap::new() });
        if tasks == 0 {
            self.closable.insert(step);
        } else {
            self.wide.insert(step);
        }
        Ok(())
    }

    fn attempt_started(&mut self, event: &Event, task: TaskKey, attempt: u32, revision: u32) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        if self.status != RunStatus::Running {
            return Err(illegal);
        }
        let active = self.active_mut(task.step).ok_or(illegal)?;
        if task.index == active.cursor && active.cursor < active.tasks {
            if (attempt, revision) != (1, 0) {
                return Err(illegal);
            }
            active.cursor += 1;
            let live = LiveTask { revision: 0, feedback: Vec::new(), previous: Vec::new(), state: TaskState::Running { attempt } };
            active.live.insert(task.index, live);
            if active.cursor == active.tasks {
                self.wide.remove(&task.step);
            }
        } else {
            let live = active.live.get_mut(&task.index).filter(|live| live.revision == revision).ok_or(illegal)?;
            let due_at = match live.state {
                TaskState::Revising if attempt == 1 => None,
                TaskState::Retrying { attempt: next, due_at } if attempt == next => Some(due_at),
                TaskState::Revising
                | TaskState::Retrying { .. }
                | TaskState::Running { .. }
                | TaskState::Faltered { .. }
                | TaskState::Validating { .. } => return Err(illegal),
            };
            live.state = TaskState::Running { attempt };
            match due_at {
                Some(due_at) => self.timers.remove(&(due_at, Timer::Task(task))),
                None => self.revising.remove(&task),
            };
        }
        self.tallies[task.step as usize].attempts += 1;
        Ok(())
    }

    fn gate_started(&mut self, event: &Event, task: TaskKey, gate: u32, attempt: u32) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        if self.status != RunStatus::Running {
            return Err(illegal);
        }
        let state = self.gate_mut(task, gate).ok_or(illegal)?;
        let due_at = match state {
            GateState::Ready { attempt: next } if attempt == *next => None,
            GateState::Retrying { attempt: next, due_at } if attempt == *next => Some(*due_at),
            GateState::Ready { .. }
            | GateState::Retrying { .. }
            | GateState::Running { .. }
            | GateState::Faltered { .. }
            | GateState::Answered { .. } => return Err(illegal),
        };
        *state = GateState::Running { attempt };
        match due_at {
            Some(due_at) => self.timers.remove(&(due_at, Timer::Gate(task, gate))),
            None => self.gates.remove(&(task, gate)),
        };
        Ok(())
    }

    fn revision_requested(&mut self, event: &Event, task: TaskKey, revision: u32) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        let live = self.live_mut(task).ok_or(illegal)?;
        if revision != live.revision + 1 {
            return Err(illegal);
        }
        let TaskState::Validating { artifacts, gates, .. } = &live.state else { return Err(illegal) };
        let mut feedback = Vec::new();
        for (gate, state) in (0..).zip(gates) {
            let GateState::Answered { findings, .. } = state else { return Err(illegal) };
            feedback.extend(findings.iter().map(|finding| (gate, finding.clone())));
        }
        live.previous = artifacts.clone();
        live.feedback = feedback;
        live.revision = revision;
        live.state = TaskState::Revising;
        self.revising.insert(task);
        self.tallies[task.step as usize].revisions += 1;
        Ok(())
    }

    /// Takes a task out of its step, and out of everything that is due.
    fn end_task(&mut self, task: TaskKey) {
        let cancelling = self.status == RunStatus::Cancelling;
        let Some(active) = self.active_mut(task.step) else { return };
        let ended = active.live.remove(&task.index);
        if active.live.is_empty() && (cancelling || active.cursor == active.tasks) {
            self.closable.insert(task.step);
        }
        match ended.map(|live| live.state) {
            Some(TaskState::Revising) => {
                self.revising.remove(&task);
            }
            Some(TaskState::Retrying { due_at, .. }) => {
                self.timers.remove(&(due_at, Timer::Task(task)));
            }
            Some(TaskState::Validating { gates, .. }) => {
                for (gate, state) in (0..).zip(gates) {
                    match state {
                        GateState::Ready { .. } => {
                            self.gates.remove(&(task, gate));
                        }
                        GateState::Retrying { due_at, .. } => {
                            self.timers.remove(&(due_at, Timer::Gate(task, gate)));
                        }
                        GateState::Running { .. } | GateState::Faltered { .. } | GateState::Answered { .. } => {}
                    }
                }
            }
            Some(TaskState::Running { .. } | TaskState::Faltered { .. }) | None => {}
        }
    }

    fn step_completed(&mut self, event: &Event, step: u32) -> Result<(), IllegalTransition> {
        let completed = self.tallies.get(step as usize).map(|tally| tally.completed);
        match self.steps.get(step as usize) {
            Some(StepState::Active(active)) if active.live.is_empty() && completed == Some(active.tasks) => {}
            Some(
                StepState::Active(_)
                | StepState::Waiting { .. }
                | StepState::Starting
                | StepState::Completed
                | StepState::Failed
                | StepState::Skipped
                | StepState::Cancelled,
            )
            | None => return Err(self.illegal(event)),
        }
        self.steps[step as usize] = StepState::Completed;
        self.closable.remove(&step);
        self.open -= 1;
        for dependent in self.graph.dependents[step as usize].clone() {
            if let StepState::Waiting { unmet } = &mut self.steps[dependent as usize] {
                *unmet -= 1;
                if *unmet == 0 {
                    self.steps[dependent as usize] = StepState::Starting;
                    self.starting.insert(dependent);
                }
            }
        }
        Ok(())
    }

    fn step_closed(&mut self, event: &Event, step: u32, closed: StepState) -> Result<(), IllegalTransition> {
        match self.steps.get(step as usize) {
            Some(StepState::Active(active)) if active.live.is_empty() => {}
            Some(StepState::Waiting { .. } | StepState::Starting) if closed == StepState::Cancelled => {}
            Some(
                StepState::Active(_)
                | StepState::Waiting { .. }
                | StepState::Starting
                | StepState::Completed
                | StepState::Failed
                | StepState::Skipped
                | StepState::Cancelled,
            )
            | None => return Err(self.illegal(event)),
        }
        self.steps[step as usize] = closed;
        self.closable.remove(&step);
        self.open -= 1;
        self.starting.remove(&step);
        self.wide.remove(&step);
        Ok(())
    }

    fn end(&mut self, event: &Event, status: RunStatus) -> Result<(), IllegalTransition> {
        if self.open > 0 {
            return Err(self.illegal(event));
        }
        self.status = status;
        Ok(())
    }
}
