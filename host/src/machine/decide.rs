//! From what is asked or reported to what happens: nothing here changes a run, and nothing here is drawn or read.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::event::{Event, TaskKey, TaskReason};
use super::live::{Approval, Feedback, First, Found, GateState, LiveTask, Reading, TaskState, refusal};
use super::policy::{Judgement, backoff, judge};
use super::run::{Effect, Run, RunStatus, StepState};
use crate::clock::{Timestamp, after};
use crate::model::workflow::STEPS_MAX;
use crate::model::{ArtifactRef, Digest, Failure, Finding, Log, OnExhausted, Receipt, RetryPolicy, Severity, Step, Verdict};

/// What a run is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The inputs of a step are known.
    StepInputs {
        /// The step.
        step: u32,
        /// How many tasks that makes.
        tasks: u32,
        /// The blob that lists them.
        inputs: Digest,
        /// The run's version when they were asked for.
        as_of: u64,
    },
    /// A plan was read.
    PlanRead {
        /// The task that made it.
        task: TaskKey,
        /// Its steps; or what is wrong with it.
        result: Result<Vec<Planned>, Vec<Finding>>,
    },
    /// There is a free place for an effect that was due; and the plugin that is called, where that is not the one named.
    Start(Effect, Option<String>),
    /// A worker's attempt ended.
    WorkerEnded {
        /// The task.
        task: TaskKey,
        /// Which attempt.
        attempt: u32,
        /// What came of it.
        result: Result<Vec<ArtifactRef>, Failure>,
        /// What it used.
        receipt: Receipt,
        /// What it wrote.
        log: Log,
        /// Drawn from 0 up to 1, for the jitter of a retry.
        chance: f64,
    },
    /// A gate's attempt ended.
    GateEnded {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: u32,
        /// Which attempt.
        attempt: u32,
        /// What came of it.
        result: Result<Verdict, Failure>,
        /// What it used.
        receipt: Receipt,
        /// What it wrote.
        log: Log,
        /// Drawn from 0 up to 1, for the jitter of a retry.
        chance: f64,
    },
    /// Somebody wants the run to end.
    Cancel {
        /// Why, for a person.
        reason: String,
    },
    /// A call was taken back before its turn: a worker's attempt, or a gate's by its place.
    Returned {
        /// The task.
        task: TaskKey,
        /// The gate's place in the step.
        gate: Option<u32>,
        /// Which attempt.
        attempt: u32,
    },
    /// The host has started again. What was under way is not any more; of that, these calls had begun to execute: a worker's
    /// attempt, or a gate's by its place.
    Recover {
        /// The calls.
        executing: HashSet<(TaskKey, Option<u32>)>,
    },
    /// Somebody wants nothing more to start for now.
    Pause {
        /// Why, for a person.
        reason: String,
    },
    /// Somebody wants the run to go on.
    Resume,
    /// A person has looked at results that wait for that: of one task, or of all.
    Approve {
        /// The step.
        step: u32,
        /// The task; absent means every one that waits.
        index: Option<u32>,
        /// Whether the results are let through.
        approved: bool,
        /// What the person says.
        comment: String,
    },
    /// A person wants tasks that were given up to be run again.
    Requeue {
        /// Which; none means every one.
        tasks: Vec<TaskKey>,
    },
    /// A person has seen dead letters, and wants no more of them.
    Discard {
        /// Which; none means every one.
        tasks: Vec<TaskKey>,
    },
    /// Close what is done.
    Settle,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The step, under the name that it has in the run.
    pub step: Step,
    /// The list of the artifacts beside the plan that its globs matched.
    pub files: Option<Digest>,
}

/// How much of what a successful attempt wrote is kept, in bytes: the end.
const LOG_TAIL_BYTES: usize = 4 << 10;
/// And of one that failed, whatever its `log` limit is.
const FAILED_LOG_BYTES: usize = 1 << 20;

