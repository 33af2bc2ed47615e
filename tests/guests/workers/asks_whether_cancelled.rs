//! Works until it is told to stop, and stops.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    sandhog_guest::host::progress(0.25, "waiting to be cancelled");
    while !sandhog_guest::host::cancelled() {}
    Err(Failure::Cancelled)
}
