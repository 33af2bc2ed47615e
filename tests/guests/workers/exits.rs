//! Ends itself, and says that all is well.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    std::process::exit(0)
}
