//! Asks for an absurd amount of randomness.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let bytes = wasip2::random::random::get_random_bytes(1 << 40);
    Ok(vec![Artifact::new("random", "", bytes)])
}
