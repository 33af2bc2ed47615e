//! Sleeps for an hour.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    std::thread::sleep(std::time::Duration::from_secs(3600));
    Ok(vec![Artifact::text("woke.txt", "up")])
}
