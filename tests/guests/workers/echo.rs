//! Behaves: returns its inputs, and says in an artifact what else it was given.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(task: Task) -> Result<Vec<Artifact>, Failure> {
    Ok(task.inputs)
}
