//! What a workflow would do, for a program.

use serde_json::json;

use super::SCHEMA_VERSION;
use crate::model::Workflow;

/// A workflow that was checked, with the number of files that the globs of each step match.
#[must_use]
pub fn plan_json(workflow: &Workflow, files: &[usize]) -> serde_json::Value {
    let levels = workflow.levels();
    let level_of = |place: usize| levels.iter().position(|level| level.contains(&place));
    let steps: Vec<_> = workflow
        .steps
        .iter()
        .enumerate()
        .map(|(place, step)| {
            json!({
                "id": step.id,
                "worker": step.worker,
                "needs": step.needs,
                "level": level_of(place),
                "foreach": step.foreach,
                "files": files[place],
                "gates": step.gates.iter().map(|gate| &gate.gate).collect::<Vec<_>>(),
                "maximum_revisions": step.maximum_revisions,
                "maximum_attempts": step.retry.maximum_attempts,
                "limits": step.limits,
                "expand": step.expand,
            })
        })
        .collect();
    json!({ "schema_version": SCHEMA_VERSION, "workflow": workflow.name, "shape": workflow.shape(), "levels": levels.len(), "steps": steps })
}