/// Why an input has no effect. The run is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The run has ended, or is being cancelled already.
    #[error("the run is {0} already")]
    RunIsOver(&'static str),
    /// It is about something that is not, or no longer, under way: a late answer, for example.
    #[error("nothing of the kind is under way")]
    NotUnderWay,
    /// The run is not in the state that the command is for.
    #[error("the run is {found}, and not {expected}")]
    NotInState {
        /// What would fit.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Nothing waits for what the command would do.
    #[error("{0}")]
    NothingToDo(&'static str),
}

impl Rejection {
    /// What is to be run again was not given up.
    pub(crate) const NOTHING_GIVEN_UP: Self = Self::NothingToDo("no such task was given up");
    /// What is to be discarded is no dead letter.
    pub(crate) const NO_DEAD_LETTER: Self = Self::NothingToDo("there is no such dead letter");
}

/// The events that follow from an input.
///
/// # Errors
/// When the input does not fit the run's state; nothing happens then.
pub fn decide(run: &Run, input: Input, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let of_a_person = matches!(input, Input::Requeue { .. } | Input::Discard { .. });
    if run.status.is_final() && !of_a_person {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    match input {
        Input::StepInputs { step, tasks, inputs, as_of } => {
            let waits = matches!(run.steps.get(step as usize), Some(StepState::Starting { since_version }) if *since_version <= as_of);
            if waits && matches!(run.status, RunStatus::Running | RunStatus::Paused) {
                Ok(vec![Event::StepStarted { step, tasks, inputs }])
            } else {
                Err(Rejection::NotUnderWay)
            }
        }
        Input::PlanRead { task, result } => plan_read(run, task, result),
        Input::Start(effect, provider) => start(run, effect, provider),
        Input::WorkerEnded { task, attempt, result, receipt, log, chance } => {
            worker_ended(run, task, attempt, result, (receipt, log), chance, now)
        }
        Input::GateEnded { task, gate, attempt, result, receipt, log, chance } => {
            gate_ended(run, GateCall { task, gate, attempt }, result, (receipt, log), chance, now)
        }
        Input::Returned { task, gate, attempt } => returned(run, task, gate, attempt),
        Input::Recover { executing } => Ok(recover(run, &executing)),
        Input::Cancel { reason } => cancel(run, reason),
        Input::Pause { reason } => match run.status {
            RunStatus::Running => Ok(vec![Event::RunPaused { reason }]),
            found => Err(Rejection::NotInState { expected: "running", found: found.as_str() }),
        },
        Input::Resume => match run.status {
            RunStatus::Paused => Ok(vec![Event::RunResumed]),
            found => Err(Rejection::NotInState { expected: "paused", found: found.as_str() }),
        },
        Input::Approve { step, index, approved, comment } => approve(run, step, index, approved, &comment),
        Input::Requeue { tasks } => requeue(run, &tasks),
        Input::Discard { tasks } => discard(run, &tasks),
        Input::Settle => Ok(settle(run)),
    }
}

fn start(run: &Run, effect: Effect, provider: Option<String>) -> Result<Vec<Event>, Rejection> {
    if run.status != RunStatus::Running {
        return Err(Rejection::NotInState { expected: "running", found: run.status.as_str() });
    }
    match effect {
        Effect::RunWorker { task, attempt, revision } => Ok(vec![Event::AttemptStarted { task, attempt, revision, provider }]),
        Effect::RunGate { task, gate, attempt } => Ok(vec![Event::GateStarted { task, gate, attempt, provider }]),
        Effect::ResolveInputs { .. } | Effect::ReadPlan { .. } | Effect::Settle => Err(Rejection::NotUnderWay),
    }
}

/// Whether another attempt follows a failure, and when. `failures` counts this one.
fn retry_at(policy: &RetryPolicy, failures: u32, failure: &Failure, chance: f64, now: Timestamp) -> Option<Timestamp> {
    let again = failure.kind.is_retryable() && !policy.non_retryable.contains(&failure.kind) && failures < policy.maximum_attempts;
    again.then(|| after(now, backoff(policy, failures, chance)))
}

/// What becomes of a task that can go on no further: another worker has it, or it is given up as its step says.
fn exhausted(run: &Run, task: TaskKey, live: &LiveTask, reason: TaskReason) -> Vec<Event> {
    let step = &run.workflow.steps[task.step as usize];
    let by_loss = matches!(reason, TaskReason::Lost { .. });
    if step.fallback.is_some() && !live.fallback && !by_loss {
        return vec![Event::FallbackStarted { task, reason }];
    }
    match step.on_exhausted {
        // What the host did not survive is set aside whatever the step says.
        _ if by_loss => vec![Event::TaskDeadLettered { task, reason }],
        OnExhausted::Fail => vec![Event::TaskFailed { task, reason }],
        OnExhausted::DeadLetter => vec![Event::TaskDeadLettered { task, reason }],
        OnExhausted::Pause => {
            let why = format!("{}/{}: {}", step.id, task.index, reason.text());
            let pause = (run.status == RunStatus::Running).then_some(Event::RunPaused { reason: why });
            std::iter::once(Event::TaskHeld { task, reason }).chain(pause).collect()
        }
    }
}

fn worker_ended(
    run: &Run,
    task: TaskKey,
    attempt: u32,
    result: Result<Vec<ArtifactRef>, Failure>,
    (receipt, log): (Receipt, Log),
    chance: f64,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let live = run.live(task).ok_or(Rejection::NotUnderWay)?;
    if live.state != (TaskState::Running { attempt }) {
        return Err(Rejection::NotUnderWay);
    }
    let step = &run.workflow.steps[task.step as usize];
    let cancelling = run.status == RunStatus::Cancelling;
    Ok(match result {
        Ok(artifacts) => {
            let mut events = vec![Event::AttemptCompleted { task, attempt, artifacts, receipt, log: log.tail(LOG_TAIL_BYTES) }];
            if step.gates.is_empty() && !step.approval && step.expand.is_none() {
                events.push(Event::TaskCompleted { task });
            } else if cancelling {
                events.push(Event::TaskCancelled { task }); // what was not judged has not passed
            } else if step.gates.is_empty() {
                events.push(after_judgement(step, task));
            }
            events
        }
        Err(failure) => {
            let log = log.tail(FAILED_LOG_BYTES);
            let mut events = vec![Event::AttemptFailed { task, attempt, failure: failure.clone(), receipt, log }];
            if cancelling {
                events.push(Event::TaskCancelled { task });
            } else if let Some(due_at) = retry_at(&step.retry, live.failures + 1, &failure, chance, now) {
                events.push(Event::RetryScheduled { task, due_at });
            } else {
                events.extend(exhausted(run, task, live, TaskReason::Failed { failure }));
            }
            events
        }
    })
}

#[derive(Clone, Copy)]
struct GateCall {
    task: TaskKey,
    gate: u32,
    attempt: u32,
}

fn gate_ended(
    run: &Run,
    call: GateCall,
    result: Result<Verdict, Failure>,
    (receipt, log): (Receipt, Log),
    chance: f64,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let GateCall { task, gate, attempt } = call;
    let live = run.live(task).ok_or(Rejection::NotUnderWay)?;
    let TaskState::Validating { gates, .. } = &live.state else { return Err(Rejection::NotUnderWay) };
    let (lost, failures) = match gates.get(gate as usize) {
        Some(GateState::Running { attempt: running, lost, failures }) if *running == attempt => (*lost, *failures),
        Some(_) | None => return Err(Rejection::NotUnderWay),
    };
    let uses = &run.workflow.steps[task.step as usize].gates[gate as usize];
    let mut events = Vec::new();
    let ended = match result {
        Ok(verdict) => {
            let passed = judge(&verdict, uses.fail_on) == Judgement::Passes;
            let gates = run.workflow.steps[task.step as usize].gates.len();
            let (found, first) = (Found::new(run.version + 1, &verdict.findings), First::new(&verdict.findings, gates));
            let state = GateState::Answered { passed, found, first };
            events.push(Event::GateAnswered { task, gate, attempt, verdict, passed, receipt, log: log.tail(LOG_TAIL_BYTES) });
            state
        }
        Err(failure) => {
            let retry = retry_at(&uses.retry, failures + 1, &failure, chance, now).filter(|_| run.status != RunStatus::Cancelling);
            let log = log.tail(FAILED_LOG_BYTES);
            events.push(Event::GateFailed { task, gate, attempt, failure: failure.clone(), receipt, log });
            match retry {
                Some(due_at) => {
                    events.push(Event::GateRetryScheduled { task, gate, due_at });
                    GateState::Retrying { attempt: attempt + 1, lost, failures: failures + 1, due_at }
                }
                None => GateState::Faltered { attempt, lost, failures: failures + 1, failure },
            }
        }
    };
    let mut states: Vec<&GateState> = gates.iter().collect();
    states[gate as usize] = &ended;
    events.extend(after_gates(run, task, live, &states));
    Ok(events)
}

/// What follows once no gate of a task is outstanding any more.
fn after_gates(run: &Run, task: TaskKey, live: &LiveTask, states: &[&GateState]) -> Vec<Event> {
    if states.iter().any(|state| matches!(state, GateState::Running { .. })) {
        return Vec::new();
    }
    if run.status == RunStatus::Cancelling {
        return vec![Event::TaskCancelled { task }];
    }
    let mut rejected = false;
    let (mut found, mut parts) = (Vec::with_capacity(states.len()), Vec::with_capacity(states.len()));
    let mut failed = None;
    for (gate, state) in (0..).zip(states) {
        match state {
            GateState::Ready { .. } | GateState::Retrying { .. } | GateState::Running { .. } => return Vec::new(),
            GateState::Faltered { failure, .. } => {
                failed = failed.or(Some((gate, failure)));
            }
            GateState::Answered { passed, found: of_gate, first } => {
                found.push((Some(gate), of_gate));
                parts.push(first);
                rejected |= !passed;
            }
        }
    }
    let step = &run.workflow.steps[task.step as usize];
    if let Some((gate, failure)) = failed {
        return exhausted(run, task, live, TaskReason::GateFailed { gate, failure: failure.clone() });
    }
    if !rejected {
        return vec![after_judgement(step, task)];
    }
    sent_back(run, task, live, &found, First::of_all(parts.into_iter()))
}

/// What follows when no gate has anything against a result, or there is none.
fn after_judgement(step: &Step, task: TaskKey) -> Event {
    if step.approval { Event::ApprovalRequested { task } } else { after_approval(step, task) }
}

/// What follows when a person has nothing against a result either.
fn after_approval(step: &Step, task: TaskKey) -> Event {
    if step.expand.is_some() { Event::PlanSubmitted { task } } else { Event::TaskCompleted { task } }
}

/// What becomes of a result that was rejected: another round, as long as there is one left that could end differently.
fn sent_back(run: &Run, task: TaskKey, live: &LiveTask, found: &[(Option<u32>, &Found)], findings: Vec<Finding>) -> Vec<Event> {
    let step = &run.workflow.steps[task.step as usize];
    let feedback = Feedback::new(found.iter().copied());
    let more = found.iter().map(|(_, found)| found.count).sum::<usize>().saturating_sub(findings.len()) as u64;
    if live.revision > live.revision_base && live.feedback.as_ref().is_some_and(|before| before.says_the_same(&feedback)) {
        exhausted(run, task, live, TaskReason::RejectedAgain { findings, more })
    } else if live.revision - live.revision_base >= step.maximum_revisions {
        exhausted(run, task, live, TaskReason::Rejected { findings, more })
    } else {
        vec![Event::RevisionRequested { task, revision: live.revision + 1 }]
    }
}

fn plan_read(run: &Run, task: TaskKey, result: Result<Vec<Planned>, Vec<Finding>>) -> Result<Vec<Event>, Rejection> {
    let live = run.live(task).ok_or(Rejection::NotUnderWay)?;
    let TaskState::Expanding { reading: Reading::Awaited, .. } = &live.state else { return Err(Rejection::NotUnderWay) };
    let findings = match result {
        Ok(planned) if run.workflow.steps.len() + planned.len() <= STEPS_MAX => {
            let (steps, files) = planned.into_iter().map(|planned| (planned.step, planned.files)).unzip();
            return Ok(vec![Event::PlanAccepted { task, steps, files }, Event::TaskCompleted { task }]);
        }
        Ok(planned) => {
            let message = format!(
                "the run has {} steps, and with the {} of this plan more than the {STEPS_MAX} that it may have",
                run.workflow.steps.len(),
                planned.len()
            );
            vec![Finding {
                rule: "plan".to_owned(),
                severity: Severity::High,
                message,
                location: None,
                suggestion: None,
                help_url: None,
                fix: None,
            }]
        }
        Err(findings) => findings,
    };
    let (found, first) = (Found::new(run.version + 1, &findings), First::new(&findings, 1));
    let follows = sent_back(run, task, live, &[(None, &found)], First::of_all([&first].into_iter()));
    Ok(std::iter::once(Event::PlanRejected { task, findings }).chain(follows).collect())
}

fn returned(run: &Run, task: TaskKey, gate: Option<u32>, attempt: u32) -> Result<Vec<Event>, Rejection> {
    let live = run.live(task).ok_or(Rejection::NotUnderWay)?;
    let (event, others) = match (gate, &live.state) {
        (None, TaskState::Running { attempt: running }) if *running == attempt => {
            (Event::AttemptLost { task, attempt, executing: false }, 0)
        }
        (Some(gate), TaskState::Validating { gates, .. }) => {
            let is_running = |state: &GateState| matches!(state, GateState::Running { .. });
            match gates.get(gate as usize) {
                Some(GateState::Running { attempt: running, .. }) if *running == attempt => {
                    let others = gates.iter().filter(|state| is_running(state)).count() - 1;
                    (Event::GateLost { task, gate, attempt, executing: false }, others)
                }
                Some(_) | None => return Err(Rejection::NotUnderWay),
            }
        }
        (None | Some(_), _) => return Err(Rejection::NotUnderWay),
    };
    let cancelled = (run.status == RunStatus::Cancelling && others == 0).then_some(Event::TaskCancelled { task });
    Ok(std::iter::once(event).chain(cancelled).collect())
}

/// What was under way when the host ended is not any more: what had begun to execute counts as lost.
fn recover(run: &Run, executing: &HashSet<(TaskKey, Option<u32>)>) -> Vec<Event> {
    let cancelling = run.status == RunStatus::Cancelling;
    let mut events = Vec::new();
    for (step, state) in (0..).zip(&run.steps) {
        let StepState::Active(active) = state else { continue };
        let policies = &run.workflow.steps[step as usize];
        for (index, live) in &active.live {
            let task = TaskKey { step, index: *index };
            let mut was_lost = false;
            let mut times = 0; // how often the worst of them was lost, where that is too often
            match &live.state {
                TaskState::Running { attempt } => {
                    let executing = executing.contains(&(task, None));
                    events.push(Event::AttemptLost { task, attempt: *attempt, executing });
                    was_lost = true;
                    if executing && live.lost + 1 >= policies.retry.maximum_lost {
                        times = live.lost + 1;
                    }
                }
                TaskState::Validating { gates, .. } => {
                    for (gate, state) in (0_u32..).zip(gates) {
                        let GateState::Running { attempt, lost, .. } = state else { continue };
                        let executing = executing.contains(&(task, Some(gate)));
                        events.push(Event::GateLost { task, gate, attempt: *attempt, executing });
                        was_lost = true;
                        if executing && lost + 1 >= policies.gates[gate as usize].retry.maximum_lost {
                            times = times.max(lost + 1);
                        }
                    }
                }
                TaskState::Ready { .. }
                | TaskState::Faltered { .. }
                | TaskState::Retrying { .. }
                | TaskState::Approving { .. }
                | TaskState::Expanding { .. }
                | TaskState::Held { .. } => {}
            }
            if was_lost && cancelling {
                events.push(Event::TaskCancelled { task });
            } else if times > 0 {
                events.extend(exhausted(run, task, live, TaskReason::Lost { times }));
            }
        }
    }
    events
}

fn cancel(run: &Run, reason: String) -> Result<Vec<Event>, Rejection> {
    if !matches!(run.status, RunStatus::Running | RunStatus::Paused) {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    let mut events = vec![Event::CancelRequested { reason }];
    for (step, state) in (0..).zip(&run.steps) {
        let StepState::Active(active) = state else { continue };
        for (index, live) in &active.live {
            let under_way = match &live.state {
                TaskState::Running { .. } => true,
                TaskState::Validating { gates, .. } => gates.iter().any(|gate| matches!(gate, GateState::Running { .. })),
                TaskState::Ready { .. }
                | TaskState::Faltered { .. }
                | TaskState::Retrying { .. }
                | TaskState::Approving { .. }
                | TaskState::Expanding { .. }
                | TaskState::Held { .. } => false,
            };
            if !under_way {
                events.push(Event::TaskCancelled { task: TaskKey { step, index: *index } });
            }
        }
    }
    Ok(events)
}

fn approve(run: &Run, step: u32, index: Option<u32>, approved: bool, comment: &str) -> Result<Vec<Event>, Rejection> {
    let none = Rejection::NothingToDo("no result of that step waits for approval");
    let Some(StepState::Active(active)) = run.steps.get(step as usize) else { return Err(none) };
    if run.status == RunStatus::Cancelling {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    let policies = &run.workflow.steps[step as usize];
    let mut events = Vec::new();
    let mut pauses = false;
    for (place, live) in active.live.iter().filter(|(place, _)| index.is_none_or(|index| index == **place)) {
        let TaskState::Approving { approval: Approval::Awaited, .. } = &live.state else { continue };
        let task = TaskKey { step, index: *place };
        let comment = comment.to_owned();
        if approved {
            events.extend([Event::ApprovalGiven { task, comment }, after_approval(policies, task)]);
            continue;
        }
        let findings = vec![refusal(&comment)];
        events.push(Event::ApprovalRefused { task, comment });
        if live.revision - live.revision_base < policies.maximum_revisions {
            events.push(Event::RevisionRequested { task, revision: live.revision + 1 });
        } else {
            for event in exhausted(run, task, live, TaskReason::Rejected { findings, more: 0 }) {
                let is_pause = matches!(event, Event::RunPaused { .. });
                if !(is_pause && std::mem::replace(&mut pauses, is_pause)) {
                    events.push(event);
                }
            }
        }
    }
    if events.is_empty() { Err(none) } else { Ok(events) }
}

/// The tasks named, or all, that were given up; `dead` for those alone that are set aside.
fn given_up(run: &Run, tasks: &[TaskKey], dead: bool) -> Vec<TaskKey> {
    let fits = |task: &TaskKey| run.given_up(*task).is_some_and(|given_up| given_up.dead_letter || !dead);
    if !tasks.is_empty() {
        let distinct: BTreeSet<TaskKey> = tasks.iter().copied().filter(fits).collect();
        return distinct.into_iter().collect();
    }
    let of_step = |(step, state): (u32, &StepState)| {
        let indices = state.run().map(|run| run.given_up.keys().copied().collect::<Vec<u32>>()).unwrap_or_default();
        indices.into_iter().map(move |index| TaskKey { step, index })
    };
    (0..).zip(&run.steps).flat_map(of_step).filter(fits).collect()
}

fn requeue(run: &Run, tasks: &[TaskKey]) -> Result<Vec<Event>, Rejection> {
    if matches!(run.status, RunStatus::Cancelled | RunStatus::Cancelling) {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    let tasks = given_up(run, tasks, false);
    if tasks.is_empty() {
        return Err(Rejection::NOTHING_GIVEN_UP);
    }
    let reopened = run.status.is_final().then_some(Event::RunReopened);
    Ok(reopened.into_iter().chain(tasks.into_iter().map(|task| Event::TaskRequeued { task })).collect())
}

fn discard(run: &Run, tasks: &[TaskKey]) -> Result<Vec<Event>, Rejection> {
    let tasks = given_up(run, tasks, true);
    if tasks.is_empty() {
        return Err(Rejection::NO_DEAD_LETTER);
    }
    Ok(tasks.into_iter().map(|task| Event::TaskDiscarded { task }).collect())
}

/// Closes steps whose tasks have ended, those that can no longer start, and the run.
fn settle(run: &Run) -> Vec<Event> {
    let cancelling = run.status == RunStatus::Cancelling;
    let mut events = Vec::new();
    let mut closing: BTreeMap<u32, bool> = BTreeMap::new(); // whether it completed
    let mut broken: Vec<u32> = Vec::new();
    for step in run.agenda.closable.iter().copied() {
        let event = match &run.steps[step as usize] {
            StepState::Active(active) if run.is_enough(step, active) => Event::StepCompleted { step },
            StepState::Active(_) if run.tallies[step as usize].failed > 0 => Event::StepFailed { step },
            StepState::Active(_) | StepState::Waiting { .. } | StepState::Starting { .. } => Event::StepCancelled { step },
            StepState::Failed(_) | StepState::Skipped | StepState::Cancelled => {
                broken.push(step); // closed before, and a step that needs it was opened again since
                continue;
            }
            StepState::Completed(_) => continue,
        };
        let completed = matches!(event, Event::StepCompleted { .. });
        closing.insert(step, completed);
        if !completed {
            broken.push(step);
        }
        events.push(event);
    }
    // What needs a step that did not complete is skipped, and so is what needs that, and so on.
    while let Some(need) = broken.pop() {
        for step in &run.graph.dependents[need as usize] {
            if matches!(run.steps[*step as usize], StepState::Waiting { .. }) && !closing.contains_key(step) {
                closing.insert(*step, false);
                events.push(Event::StepSkipped { step: *step, need });
                broken.push(*step);
            }
        }
    }
    if closing.len() == run.open as usize {
        events.push(if cancelling && !all_complete(run, &closing) { Event::RunCancelled } else { end(run, &events) });
    }
    events
}

fn all_complete(run: &Run, closing: &BTreeMap<u32, bool>) -> bool {
    (0_u32..).zip(&run.steps).all(|(step, state)| match closing.get(&step) {
        Some(completed) => *completed,
        None => matches!(state, StepState::Completed(_)),
    })
}

/// How a run ends whose steps are closed: completed, where what failed was optional; and what it did without.
fn end(run: &Run, closing: &[Event]) -> Event {
    let mut degraded = Vec::new();
    let closes: BTreeMap<u32, &str> = closing
        .iter()
        .filter_map(|event| match event {
            Event::StepFailed { step } => Some((*step, "failed")),
            Event::StepSkipped { step, .. } => Some((*step, "skipped")),
            Event::StepCancelled { step } => Some((*step, "cancelled")),
            Event::StepCompleted { step } => Some((*step, "completed")),
            _ => None,
        })
        .collect();
    for (place, (step, state)) in (0_u32..).zip(run.workflow.steps.iter().zip(&run.steps)) {
        let tally = &run.tallies[place as usize];
        match closes.get(&place).copied().unwrap_or(state.as_str()) {
            "failed" if step.optional => degraded.push(format!("{} failed, and is optional", step.id)),
            "skipped" => degraded.push(format!("{} was skipped", step.id)),
            "completed" => {
                if tally.failed > 0 {
                    degraded.push(format!("{} of the tasks of {} were given up", tally.failed, step.id));
                }
                if tally.fallbacks > 0 {
                    let fallback = step.fallback.as_deref().unwrap_or_default();
                    degraded.push(format!("{fallback} did {} of the tasks of {} in place of {}", tally.fallbacks, step.id, step.worker));
                }
            }
            _ => return Event::RunFailed,
        }
    }
    Event::RunCompleted { degraded }
}
