//! From what is asked or reported to what happens: nothing here changes a run, and nothing here is drawn or read.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, TaskKey, TaskReason};
use super::policy::{Judgement, backoff, judge};
use super::run::{Effect, GateState, Run, RunStatus, StepState, TaskState};
use crate::clock::{Timestamp, after};
use crate::model::{ArtifactRef, Digest, Failure, Finding, Receipt, RetryPolicy, Verdict};

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
    },
    /// There is a free place for an effect that was due.
    Start(Effect),
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
        /// Drawn from 0 up to 1, for the jitter of a retry.
        chance: f64,
    },
    /// Somebody wants the run to end.
    Cancel {
        /// Why, for a person.
        reason: String,
    },
    /// Close what is done.
    Settle,
}

/// Why an input has no effect. The run is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The run has ended, or is being cancelled already.
    #[error("the run is {0} already")]
    RunIsOver(&'static str),
    /// It is about something that is not, or no longer, under way: a late answer, for example.
    #[error("nothing of the kind is under way")]
    NotUnderWay,
}

/// The events that follow from an input.
///
/// # Errors
/// When the input does not fit the run's state; nothing happens then.
pub fn decide(run: &Run, input: Input, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    if run.status.is_final() {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    match input {
        Input::StepInputs { step, tasks, inputs } => match run.steps.get(step as usize) {
            Some(StepState::Starting) if run.status == RunStatus::Running => Ok(vec![Event::StepStarted { step, tasks, inputs }]),
            Some(
                StepState::Starting
                | StepState::Waiting { .. }
                | StepState::Active(_)
                | StepState::Completed
                | StepState::Failed
                | StepState::Skipped
                | StepState::Cancelled,
            )
            | None => Err(Rejection::NotUnderWay),
        },
        Input::Start(effect) => start(run, effect),
        Input::WorkerEnded { task, attempt, result, receipt, chance } => worker_ended(run, task, attempt, result, receipt, chance, now),
        Input::GateEnded { task, gate, attempt, result, receipt, chance } => {
            gate_ended(run, GateCall { task, gate, attempt }, result, receipt, chance, now)
        }
        Input::Cancel { reason } => cancel(run, reason),
        Input::Settle => Ok(settle(run)),
    }
}

fn start(run: &Run, effect: Effect) -> Result<Vec<Event>, Rejection> {
    if run.status != RunStatus::Running {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    match effect {
        Effect::RunWorker { task, attempt, revision } => Ok(vec![Event::AttemptStarted { task, attempt, revision }]),
        Effect::RunGate { task, gate, attempt } => Ok(vec![Event::GateStarted { task, gate, attempt }]),
        Effect::ResolveInputs { .. } | Effect::Settle => Err(Rejection::NotUnderWay),
    }
}

/// Whether another attempt follows a failure, and when.
fn retry_at(policy: &RetryPolicy, attempt: u32, failure: &Failure, chance: f64, now: Timestamp) -> Option<Timestamp> {
    let again = failure.kind.is_retryable() && attempt < policy.maximum_attempts;
    again.then(|| after(now, backoff(policy, attempt, chance)))
}

fn worker_ended(
    run: &Run,
    task: TaskKey,
    attempt: u32,
    result: Result<Vec<ArtifactRef>, Failure>,
    receipt: Receipt,
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
            let mut events = vec![Event::AttemptCompleted { task, attempt, artifacts, receipt }];
            if step.gates.is_empty() {
                events.push(Event::TaskCompleted { task });
            } else if cancelling {
                events.push(Event::TaskCancelled { task }); // what was not judged has not passed
            }
            events
        }
        Err(failure) => {
            let failed = Event::AttemptFailed { task, attempt, failure: failure.clone(), receipt };
            let next = if cancelling {
                Event::TaskCancelled { task }
            } else if let Some(due_at) = retry_at(&step.retry, attempt, &failure, chance, now) {
                Event::RetryScheduled { task, due_at }
            } else {
                Event::TaskFailed { task, reason: TaskReason::Failed { failure } }
            };
            vec![failed, next]
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
    receipt: Receipt,
    chance: f64,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let GateCall { task, gate, attempt } = call;
    let live = run.live(task).ok_or(Rejection::NotUnderWay)?;
    let TaskState::Validating { gates, .. } = &live.state else { return Err(Rejection::NotUnderWay) };
    if gates.get(gate as usize) != Some(&GateState::Running { attempt }) {
        return Err(Rejection::NotUnderWay);
    }
    let uses = &run.workflow.steps[task.step as usize].gates[gate as usize];
    let mut states = gates.clone();
    let mut events = Vec::new();
    match result {
        Ok(verdict) => {
            let passed = judge(&verdict, uses.fail_on) == Judgement::Passes;
            states[gate as usize] = GateState::Answered { passed, findings: verdict.findings.clone() };
            events.push(Event::GateAnswered { task, gate, attempt, verdict, passed, receipt });
        }
        Err(failure) => {
            let retry = retry_at(&uses.retry, attempt, &failure, chance, now).filter(|_| run.status == RunStatus::Running);
            events.push(Event::GateFailed { task, gate, attempt, failure: failure.clone(), receipt });
            states[gate as usize] = match retry {
                Some(due_at) => {
                    events.push(Event::GateRetryScheduled { task, gate, due_at });
                    GateState::Retrying { attempt: attempt + 1, due_at }
                }
                None => GateState::Faltered { attempt, failure },
            };
        }
    }
    events.extend(after_gates(run, task, &states));
    Ok(events)
}

/// What follows once no gate of a task is outstanding any more.
fn after_gates(run: &Run, task: TaskKey, states: &[GateState]) -> Option<Event> {
    if states.iter().any(|state| matches!(state, GateState::Running { .. })) {
        return None;
    }
    if run.status == RunStatus::Cancelling {
        return Some(Event::TaskCancelled { task });
    }
    let mut rejected = false;
    let mut found: Vec<(u32, &Finding)> = Vec::new();
    let mut failed = None;
    for (gate, state) in (0..).zip(states) {
        match state {
            GateState::Ready { .. } | GateState::Retrying { .. } | GateState::Running { .. } => return None,
            GateState::Faltered { failure, .. } => {
                failed = failed.or(Some((gate, failure)));
            }
            GateState::Answered { passed, findings } => {
                found.extend(findings.iter().map(|finding| (gate, finding)));
                rejected |= !passed;
            }
        }
    }
    if let Some((gate, failure)) = failed {
        return Some(Event::TaskFailed { task, reason: TaskReason::GateFailed { gate, failure: failure.clone() } });
    }
    if !rejected {
        return Some(Event::TaskCompleted { task });
    }
    let live = run.live(task)?;
    let findings: Vec<Finding> = found.iter().map(|(_, finding)| (*finding).clone()).collect();
    let identities: BTreeSet<_> = found.iter().map(|(gate, finding)| (*gate, finding.identity())).collect();
    let before: BTreeSet<_> = live.feedback.iter().map(|(gate, finding)| (*gate, finding.identity())).collect();
    let step = &run.workflow.steps[task.step as usize];
    Some(if live.revision > 0 && identities == before {
        Event::TaskFailed { task, reason: TaskReason::RejectedAgain { findings } }
    } else if live.revision >= step.maximum_revisions {
        Event::TaskFailed { task, reason: TaskReason::Rejected { findings } }
    } else {
        Event::RevisionRequested { task, revision: live.revision + 1 }
    })
}

fn cancel(run: &Run, reason: String) -> Result<Vec<Event>, Rejection> {
    if run.status != RunStatus::Running {
        return Err(Rejection::RunIsOver(run.status.as_str()));
    }
    let mut events = vec![Event::CancelRequested { reason }];
    for (step, state) in (0..).zip(&run.steps) {
        let StepState::Active(active) = state else { continue };
        for (index, live) in &active.live {
            let under_way = match &live.state {
                TaskState::Running { .. } => true,
                TaskState::Validating { gates, .. } => gates.iter().any(|gate| matches!(gate, GateState::Running { .. })),
                TaskState::Revising | TaskState::Faltered { .. } | TaskState::Retrying { .. } => false,
            };
            if !under_way {
                events.push(Event::TaskCancelled { task: TaskKey { step, index: *index } });
            }
        }
    }
    Ok(events)
}

/// Closes steps whose tasks have ended, those that can no longer start, and the run.
fn settle(run: &Run) -> Vec<Event> {
    let cancelling = run.status == RunStatus::Cancelling;
    let mut events = Vec::new();
    let mut closing: BTreeMap<u32, bool> = BTreeMap::new(); // whether it completed
    for step in run.closable.iter().copied() {
        let event = match &run.steps[step as usize] {
            StepState::Active(active) if run.tallies[step as usize].completed == active.tasks => Event::StepCompleted { step },
            StepState::Active(_) if run.tallies[step as usize].failed > 0 => Event::StepFailed { step },
            StepState::Active(_) | StepState::Waiting { .. } | StepState::Starting => Event::StepCancelled { step },
            StepState::Completed | StepState::Failed | StepState::Skipped | StepState::Cancelled => continue,
        };
        closing.insert(step, matches!(event, Event::StepCompleted { .. }));
        events.push(event);
    }
    // What needs a step that did not complete is skipped, and so is what needs that, and so on.
    let mut broken: Vec<u32> = closing.iter().filter(|(_, completed)| !**completed).map(|(step, _)| *step).collect();
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
        let completed = (0_u32..).zip(&run.steps).all(|(step, state)| match closing.get(&step) {
            Some(completed) => *completed,
            None => *state == StepState::Completed,
        });
        events.push(if completed {
            Event::RunCompleted
        } else if cancelling {
            Event::RunCancelled
        } else {
            Event::RunFailed
        });
    }
    events
}
