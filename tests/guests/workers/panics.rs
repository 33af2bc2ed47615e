//! Panics with ten megabytes to say.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    panic!("{}", "\u{1b}[2J".repeat(2_500_000))
}
