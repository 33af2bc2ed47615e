//! `sandhog plan`: what a workflow would do.

use std::path::PathBuf;

use super::context::Common;
use super::exit::{Error, Exit};
use super::workflow::{prepare, read_inputs, read_workflow, submission};
use crate::model::text::counted;
use crate::model::{InputSource, Step, Workflow};
use crate::report::plan_json;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing is run. Checks everything that `run` checks: fields, units, needs and cycles, plugins and what\n\
they are granted, and that every glob matches. All problems are shown at once, those with globs when there is no other.\n\nExample:\n  sandhog plan docs/contents.toml")]
pub struct PlanArguments {
    /// The workflow file
    workflow: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Plans.
pub fn plan(common: &Common, arguments: &PlanArguments) -> Result<Exit, Error> {
    let source = match common.remote()? {
        Some(client) => {
            super::block_on(client.plan(&submission(&arguments.workflow)?))??; // the server's plugins are not ours
            read_workflow(&arguments.workflow)?
        }
        None => prepare(common, &arguments.workflow, Some(1))?.0,
    };
    let files = read_inputs(&source, &arguments.workflow)?;
    let workflow = &source.workflow;
    let counts: Vec<usize> = files.iter().map(Vec::len).collect();
    if arguments.json {
        outln!("{}", plan_json(workflow, &counts));
    } else {
        out!("{}", draw(workflow, &counts));
    }
    Ok(Exit::Passed)
}

/// The graph, level by level: steps of one level may run at the same time.
fn draw(workflow: &Workflow, files: &[usize]) -> String {
    let levels = workflow.levels();
    let mut text = format!(
        "{}: {}, {} in {}\n",
        workflow.name,
        workflow.shape().as_str(),
        counted(workflow.steps.len(), "step"),
        counted(levels.len(), "level")
    );
    for (depth, level) in levels.iter().enumerate() {
        text.push('\n');
        if depth > 0 {
            text.push_str("   │\n   ▼\n\n");
        }
        for (nth, place) in level.iter().enumerate() {
            let step = &workflow.steps[*place];
            let branch = match (level.len(), nth) {
                (1, _) => "──",
                (_, 0) => "┌─",
                (n, nth) if nth + 1 == n => "└─",
                (_, _) => "├─",
            };
            text.push_str(&format!(" {branch} {}\n", describe(step, files[*place])));
        }
    }
    text
}

fn describe(step: &Step, files: usize) -> String {
    let mut text = format!("{} [{}]", step.id, step.worker);
    let from_steps = step.inputs.is_empty() || step.inputs.iter().any(|input| matches!(input, InputSource::Step { .. }));
    if step.foreach && from_steps && !step.needs.is_empty() {
        text.push_str(" × one task per artifact");
    } else if step.foreach {
        text.push_str(&format!(" × {}", counted(files, "task")));
    } else if files > 0 {
        text.push_str(&format!(", {}", counted(files, "file")));
    }
    if !step.needs.is_empty() {
        text.push_str(&format!(", needs {}", step.needs.join(", ")));
    }
    if !step.gates.is_empty() {
        let gates: Vec<_> = step
            .gates
            .iter()
            .map(|gate| match gate.fail_on {
                Some(severity) => format!("{} (fail on {severity})", gate.gate),
                None => gate.gate.clone(),
            })
            .collect();
        text.push_str(&format!(", judged by {}, up to {}", gates.join(" and "), counted(step.maximum_revisions, "revision")));
    }
    if let Some(expansion) = &step.expand {
        let workers = if expansion.workers.is_empty() { "no worker".to_owned() } else { expansion.workers.join(", ") };
        text.push_str(&format!(", plans up to {} of {workers}", counted(expansion.steps_max, "step")));
    }
    text
}
