//! Fills the same megabytes over and over: bulk operations, each of which is one instruction.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let mut block = vec![0_u8; 32 << 20];
    for turn in 0_u64.. {
        block.fill(std::hint::black_box(turn as u8));
    }
    Ok(vec![])
}
