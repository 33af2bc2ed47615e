//! A small manager agent: it looks at files that it did not know before, and plans who is to work on which. It works on none
//! of them itself: its result is a plan, which the host reads, bounds and runs as part of the run.
//!
//! When the plan is sent back, it reads why: a worker that it may not use is left out, and what that would have had goes to
//! the worker for everything else.

use std::collections::BTreeMap;

use sandhog_guest::{Artifact, Failure, Task, invalid_input};
use serde::{Deserialize, Serialize};

sandhog_guest::worker!(run);

#[derive(Deserialize)]
struct Params {
    /// Who has the files of which ending.
    routes: BTreeMap<String, Route>,
    /// Which worker has everything else.
    otherwise: String,
}

#[derive(Deserialize)]
struct Route {
    worker: String,
    #[serde(default)]
    params: toml::Table,
}

#[derive(Serialize)]
struct Plan {
    step: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    id: String,
    worker: String,
    /// Globs on the artifacts that come with the plan.
    inputs: Vec<String>,
    /// One task for each file.
    foreach: bool,
    params: toml::Table,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    if task.inputs.is_empty() {
        return Err(invalid_input("there is nothing to plan for"));
    }
    let refused = |worker: &str| {
        let named = format!("`{worker}`");
        task.feedback.iter().any(|finding| finding.rule == "plan" && finding.message.contains(&named))
    };
    let otherwise = Route { worker: task.params.otherwise.clone(), params: toml::Table::new() };
    let mut by_worker: BTreeMap<&str, Step> = BTreeMap::new();
    for input in &task.inputs {
        let ending = input.name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let Route { worker, params } = task.params.routes.get(ending).filter(|route| !refused(&route.worker)).unwrap_or(&otherwise);
        log::info!("{} is for {worker}", input.name);
        let step = by_worker.entry(worker).or_insert_with(|| Step {
            id: format!("by-{worker}"),
            worker: worker.clone(),
            inputs: Vec::new(),
            foreach: true,
            params: params.clone(),
        });
        step.inputs.push(glob(&input.name));
    }
    let plan = toml::to_string(&Plan { step: by_worker.into_values().collect() }).map_err(invalid_input)?;
    // The plan, and beside it the files that its steps are to have.
    let mut artifacts = task.inputs;
    artifacts.push(Artifact::new("plan.toml", "application/toml", plan));
    Ok(artifacts)
}

/// A glob that matches one name alone.
fn glob(name: &str) -> String {
    name.chars().map(|c| if "*?[]{}\\".contains(c) { format!("\\{c}") } else { c.to_string() }).collect()
}
