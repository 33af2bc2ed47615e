//! A run: the state that events fold into.

use std::collections::{BTreeMap, BTreeSet};

use super::agenda::{Agenda, Who};
use super::event::{Event, TaskKey, TaskReason};
use super::live::{Again, Approval, First, Found, GateState, GivenUp, LiveTask, Reading, TaskState, Work, refusal};
use crate::clock::Timestamp;
use crate::model::workflow::STEPS_MAX;
use crate::model::{Digest, Receipt, Step, Workflow};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum RunStatus {
    Running,
    Paused,
    Cancelling,
    Completed,
    Failed,
    Cancelled,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [Self::Running, Self::Paused, Self::Cancelling, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
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
            Self::Running | Self::Paused | Self::Cancelling => false,
        }
    }
}

/// What a step has come to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks completed.
    pub completed: u32,
    /// Tasks given up, those set aside included.
    pub failed: u32,
    /// Tasks cancelled.
    pub cancelled: u32,
    /// Tasks that the step's other worker took over.
    pub fallbacks: u32,
    /// Attempts started.
    pub attempts: u64,
    /// Rounds after a rejection.
    pub revisions: u64,
    /// What its workers and gates used together.
    pub receipt: Receipt,
}

/// A step that has inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRun {
    /// How many tasks it has.
    pub tasks: u32,
    /// The blob that lists its inputs.
    pub inputs: Digest,
    /// The run's version when it started: what its tasks did is behind it.
    pub since_version: u64,
    /// The first task that has not started.
    pub cursor: u32,
    /// The tasks that have started and not ended.
    pub live: BTreeMap<u32, LiveTask>,
    /// The tasks that were given up.
    pub given_up: BTreeMap<u32, GivenUp>,
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
    Starting {
        /// The run's version when they were: what was found before that may lack what a need made since.
        since_version: u64,
    },
    /// Its tasks are under way.
    Active(StepRun),
    /// Its tasks ended, and what they made is enough.
    Completed(StepRun),
    /// Not all tasks completed.
    Failed(StepRun),
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
            Self::Starting { .. } => "starting",
            Self::Active(_) => "active",
            Self::Completed(_) => "completed",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// The step's tasks, where it has started.
    #[must_use]
    pub fn run(&self) -> Option<&StepRun> {
        match self {
            Self::Active(run) | Self::Completed(run) | Self::Failed(run) => Some(run),
            Self::Waiting { .. } | Self::Starting { .. } | Self::Skipped | Self::Cancelled => None,
        }
    }

    /// Whether what needs it cannot start.
    fn is_broken(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Skipped | Self::Cancelled => true,
            Self::Waiting { .. } | Self::Starting { .. } | Self::Active(_) | Self::Completed(_) => false,
        }
    }

    /// Whether nothing more happens in it.
    fn is_closed(&self) -> bool {
        match self {
            Self::Completed(_) | Self::Failed(_) | Self::Skipped | Self::Cancelled => true,
            Self::Waiting { .. } | Self::Starting { .. } | Self::Active(_) => false,
        }
    }
}

/// Something outstanding, to be done by the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Find out the inputs of a step, and answer with [`super::Input::StepInputs`].
    ResolveInputs {
        /// The step.
        step: u32,
    },
    /// Read a plan, and answer with [`super::Input::PlanRead`].
    ReadPlan {
        /// The task that made it.
        task: TaskKey,
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
#[derive(Debug, Clone)]
pub struct Run {
    /// What is executed: the steps that the run was accepted with, and behind them those of plans.
    pub workflow: Workflow,
    /// For each step, the list of the files that its globs matched.
    pub files: Vec<Option<Digest>>,
    /// When it started.
    pub started_at: Timestamp,
    /// How it stands.
    pub status: RunStatus,
    /// How its steps stand, in the order of the workflow.
    pub steps: Vec<StepState>,
    /// What its steps have come to.
    pub tallies: Vec<Tally>,
    /// For each step, the task whose plan it is of; none for those that the run was accepted with.
    pub origins: Vec<Option<TaskKey>>,
    /// The number of events applied.
    pub version: u64,
    pub(super) graph: Graph,
    /// How many steps are not closed.
    pub(super) open: u32,
    pub(super) agenda: Agenda,
}

/// Two runs are the same when their states are; what is due follows from those, but for the turn that steps take.
impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        let Self { workflow, files, started_at, status, steps, tallies, origins, version, graph: _, open, agenda: _ } = self;
        *workflow == other.workflow
            && *files == other.files
            && *started_at == other.started_at
            && *status == other.status
            && *steps == other.steps
            && *tallies == other.tallies
            && *origins == other.origins
            && *version == other.version
            && *open == other.open
    }
}

/// The edges of a workflow, by place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graph {
    pub(super) needs: Vec<Vec<u32>>,
    pub(super) dependents: Vec<Vec<u32>>,
}

