//! Returns artifacts under names that would leave the folder.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    names: Vec<String>,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    Ok(task.params.names.into_iter().map(|name| Artifact::text(name, "")).collect())
}
