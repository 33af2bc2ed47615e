//! Returns as many bytes as its params say.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    bytes: usize,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    Ok(vec![Artifact::new("big", "", vec![7; task.params.bytes - 3])])
}