impl Graph {
    /// The edges among steps that need one another alone; the first of them has the place `first`.
    fn of(steps: &[Step], first: u32) -> Option<Self> {
        let places: BTreeMap<&str, u32> = steps.iter().zip(first..).map(|(step, place)| (step.id.as_str(), place)).collect();
        let mut dependents = vec![Vec::new(); steps.len()];
        let mut needs = Vec::with_capacity(steps.len());
        for (step, place) in steps.iter().zip(first..) {
            let of_step = step.needs.iter().map(|need| places.get(need.as_str()).copied()).collect::<Option<Vec<u32>>>()?;
            for need in &of_step {
                dependents[(need - first) as usize].push(place);
            }
            needs.push(of_step);
        }
        Some(Self { needs, dependents })
    }

    /// Every step that needs a step, and those that need these, and so on.
    fn downstream(&self, step: u32) -> Vec<u32> {
        let mut seen = vec![false; self.dependents.len()];
        let mut found = Vec::new();
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            for dependent in &self.dependents[step as usize] {
                if !std::mem::replace(&mut seen[*dependent as usize], true) {
                    found.push(*dependent);
                    open.push(*dependent);
                }
            }
        }
        found
    }
}

impl Run {
    /// The state after the first event of a run.
    ///
    /// # Errors
    /// When the event is not [`Event::RunStarted`], or its workflow needs steps that it does not have.
    pub fn begin(at: Timestamp, event: &Event) -> Result<Self, IllegalTransition> {
        let illegal = IllegalTransition { event: event.name(), status: "not started", version: 0 };
        let Event::RunStarted { workflow, files, .. } = event else { return Err(illegal) };
        if files.len() != workflow.steps.len() {
            return Err(illegal);
        }
        let graph = Graph::of(&workflow.steps, 0).ok_or(illegal)?;
        let mut run = Self {
            workflow: workflow.clone(),
            files: files.clone(),
            started_at: at,
            status: RunStatus::Running,
            steps: Vec::with_capacity(workflow.steps.len()),
            tallies: vec![Tally::default(); workflow.steps.len()],
            origins: vec![None; workflow.steps.len()],
            version: 1,
            graph,
            open: workflow.steps.len() as u32,
            agenda: Agenda::default(),
        };
        for place in 0..workflow.steps.len() {
            let unmet = run.graph.needs[place].len() as u32;
            let state = run.begin_step(place as u32, unmet);
            run.steps.push(state);
        }
        Ok(run)
    }

