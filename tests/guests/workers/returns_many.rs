//! Returns a great many tiny artifacts.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    Ok((0..300_000).map(|n| Artifact::text(format!("{n}"), "")).collect())
}
