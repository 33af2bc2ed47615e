//! What a run asks the journal for: the inputs of a step, and the steps of a plan.

use std::fmt;

use super::inputs::{Resolving, keep_list};
use crate::config::plan::{self, PLAN_BYTES_MAX};
use crate::journal::{self, Store};
use crate::machine::{Effect, Input, Planned, Run, TaskKey, TaskState, Work};
use crate::model::workflow::PLAN_NAME;
use crate::model::{ArtifactRef, Finding, Location, RunId, Severity, Step};

/// Something to be read, of which the run is told when that is done.
pub(super) enum Lookup {
    Inputs { step: u32, as_of: u64, resolving: Resolving },
    Plan { id: RunId, task: TaskKey, parent: Box<Step>, work: Work },
}

impl Lookup {
    /// What answers an effect; `None` for one that is not answered by reading.
    pub(super) fn new(id: RunId, run: &Run, effect: Effect) -> Option<Self> {
        match effect {
            Effect::ResolveInputs { step } => Some(Self::Inputs { step, as_of: run.version, resolving: Resolving::new(id, run, step) }),
            Effect::ReadPlan { task } => {
                let TaskState::Expanding { work, .. } = &run.live(task)?.state else { return None };
                let parent = Box::new(run.workflow.steps[task.step as usize].clone());
                Some(Self::Plan { id, task, parent, work: work.clone() })
            }
            Effect::RunWorker { .. } | Effect::RunGate { .. } | Effect::Settle => None,
        }
    }

    /// For a person, when the journal cannot be read.
    pub(super) fn what(&self) -> impl fmt::Display + use<> {
        match self {
            Self::Inputs { step, .. } => format!("the inputs of step {step}"),
            Self::Plan { parent, .. } => format!("the plan of {}", parent.id),
        }
    }

    /// Reads it.
    pub(super) async fn answer(self, store: &dyn Store) -> Result<Input, journal::Error> {
        match self {
            Self::Inputs { step, as_of, resolving } => {
                let id = resolving.id.clone();
                Ok(match resolving.resolve(store).await? {
                    Some((tasks, inputs)) => Input::StepInputs { step, tasks, inputs, as_of },
                    None => Input::Cancel {
                        reason: format!("`{id}` has more inputs than one task may have; give it `foreach`, or `inputs` that match fewer"),
                    },
                })
            }
            Self::Plan { id, task, parent, work } => {
                let prefix = if parent.foreach { format!("{}.{}", parent.id, task.index) } else { parent.id.clone() };
                Ok(Input::PlanRead { task, result: read_plan(store, &parent, &prefix, store.work(&id, &work).await?).await? })
            }
        }
    }
}

/// Reads a plan; what is wrong with it is for the worker to mend.
async fn read_plan(
    store: &dyn Store,
    parent: &Step,
    prefix: &str,
    mut artifacts: Vec<ArtifactRef>,
) -> Result<Result<Vec<Planned>, Vec<Finding>>, journal::Error> {
    let Some(place) = artifacts.iter().position(|artifact| artifact.name == PLAN_NAME) else {
        let made: Vec<&str> = artifacts.iter().take(10).map(|artifact| artifact.name.as_str()).collect();
        let made = if made.is_empty() { "there is none".to_owned() } else { format!("there are {}", made.join(", ")) };
        return Ok(Err(vec![finding(format!("no artifact has the name {PLAN_NAME}: {made}"))]));
    };
    let reference = artifacts.remove(place);
    if reference.size_bytes > PLAN_BYTES_MAX {
        let message = format!("the plan is {} bytes large, and at most {PLAN_BYTES_MAX} are read", reference.size_bytes);
        return Ok(Err(vec![finding(message)]));
    }
    let content = match reference.content {
        Some(content) => content,
        None => store.blob(&reference.digest).await?,
    };
    let Ok(text) = std::str::from_utf8(&content) else {
        return Ok(Err(vec![finding("the plan is not UTF-8".to_owned())]));
    };
    let beside: Vec<&str> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    let plan = match plan::read(text, parent, prefix, &beside) {
        Ok(plan) => plan,
        Err(problems) => return Ok(Err(problems.problems.iter().map(|problem| problem.finding("plan")).collect())),
    };
    let mut planned = Vec::with_capacity(plan.len());
    for (step, matched) in plan {
        let files = match matched.is_empty() {
            true => None,
            false => Some(keep_list(store, matched.iter().map(|place| artifacts[*place].clone())).await?),
        };
        planned.push(Planned { step, files });
    }
    Ok(Ok(planned))
}

fn finding(message: String) -> Finding {
    let location = Some(Location { path: PLAN_NAME.to_owned(), span: None });
    Finding { rule: "plan".to_owned(), severity: Severity::High, message, location, suggestion: None, help_url: None, fix: None }
}