    /// Folds an event into the state: live and on replay alike.
    ///
    /// # Errors
    /// When the event does not fit the state; the state is then as it was.
    pub fn apply(&mut self, at: Timestamp, event: &Event) -> Result<(), IllegalTransition> {
        let _ = at; // every time that matters is in an event's own fields
        let version = self.version + 1;
        let of_a_person = matches!(event, Event::RunReopened | Event::TaskDiscarded { .. });
        if self.status.is_final() && !of_a_person {
            return Err(self.illegal(event));
        }
        match event {
            Event::RunStarted { .. } | Event::BreakerChanged { .. } => return Err(self.illegal(event)),
            Event::StepStarted { step, tasks, inputs } => self.step_started(event, *step, *tasks, *inputs)?,
            Event::AttemptStarted { task, attempt, revision, .. } => self.attempt_started(event, *task, *attempt, *revision)?,
            Event::AttemptCompleted { task, attempt, artifacts, receipt, .. } => {
                let gates = self.workflow.steps.get(task.step as usize).map_or(0, |step| step.gates.len());
                let live = self.running(event, *task, *attempt)?;
                live.state = TaskState::Validating {
                    attempt: *attempt,
                    work: Work::new(version, artifacts),
                    receipt: *receipt,
                    gates: vec![GateState::Ready { attempt: 1, lost: 0, failures: 0 }; gates],
                };
                for gate in 0..gates as u32 {
                    self.agenda.add(&self.workflow, Who::Gate(gate), *task);
                }
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::AttemptFailed { task, attempt, failure, receipt, .. } => {
                let live = self.running(event, *task, *attempt)?;
                live.failures += 1;
                live.state = TaskState::Faltered { attempt: *attempt, failure: failure.clone() };
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::AttemptLost { task, attempt, executing } => {
                let live = self.running(event, *task, *attempt)?;
                live.lost += u32::from(*executing);
                self.again(*task, attempt + 1, if *executing { Again::Lost } else { Again::Returned });
            }
            Event::RetryScheduled { task, due_at } => {
                let illegal = self.illegal(event);
                let live = self.live_mut(*task).ok_or(illegal)?;
                let TaskState::Faltered { attempt, .. } = live.state else { return Err(illegal) };
                live.state = TaskState::Retrying { attempt: attempt + 1, due_at: *due_at };
                self.agenda.timers.insert((*due_at, *task, None));
            }
            Event::GateStarted { task, gate, attempt, .. } => self.gate_started(event, *task, *gate, *attempt)?,
            Event::GateAnswered { task, gate, attempt, verdict, passed, receipt, .. } => {
                let gates = self.workflow.steps.get(task.step as usize).map_or(0, |step| step.gates.len());
                let state = self.running_gate(event, *task, *gate, *attempt)?;
                let (found, first) = (Found::new(version, &verdict.findings), First::new(&verdict.findings, gates));
                *state = GateState::Answered { passed: *passed, found, first };
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::GateFailed { task, gate, attempt, failure, receipt, .. } => {
                let state = self.running_gate(event, *task, *gate, *attempt)?;
                if let GateState::Running { attempt, lost, failures } = *state {
                    *state = GateState::Faltered { attempt, lost, failures: failures + 1, failure: failure.clone() };
                }
                self.tallies[task.step as usize].receipt.add(receipt);
            }
            Event::GateLost { task, gate, attempt, executing } => {
                let state = self.running_gate(event, *task, *gate, *attempt)?;
                if let GateState::Running { attempt, lost, failures } = *state {
                    *state = GateState::Ready { attempt: attempt + 1, lost: lost + u32::from(*executing), failures };
                }
                if *executing {
                    self.agenda.alone.insert((*task, Some(*gate)));
                } else {
                    self.agenda.add(&self.workflow, Who::Gate(*gate), *task);
                }
            }
            Event::GateRetryScheduled { task, gate, due_at } => {
                let illegal = self.illegal(event);
                let state = self.gate_mut(*task, *gate).ok_or(illegal)?;
                let GateState::Faltered { attempt, lost, failures, .. } = *state else { return Err(illegal) };
                *state = GateState::Retrying { attempt: attempt + 1, lost, failures, due_at: *due_at };
                self.agenda.timers.insert((*due_at, *task, Some(*gate)));
            }
            Event::ApprovalRequested { task } => {
                let illegal = self.illegal(event);
                let live = self.passed(*task).ok_or(illegal)?;
                let TaskState::Validating { attempt, work, .. } = &live.state else { return Err(illegal) };
                live.state = TaskState::Approving { attempt: *attempt, work: work.clone(), approval: Approval::Awaited };
            }
            Event::ApprovalGiven { task, .. } => self.approval(event, *task, Approval::Given)?,
            Event::ApprovalRefused { task, comment } => {
                self.approval(event, *task, Approval::Refused { found: Found::new(version, &[refusal(comment)]) })?;
            }
            Event::PlanSubmitted { task } => {
                let illegal = self.illegal(event);
                let expands = self.workflow.steps.get(task.step as usize).is_some_and(|step| step.expand.is_some());
                if !expands {
                    return Err(illegal);
                }
                let live = match self.is_approved(*task) {
                    true => self.live_mut(*task),
                    false => self.passed(*task),
                };
                let live = live.ok_or(illegal)?;
                let (TaskState::Validating { attempt, work, .. } | TaskState::Approving { attempt, work, .. }) = &live.state else {
                    return Err(illegal);
                };
                live.state = TaskState::Expanding { attempt: *attempt, work: work.clone(), reading: Reading::Awaited };
                self.agenda.plans.insert(*task);
            }
            Event::PlanAccepted { task, steps, files } => self.plan_accepted(event, *task, steps, files)?,
            Event::PlanRejected { task, findings } => {
                *self.awaited_plan(event, *task)? = Reading::Rejected { found: Found::new(version, findings) };
                self.agenda.plans.remove(task);
            }
            Event::RevisionRequested { task, revision } => {
                let illegal = self.illegal(event);
                let live = self.live_mut(*task).filter(|live| *revision == live.revision + 1).ok_or(illegal)?;
                if !live.take_back() {
                    return Err(illegal);
                }
                live.revision = *revision;
                live.failures = 0;
                self.tallies[task.step as usize].revisions += 1;
                self.again(*task, 1, Again::Revised);
            }
            Event::TaskCompleted { task } => {
                let illegal = self.illegal(event);
                let expands = self.workflow.steps.get(task.step as usize).is_some_and(|step| step.expand.is_some());
                let state = self.live(*task).map(|live| &live.state);
                let fits = match expands {
                    true => matches!(state, Some(TaskState::Expanding { reading: Reading::Accepted, .. })),
                    false => self.is_approved(*task) || self.passed(*task).is_some(),
                };
                if !fits {
                    return Err(illegal);
                }
                self.tallies[task.step as usize].completed += 1;
                self.end_task(*task);
            }
            Event::TaskFailed { task, reason } => self.give_up(event, *task, reason, false)?,
            Event::TaskDeadLettered { task, reason } => self.give_up(event, *task, reason, true)?,
            Event::TaskHeld { task, reason } => {
                let illegal = self.illegal(event);
                let live = self.live_mut(*task).filter(|live| live.is_exhausted(reason)).ok_or(illegal)?;
                let attempt = live.attempt() + 1;
                live.take_back();
                live.state = TaskState::Held { attempt, reason: reason.clone() };
                self.agenda.held.insert(*task);
            }
            Event::FallbackStarted { task, reason } => {
                let illegal = self.illegal(event);
                let has_one = self.workflow.steps.get(task.step as usize).is_some_and(|step| step.fallback.is_some());
                let live = self.live_mut(*task).filter(|live| has_one && !live.fallback && live.is_exhausted(reason)).ok_or(illegal)?;
                let attempt = live.attempt() + 1;
                live.take_back();
                live.fallback = true;
                live.start_anew();
                self.tallies[task.step as usize].fallbacks += 1;
                self.again(*task, attempt, Again::FellBack);
            }
            Event::TaskRequeued { task } => self.requeue(event, *task)?,
            Event::TaskDiscarded { task } => {
                let illegal = self.illegal(event);
                let given_up = self.step_run_mut(task.step).and_then(|run| run.given_up.get_mut(&task.index));
                let given_up = given_up.filter(|given_up| given_up.dead_letter).ok_or(illegal)?;
                given_up.dead_letter = false;
            }
            Event::TaskCancelled { task } => {
                if self.status != RunStatus::Cancelling || self.live(*task).is_none() {
                    return Err(self.illegal(event));
                }
                self.tallies[task.step as usize].cancelled += 1;
                self.end_task(*task);
            }
            Event::StepCompleted { step } => self.step_completed(event, *step)?,
            Event::StepFailed { step } => self.step_closed(event, *step, false)?,
            Event::StepCancelled { step } => self.step_closed(event, *step, true)?,
            Event::StepSkipped { step, need } => {
                let waits = matches!(self.steps.get(*step as usize), Some(StepState::Waiting { .. }));
                if !waits || !self.steps.get(*need as usize).is_some_and(StepState::is_broken) {
                    return Err(self.illegal(event));
                }
                self.steps[*step as usize] = StepState::Skipped;
                for need in &self.graph.needs[*step as usize] {
                    if self.steps[*need as usize].is_broken() {
                        self.agenda.closable.remove(need); // each step that waits for it is skipped now, and has its own event
                    }
                }
                self.open -= 1;
            }
            Event::CancelRequested { .. } => {
                if self.status == RunStatus::Cancelling {
                    return Err(self.illegal(event));
                }
                self.status = RunStatus::Cancelling;
                let closable = (0..).zip(&self.steps).filter(|(_, state)| match state {
                    StepState::Waiting { .. } | StepState::Starting { .. } => true,
                    StepState::Active(active) => active.live.is_empty(),
                    StepState::Completed(_) | StepState::Failed(_) | StepState::Skipped | StepState::Cancelled => false,
                });
                self.agenda.closable.extend(closable.map(|(step, _)| step));
            }
            Event::RunPaused { .. } => {
                if self.status != RunStatus::Running {
                    return Err(self.illegal(event));
                }
                self.status = RunStatus::Paused;
            }
            Event::RunResumed => {
                if self.status != RunStatus::Paused {
                    return Err(self.illegal(event));
                }
                self.status = RunStatus::Running;
                for task in std::mem::take(&mut self.agenda.held) {
                    let Some(live) = self.live_mut(task) else { continue };
                    let TaskState::Held { attempt, .. } = live.state else { continue };
                    live.start_anew();
                    self.again(task, attempt, Again::Requeued);
                }
            }
            Event::RunReopened => {
                if !matches!(self.status, RunStatus::Completed | RunStatus::Failed) {
                    return Err(self.illegal(event));
                }
                self.status = RunStatus::Running;
            }
            Event::RunCompleted { .. } => self.end(event, RunStatus::Completed)?,
            Event::RunFailed => self.end(event, RunStatus::Failed)?,
            Event::RunCancelled => self.end(event, RunStatus::Cancelled)?,
        }
        self.version += 1;
        Ok(())
    }

    /// A task that has started and not ended.
    #[must_use]
    pub fn live(&self, task: TaskKey) -> Option<&LiveTask> {
        match self.steps.get(task.step as usize)? {
            StepState::Active(active) => active.live.get(&task.index),
            StepState::Waiting { .. }
            | StepState::Starting { .. }
            | StepState::Completed(_)
            | StepState::Failed(_)
            | StepState::Skipped
            | StepState::Cancelled => None,
        }
    }

    /// The steps that a step says it needs, with their places.
    pub fn needs_of(&self, step: u32) -> impl Iterator<Item = (&str, u32)> {
        let places = self.graph.needs[step as usize].iter().copied();
        self.workflow.steps[step as usize].needs.iter().map(String::as_str).zip(places)
    }

    /// The steps whose results stand for a step's: itself, or the last steps of the plans that its tasks made.
    #[must_use]
    pub fn stands_for(&self, step: u32) -> Vec<u32> {
        if self.workflow.steps[step as usize].expand.is_none() {
            return vec![step];
        }
        // The last steps of each plan, by its planner, in the order of its tasks: plans may be nested, and one look is enough for all.
        let mut last: BTreeMap<u32, BTreeSet<(TaskKey, u32)>> = BTreeMap::new();
        for (place, origin) in (0..).zip(&self.origins) {
            let Some(origin) = *origin else { continue };
            let goes_on = |dependent: &u32| self.origins[*dependent as usize] == Some(origin);
            if !self.graph.dependents[place as usize].iter().any(goes_on) {
                last.entry(origin.step).or_default().insert((origin, place));
            }
        }
        let (mut stand, mut open) = (Vec::new(), vec![step]);
        while let Some(step) = open.pop() {
            match self.workflow.steps[step as usize].expand {
                None => stand.push(step),
                Some(_) => open.extend(last.get(&step).into_iter().flatten().rev().map(|(_, place)| *place)),
            }
        }
        stand
    }

    fn is_approved(&self, task: TaskKey) -> bool {
        matches!(self.live(task).map(|live| &live.state), Some(TaskState::Approving { approval: Approval::Given, .. }))
    }

    /// Whether nothing but a person's approval lets the run go on.
    #[must_use]
    pub fn waits_for_approval(&self) -> bool {
        let mut awaited = false;
        for state in &self.steps {
            let StepState::Active(active) = state else { continue };
            if active.cursor < active.tasks {
                return false;
            }
            for live in active.live.values() {
                match live.state {
                    TaskState::Approving { .. } => awaited = true,
                    TaskState::Held { .. } => {}
                    TaskState::Ready { .. }
                    | TaskState::Running { .. }
                    | TaskState::Faltered { .. }
                    | TaskState::Retrying { .. }
                    | TaskState::Validating { .. }
                    | TaskState::Expanding { .. } => return false,
                }
            }
        }
        awaited
    }

    /// The word for how a task stands, `BLOCKED` apart, which is said of its worker's breaker.
    #[must_use]
    pub fn task_state(&self, task: TaskKey) -> Option<&'static str> {
        let state = self.steps.get(task.step as usize)?;
        if let Some(live) = self.live(task) {
            return Some(live.state.as_str());
        }
        let of = state.run();
        match of.and_then(|run| run.given_up.get(&task.index)) {
            Some(given_up) if given_up.dead_letter => Some("DEAD_LETTERED"),
            Some(_) => Some("FAILED"),
            None if of.is_some_and(|run| task.index >= run.cursor) => Some("PENDING"),
            None => None, // completed or cancelled: its events say which
        }
    }

    /// A task that was given up.
    #[must_use]
    pub fn given_up(&self, task: TaskKey) -> Option<GivenUp> {
        self.steps.get(task.step as usize)?.run()?.given_up.get(&task.index).copied()
    }

    pub(super) fn illegal(&self, event: &Event) -> IllegalTransition {
        IllegalTransition { event: event.name(), status: self.status.as_str(), version: self.version }
    }

    fn step_run_mut(&mut self, step: u32) -> Option<&mut StepRun> {
        match self.steps.get_mut(step as usize)? {
            StepState::Active(run) | StepState::Completed(run) | StepState::Failed(run) => Some(run),
            StepState::Waiting { .. } | StepState::Starting { .. } | StepState::Skipped | StepState::Cancelled => None,
        }
    }

    fn active_mut(&mut self, step: u32) -> Option<&mut StepRun> {
        match self.steps.get_mut(step as usize)? {
            StepState::Active(active) => Some(active),
            StepState::Waiting { .. }
            | StepState::Starting { .. }
            | StepState::Completed(_)
            | StepState::Failed(_)
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
            TaskState::Ready { .. }
            | TaskState::Running { .. }
            | TaskState::Faltered { .. }
            | TaskState::Retrying { .. }
            | TaskState::Approving { .. }
            | TaskState::Expanding { .. }
            | TaskState::Held { .. } => None,
        }
    }

    /// A task whose gates all let it through.
    fn passed(&mut self, task: TaskKey) -> Option<&mut LiveTask> {
        let live = self.live_mut(task)?;
        match &live.state {
            TaskState::Validating { gates, .. } => {
                gates.iter().all(|gate| matches!(gate, GateState::Answered { passed: true, .. })).then_some(live)
            }
            TaskState::Ready { .. }
            | TaskState::Running { .. }
            | TaskState::Faltered { .. }
            | TaskState::Retrying { .. }
            | TaskState::Approving { .. }
            | TaskState::Expanding { .. }
            | TaskState::Held { .. } => None,
        }
    }

    fn running(&mut self, event: &Event, task: TaskKey, attempt: u32) -> Result<&mut LiveTask, IllegalTransition> {
        let illegal = self.illegal(event);
        self.live_mut(task).filter(|live| live.state == TaskState::Running { attempt }).ok_or(illegal)
    }

    fn running_gate(&mut self, event: &Event, task: TaskKey, gate: u32, attempt: u32) -> Result<&mut GateState, IllegalTransition> {
        let illegal = self.illegal(event);
        let running = |state: &&mut GateState| matches!(state, GateState::Running { attempt: a, .. } if *a == attempt);
        self.gate_mut(task, gate).filter(running).ok_or(illegal)
    }

    /// Has a task run again at once.
    fn again(&mut self, task: TaskKey, attempt: u32, again: Again) {
        let Some(live) = self.live_mut(task) else { return };
        live.state = TaskState::Ready { attempt, again };
        if again == Again::Lost {
            self.agenda.alone.insert((task, None));
        } else {
            let who = self.who(task, None);
            self.agenda.add(&self.workflow, who, task);
        }
    }

    /// What is said of a plan that is to be read.
    fn awaited_plan(&mut self, event: &Event, task: TaskKey) -> Result<&mut Reading, IllegalTransition> {
        let illegal = self.illegal(event);
        match self.live_mut(task).map(|live| &mut live.state) {
            Some(TaskState::Expanding { reading, .. }) if *reading == Reading::Awaited => Ok(reading),
            Some(_) | None => Err(illegal),
        }
    }

    /// Takes a plan's steps into the run, behind those that it has. What waits for the step that made the plan waits for the
    /// plan's last steps too.
    fn plan_accepted(&mut self, event: &Event, task: TaskKey, steps: &[Step], files: &[Option<Digest>]) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        let fits = matches!(self.status, RunStatus::Running | RunStatus::Paused)
            && files.len() == steps.len()
            && self.workflow.steps.len() + steps.len() <= STEPS_MAX;
        if !fits {
            return Err(illegal);
        }
        let first = self.workflow.steps.len() as u32;
        let graph = Graph::of(steps, first).ok_or(illegal)?;
        *self.awaited_plan(event, task)? = Reading::Accepted;
        self.agenda.plans.remove(&task);
        self.graph.needs.extend(graph.needs);
        self.graph.dependents.extend(graph.dependents);
        let added = first..first + steps.len() as u32;
        let last: Vec<u32> = added.clone().filter(|step| self.graph.dependents[*step as usize].is_empty()).collect();
        self.workflow.steps.extend_from_slice(steps);
        self.files.extend_from_slice(files);
        self.tallies.resize(self.tallies.len() + steps.len(), Tally::default());
        self.origins.resize(self.origins.len() + steps.len(), Some(task));
        self.open += steps.len() as u32;
        for step in added {
            let unmet = self.graph.needs[step as usize].len() as u32;
            let state = self.begin_step(step, unmet);
            self.steps.push(state);
        }
        for dependent in self.graph.dependents[task.step as usize].clone() {
            match &mut self.steps[dependent as usize] {
                StepState::Waiting { unmet } => *unmet += last.len() as u32,
                StepState::Skipped => {} // on account of another; when it waits again, it waits for these too
                StepState::Starting { .. }
                | StepState::Active(_)
                | StepState::Completed(_)
                | StepState::Failed(_)
                | StepState::Cancelled => {
                    continue; // it started without this task, which a person had run again
                }
            }
            self.graph.needs[dependent as usize].extend(&last);
            for step in &last {
                self.graph.dependents[*step as usize].push(dependent);
            }
        }
        Ok(())
    }

    /// How a step begins that waits for a number of others.
    fn begin_step(&mut self, step: u32, unmet: u32) -> StepState {
        if unmet > 0 {
            return StepState::Waiting { unmet };
        }
        self.agenda.starting.insert(step);
        StepState::Starting { since_version: self.version }
    }

    fn approval(&mut self, event: &Event, task: TaskKey, said: Approval) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        match self.live_mut(task).map(|live| &mut live.state) {
            Some(TaskState::Approving { approval, .. }) if *approval == Approval::Awaited => *approval = said,
            Some(_) | None => return Err(illegal),
        }
        Ok(())
    }

