//! Behaves: returns its inputs.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(task: Task) -> Result<Vec<Artifact>, Failure> {
    Ok(task.inputs)
}
