//! What is due in a run, indexed: it follows from the states of its tasks, and is never found by walking them.

use std::collections::{BTreeMap, BTreeSet};

use super::event::TaskKey;
use super::run::{Effect, GateState, Run, RunStatus, StepState, TaskState};
use crate::clock::Timestamp;

/// Who is to be called for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// A gate of the step, by its place. First, since it ends what has begun.
    Gate(u32),
    /// The step's other worker.
    Fallback,
    /// The step's worker.
    Worker,
}

/// Calls of one plugin for one step: if one cannot start, none can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) who: Who,
    pub(super) step: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Agenda {
    /// Steps whose inputs are to be resolved.
    pub(super) starting: BTreeSet<u32>,
    /// Steps that can be closed.
    pub(super) closable: BTreeSet<u32>,
    /// Steps with tasks that have not started.
    pub(super) wide: BTreeSet<u32>,
    /// Calls of tasks that have started, by whom they go to: the tasks' places in the step.
    pub(super) ready: BTreeMap<Place, BTreeSet<u32>>,
    /// Calls that the host did not survive: to be made while nothing else runs.
    pub(super) alone: BTreeSet<(TaskKey, Option<u32>)>,
    /// Calls that wait for a time.
    pub(super) timers: BTreeSet<(Timestamp, TaskKey, Option<u32>)>,
    /// Plans that are to be read.
    pub(super) plans: BTreeSet<TaskKey>,
    /// Tasks that wait for the run to be resumed.
    pub(super) held: BTreeSet<TaskKey>,
    /// The step whose task was started last: steps take turns.
    pub(super) turn: u32,
}

impl Agenda {
    pub(super) fn add(&mut self, who: Who, task: TaskKey) {
        self.ready.entry(Place { who, step: task.step }).or_default().insert(task.index);
    }

    pub(super) fn remove(&mut self, who: Who, task: TaskKey) {
        let place = Place { who, step: task.step };
        if let Some(waiting) = self.ready.get_mut(&place) {
            waiting.remove(&task.index);
            if waiting.is_empty() {
                self.ready.remove(&place);
            }
        }
    }
}

impl Run {
    /// What is outstanding apart from calls: closing what is done, resolving inputs, and reading plans.
    #[must_use]
    pub fn due(&self) -> Vec<Effect> {
        let mut due = Vec::new();
        if self.status.is_final() {
            return due;
        }
        if self.open == 0 || !self.agenda.closable.is_empty() {
            due.push(Effect::Settle);
        }
        if self.status == RunStatus::Running {
            due.extend(self.agenda.starting.iter().map(|step| Effect::ResolveInputs { step: *step }));
            due.extend(self.agenda.plans.iter().map(|task| Effect::ReadPlan { task: *task }));
        }
        due
    }

    /// A call that is to be made while nothing else runs in this host: the host did not survive it the last time.
    #[must_use]
    pub fn alone(&self) -> Option<Effect> {
        if self.status != RunStatus::Running {
            return None;
        }
        let (task, gate) = self.agenda.alone.first()?;
        self.effect(*task, *gate)
    }

    /// The call to make next, the most urgent first: gates, then rounds and retries of tasks that have started, then new
    /// tasks, of all active steps in turn. `admits` says whether a plugin may be called now.
    pub fn next_call(&mut self, now: Timestamp, admits: &mut dyn FnMut(&str) -> bool) -> Option<Effect> {
        if self.status != RunStatus::Running {
            return None;
        }
        self.promote(now);
        for (place, waiting) in &self.agenda.ready {
            if let Some(index) = waiting.first()
                && admits(self.plugin(*place))
            {
                let task = TaskKey { step: place.step, index: *index };
                return self.effect(task, place.gate());
            }
        }
        let after = self.agenda.turn + 1;
        let in_turn = self.agenda.wide.range(after..).chain(self.agenda.wide.range(..after));
        let step = in_turn.copied().find(|step| admits(&self.workflow.steps[*step as usize].worker))?;
        let StepState::Active(active) = &self.steps[step as usize] else { return None };
        let index = active.cursor;
        self.agenda.turn = step;
        Some(Effect::RunWorker { task: TaskKey { step, index }, attempt: 1, revision: 0 })
    }

    /// When the next call that waits for a time is due; absent when none waits.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        if self.status != RunStatus::Running {
            return None;
        }
        self.agenda.timers.first().map(|(at, _, _)| *at)
    }

    /// Moves the calls whose time has come to those that are ready.
    fn promote(&mut self, now: Timestamp) {
        while let Some((at, task, gate)) = self.agenda.timers.first().copied().filter(|(at, _, _)| *at <= now) {
            self.agenda.timers.remove(&(at, task, gate));
            let who = self.who(task, gate);
            self.agenda.add(who, task);
        }
    }

    pub(super) fn who(&self, task: TaskKey, gate: Option<u32>) -> Who {
        match (gate, self.live(task)) {
            (Some(gate), _) => Who::Gate(gate),
            (None, Some(live)) if live.fallback => Who::Fallback,
            (None, Some(_) | None) => Who::Worker,
        }
    }

    fn plugin(&self, place: Place) -> &str {
        let step = &self.workflow.steps[place.step as usize];
        match place.who {
            Who::Gate(gate) => &step.gates[gate as usize].gate,
            Who::Fallback => step.fallback.as_deref().unwrap_or(&step.worker),
            Who::Worker => &step.worker,
        }
    }

    /// The plugin that an effect calls; none for those that call nothing.
    #[must_use]
    pub fn plugin_of(&self, effect: Effect) -> Option<&str> {
        let (task, gate) = match effect {
            Effect::RunWorker { task, .. } => (task, None),
            Effect::RunGate { task, gate, .. } => (task, Some(gate)),
            Effect::ResolveInputs { .. } | Effect::ReadPlan { .. } | Effect::Settle => return None,
        };
        Some(self.plugin(Place { who: self.who(task, gate), step: task.step }))
    }

    fn effect(&self, task: TaskKey, gate: Option<u32>) -> Option<Effect> {
        let live = self.live(task)?;
        match (gate, &live.state) {
            (None, TaskState::Ready { attempt, .. } | TaskState::Retrying { attempt, .. }) => {
                Some(Effect::RunWorker { task, attempt: *attempt, revision: live.revision })
            }
            (Some(gate), TaskState::Validating { gates, .. }) => match gates.get(gate as usize)? {
                GateState::Ready { attempt, .. } | GateState::Retrying { attempt, .. } => {
                    Some(Effect::RunGate { task, gate, attempt: *attempt })
                }
                GateState::Running { .. } | GateState::Faltered { .. } | GateState::Answered { .. } => None,
            },
            (None | Some(_), _) => None,
        }
    }
}

impl Place {
    fn gate(self) -> Option<u32> {
        match self.who {
            Who::Gate(gate) => Some(gate),
            Who::Fallback | Who::Worker => None,
        }
    }
}