    fn step_started(&mut self, event: &Event, step: u32, tasks: u32, inputs: Digest) -> Result<(), IllegalTransition> {
        let starts = matches!(self.steps.get(step as usize), Some(StepState::Starting { .. }));
        if !starts || !matches!(self.status, RunStatus::Running | RunStatus::Paused) {
            return Err(self.illegal(event));
        }
        self.agenda.starting.remove(&step);
        self.steps[step as usize] = StepState::Active(StepRun {
            tasks,
            inputs,
            since_version: self.version + 1,
            cursor: 0,
            live: BTreeMap::new(),
            given_up: BTreeMap::new(),
        });
        if tasks == 0 {
            self.agenda.closable.insert(step);
        } else {
            self.agenda.widen(&self.workflow, step);
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
            active.live.insert(task.index, LiveTask::new(0, TaskState::Running { attempt }));
            if active.cursor == active.tasks {
                self.agenda.narrow(&self.workflow, task.step);
            }
        } else {
            let live = active.live.get_mut(&task.index).filter(|live| live.revision == revision).ok_or(illegal)?;
            match live.state {
                TaskState::Ready { attempt: next, .. } if attempt == next => {}
                TaskState::Retrying { attempt: next, .. } if attempt == next => {}
                TaskState::Ready { .. }
                | TaskState::Retrying { .. }
                | TaskState::Running { .. }
                | TaskState::Faltered { .. }
                | TaskState::Validating { .. }
                | TaskState::Approving { .. }
                | TaskState::Expanding { .. }
                | TaskState::Held { .. } => return Err(illegal),
            }
            let before = std::mem::replace(&mut live.state, TaskState::Running { attempt });
            self.forget(task, &before);
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
        let (lost, failures) = match state {
            GateState::Ready { attempt: next, lost, failures } if attempt == *next => (*lost, *failures),
            GateState::Retrying { attempt: next, lost, failures, .. } if attempt == *next => (*lost, *failures),
            GateState::Ready { .. }
            | GateState::Retrying { .. }
            | GateState::Running { .. }
            | GateState::Faltered { .. }
            | GateState::Answered { .. } => return Err(illegal),
        };
        let before = std::mem::replace(state, GateState::Running { attempt, lost, failures });
        self.forget_gate(task, gate, &before);
        Ok(())
    }

    /// Takes a task that was in a state out of everything that is due.
    fn forget(&mut self, task: TaskKey, state: &TaskState) {
        match state {
            TaskState::Ready { again: Again::Lost, .. } => {
                self.agenda.alone.remove(&(task, None));
            }
            TaskState::Ready { .. } => {
                self.agenda.remove(&self.workflow, Who::Worker, task);
                self.agenda.remove(&self.workflow, Who::Fallback, task);
            }
            TaskState::Retrying { due_at, .. } => {
                self.agenda.timers.remove(&(*due_at, task, None));
                self.agenda.remove(&self.workflow, Who::Worker, task);
                self.agenda.remove(&self.workflow, Who::Fallback, task);
            }
            TaskState::Validating { gates, .. } => {
                for (gate, state) in (0..).zip(gates) {
                    self.forget_gate(task, gate, state);
                }
            }
            TaskState::Held { .. } => {
                self.agenda.held.remove(&task);
            }
            TaskState::Expanding { .. } => {
                self.agenda.plans.remove(&task);
            }
            TaskState::Running { .. } | TaskState::Faltered { .. } | TaskState::Approving { .. } => {}
        }
    }

    fn forget_gate(&mut self, task: TaskKey, gate: u32, state: &GateState) {
        match state {
            GateState::Ready { .. } => {
                self.agenda.remove(&self.workflow, Who::Gate(gate), task);
                self.agenda.alone.remove(&(task, Some(gate)));
            }
            GateState::Retrying { due_at, .. } => {
                self.agenda.timers.remove(&(*due_at, task, Some(gate)));
                self.agenda.remove(&self.workflow, Who::Gate(gate), task);
            }
            GateState::Running { .. } | GateState::Faltered { .. } | GateState::Answered { .. } => {}
        }
    }

    fn give_up(&mut self, event: &Event, task: TaskKey, reason: &TaskReason, dead_letter: bool) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        let live = self.live(task).filter(|live| live.is_exhausted(reason)).ok_or(illegal)?;
        let given_up = GivenUp { attempt: live.attempt(), revision: live.revision, dead_letter };
        self.tallies[task.step as usize].failed += 1;
        if let Some(active) = self.active_mut(task.step) {
            active.given_up.insert(task.index, given_up);
        }
        self.end_task(task);
        Ok(())
    }

