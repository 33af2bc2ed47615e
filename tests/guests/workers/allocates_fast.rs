//! Asks for a gigabyte at once.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let block = vec![1_u8; std::hint::black_box(1 << 30)];
    Ok(vec![Artifact::text("n", block.len().to_string())])
}
