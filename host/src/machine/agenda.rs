//! What is due in a run, indexed: it follows from the states of its tasks, and is never found by walking them.

use std::collections::{BTreeMap, BTreeSet};

use super::event::TaskKey;
use super::live::{GateState, TaskState};
use super::run::{Effect, Run, RunStatus, StepState};
use crate::clock::Timestamp;
use crate::model::Workflow;

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
    /// Steps with tasks that have not started, by their worker: of a plugin that may not be called, no step is looked at.
    pub(super) wide: BTreeMap<String, BTreeSet<u32>>,
    /// Calls of tasks that have started, by the plugin and the place they go to: the tasks' places in the step.
    pub(super) ready: BTreeMap<String, BTreeMap<Place, BTreeSet<u32>>>,
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
    pub(super) fn widen(&mut self, workflow: &Workflow, step: u32) {
        self.wide.entry(workflow.steps[step as usize].worker.clone()).or_default().insert(step);
    }

    pub(super) fn narrow(&mut self, workflow: &Workflow, step: u32) {
        if let Some(steps) = self.wide.get_mut(&workflow.steps[step as usize].worker) {
            steps.remove(&step);
        }
    }

    pub(super) fn add(&mut self, workflow: &Workflow, who: Who, task: TaskKey) {
        let place = Place { who, step: task.step };
        let plugin = place.plugin(workflow);
        let places = match self.ready.get_mut(plugin) {
            Some(places) => places, // empty ones stay: a run has few plugins
            None => self.ready.entry(plugin.to_owned()).or_default(),
        };
        places.entry(place).or_default().insert(task.index);
    }

    pub(super) fn remove(&mut self, workflow: &Workflow, who: Who, task: TaskKey) {
        let place = Place { who, step: task.step };
        let Some(places) = self.ready.get_mut(place.plugin(workflow)) else { return };
        if let Some(waiting) = places.get_mut(&place) {
            waiting.remove(&task.index);
            if waiting.is_empty() {
                places.remove(&place);
            }
        }
    }
}

/// The first, in their order, whose plugin may be called now.
fn first_admitted<'p, K: Ord>(
    firsts: impl Iterator<Item = (K, &'p String)>,
    admits: &mut dyn FnMut(&str) -> bool,
) -> Option<(K, &'p String)> {
    let mut firsts: Vec<(K, &String)> = firsts.collect();
    firsts.sort_unstable();
    firsts.into_iter().find(|(_, plugin)| admits(plugin))
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
        // If one call of a plugin cannot start, none can: so each is asked for once, in the order of its most urgent call.
        let firsts = self.agenda.ready.iter().filter_map(|(plugin, places)| Some((*places.first_key_value()?.0, plugin)));
        if let Some((place, plugin)) = first_admitted(firsts, admits) {
            let index = *self.agenda.ready[plugin][&place].first()?;
            return self.effect(TaskKey { step: place.step, index }, place.gate());
        }
        let after = self.agenda.turn + 1;
        let firsts = self.agenda.wide.iter().filter_map(|(plugin, steps)| {
            let step = *steps.range(after..).chain(steps).next()?;
            Some(((step < after, step), plugin))
        });
        let ((_, step), _) = first_admitted(firsts, admits)?;
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
            self.agenda.add(&self.workflow, who, task);
        }
    }

    pub(super) fn who(&self, task: TaskKey, gate: Option<u32>) -> Who {
        match (gate, self.live(task)) {
            (Some(gate), _) => Who::Gate(gate),
            (None, Some(live)) if live.fallback => Who::Fallback,
            (None, Some(_) | None) => Who::Worker,
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
        Some(Place { who: self.who(task, gate), step: task.step }.plugin(&self.workflow))
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
    fn plugin(self, workflow: &Workflow) -> &str {
        let step = &workflow.steps[self.step as usize];
        match self.who {
            Who::Gate(gate) => &step.gates[gate as usize].gate,
            Who::Fallback => step.fallback.as_deref().unwrap_or(&step.worker),
            Who::Worker => &step.worker,
        }
    }

    fn gate(self) -> Option<u32> {
        match self.who {
            Who::Gate(gate) => Some(gate),
            Who::Fallback | Who::Worker => None,
        }
    }
}