    /// Takes a task out of its step, and out of everything that is due.
    fn end_task(&mut self, task: TaskKey) {
        let cancelling = self.status == RunStatus::Cancelling;
        let Some(active) = self.active_mut(task.step) else { return };
        let ended = active.live.remove(&task.index);
        if active.live.is_empty() && (cancelling || active.cursor == active.tasks) {
            self.agenda.closable.insert(task.step);
        }
        if let Some(live) = ended {
            self.forget(task, &live.state);
        }
    }

    /// Starts a task anew that was given up; its step is open again, and so is what was skipped on its account.
    fn requeue(&mut self, event: &Event, task: TaskKey) -> Result<(), IllegalTransition> {
        let illegal = self.illegal(event);
        let run = self.step_run_mut(task.step).ok_or(illegal)?;
        let given_up = run.given_up.remove(&task.index).ok_or(illegal)?;
        let mut live = LiveTask::new(given_up.revision, TaskState::Running { attempt: given_up.attempt });
        live.revision_base = given_up.revision;
        run.live.insert(task.index, live);
        self.tallies[task.step as usize].failed -= 1;
        let state = &mut self.steps[task.step as usize];
        let was_completed = matches!(state, StepState::Completed(_));
        if let StepState::Completed(run) | StepState::Failed(run) = state {
            *state = StepState::Active(run.clone());
            self.open += 1;
            self.reopen_downstream(task.step, was_completed);
        }
        self.agenda.closable.remove(&task.step);
        self.again(task, given_up.attempt + 1, Again::Requeued);
        Ok(())
    }

