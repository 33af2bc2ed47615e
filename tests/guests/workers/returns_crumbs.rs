//! Returns a great many small artifacts, no two of them alike: each is a blob of its own.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    Ok((0..20_000).map(|n| Artifact::text(format!("{n}"), format!("{n:08}"))).collect())
}
