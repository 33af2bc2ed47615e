//! What a step works on: files that were read when the run started, and artifacts of the steps that it needs.

use globset::GlobBuilder;

use crate::journal::{self, Store};
use crate::model::{ArtifactRef, Digest, InputSource, RunId, Step, Workflow};

/// Lists the inputs of a step, keeps the list as a blob, and says how many tasks that makes.
pub(super) async fn resolve(
    store: &dyn Store,
    run: &RunId,
    workflow: &Workflow,
    files: &[Vec<ArtifactRef>],
    step: u32,
) -> Result<(u32, Digest), journal::Error> {
    let of_step = &workflow.steps[step as usize];
    let mut inputs = files.get(step as usize).cloned().unwrap_or_default();
    for (from, glob) in sources(of_step) {
        let Some(place) = workflow.steps.iter().position(|s| s.id == from) else { continue };
        // A glob that was read with the workflow parses.
        let matcher = glob.and_then(|glob| GlobBuilder::new(glob).literal_separator(true).build().ok()).map(|glob| glob.compile_matcher());
        for (index, artifacts) in store.results(run, place as u32).await? {
            let artifacts = artifacts.into_iter().filter(|artifact| matcher.as_ref().is_none_or(|m| m.is_match(&artifact.name)));
            inputs.extend(artifacts.map(|artifact| ArtifactRef { name: format!("{from}/{index}/{}", artifact.name), ..artifact }));
        }
    }
    let tasks = if of_step.foreach { u32::try_from(inputs.len()).unwrap_or(u32::MAX) } else { 1 };
    let list = serde_json::to_vec(&inputs).map_err(|error| journal::Error::Medium(error.to_string()))?;
    Ok((tasks, store.put_blob(list.into()).await?))
}

/// Steps that a step takes artifacts from, with globs on their names: those named, or all that it needs.
fn sources(step: &Step) -> Vec<(&str, Option<&str>)> {
    if step.inputs.is_empty() {
        return step.needs.iter().map(|need| (need.as_str(), None)).collect();
    }
    let named = step.inputs.iter().filter_map(|input| match input {
        InputSource::Step { from, name } => Some((from.as_str(), name.as_deref())),
        InputSource::Files(_) => None,
    });
    named.collect()
}

/// Reads a list of inputs back.
pub(super) async fn load(store: &dyn Store, digest: &Digest) -> Result<Vec<ArtifactRef>, journal::Error> {
    let bytes = store.blob(digest).await?;
    serde_json::from_slice(&bytes).map_err(|error| journal::Error::Medium(format!("the list of inputs {digest} does not parse: {error}")))
}