    fn reopen_downstream(&mut self, step: u32, was_completed: bool) {
        if was_completed {
            for below in self.graph.dependents[step as usize].clone() {
                match &mut self.steps[below as usize] {
                    StepState::Waiting { unmet } => *unmet += 1,
                    state @ StepState::Starting { .. } => {
                        *state = StepState::Waiting { unmet: 1 };
                        self.agenda.starting.remove(&below);
                    }
                    StepState::Active(_) | StepState::Completed(_) | StepState::Failed(_) | StepState::Skipped | StepState::Cancelled => {}
                }
            }
        }
        let is_skipped = |step: &u32| self.steps[*step as usize] == StepState::Skipped;
        // Where thousands are retried at once, the first of them opens what is below all of them.
        let below = if (0..self.steps.len() as u32).any(|step| is_skipped(&step)) { self.graph.downstream(step) } else { Vec::new() };
        let skipped: Vec<u32> = below.into_iter().filter(is_skipped).collect();
        for below in &skipped {
            self.steps[*below as usize] = StepState::Waiting { unmet: 0 };
            self.open += 1;
        }
        let unmet = |run: &Self, below: u32| {
            let needs = run.graph.needs[below as usize].iter();
            needs.filter(|need| !matches!(run.steps[**need as usize], StepState::Completed(_))).count() as u32
        };
        // What is skipped for another reason too is skipped again when the run settles.
        for below in skipped {
            self.steps[below as usize] = StepState::Waiting { unmet: unmet(self, below) };
            let other = self.graph.needs[below as usize].iter().copied().filter(|need| self.steps[*need as usize].is_broken());
            self.agenda.closable.extend(other);
        }
    }

