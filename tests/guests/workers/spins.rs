//! Spins for ever.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