    /// Whether what a step made is enough, now that its tasks have ended.
    pub(super) fn is_enough(&self, step: u32, run: &StepRun) -> bool {
        let completed = self.tallies[step as usize].completed;
        completed == run.tasks || (self.workflow.steps[step as usize].optional && completed > 0 && run.cursor == run.tasks)
    }

    fn step_completed(&mut self, event: &Event, step: u32) -> Result<(), IllegalTransition> {
        let run = match self.steps.get(step as usize) {
            Some(StepState::Active(run)) if run.live.is_empty() && self.is_enough(step, run) => run.clone(),
            Some(
                StepState::Active(_)
                | StepState::Waiting { .. }
                | StepState::Starting { .. }
                | StepState::Completed(_)
                | StepState::Failed(_)
                | StepState::Skipped
                | StepState::Cancelled,
            )
            | None => return Err(self.illegal(event)),
        };
        self.steps[step as usize] = StepState::Completed(run);
        self.agenda.closable.remove(&step);
        self.open -= 1;
        for dependent in self.graph.dependents[step as usize].clone() {
            if let StepState::Waiting { unmet } = &mut self.steps[dependent as usize] {
                *unmet -= 1;
                if *unmet == 0 {
                    self.steps[dependent as usize] = StepState::Starting { since_version: self.version };
                    self.agenda.starting.insert(dependent);
                }
            }
        }
        Ok(())
    }

    fn step_closed(&mut self, event: &Event, step: u32, cancelled: bool) -> Result<(), IllegalTransition> {
        let closed = match self.steps.get(step as usize) {
            Some(StepState::Active(run)) if run.live.is_empty() && !cancelled => StepState::Failed(run.clone()),
            Some(StepState::Active(run)) if run.live.is_empty() => StepState::Cancelled,
            Some(StepState::Waiting { .. } | StepState::Starting { .. }) if cancelled => StepState::Cancelled,
            Some(
                StepState::Active(_)
                | StepState::Waiting { .. }
                | StepState::Starting { .. }
                | StepState::Completed(_)
                | StepState::Failed(_)
                | StepState::Skipped
                | StepState::Cancelled,
            )
            | None => return Err(self.illegal(event)),
        };
        self.steps[step as usize] = closed;
        self.open -= 1;
        self.agenda.closable.remove(&step);
        self.agenda.starting.remove(&step);
        self.agenda.narrow(&self.workflow, step);
        Ok(())
    }

    fn end(&mut self, event: &Event, status: RunStatus) -> Result<(), IllegalTransition> {
        if self.open > 0 || !self.steps.iter().all(StepState::is_closed) {
            return Err(self.illegal(event));
        }
        self.agenda.closable.clear();
        self.status = status;
        Ok(())
    }
}
