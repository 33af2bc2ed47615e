//! Asks how much fuel it has used, before and after some work.
use sandhog_guest::{Artifact, Failure, Task, host};

sandhog_guest::worker!(run);

fn run(task: Task) -> Result<Vec<Artifact>, Failure> {
    let before = host::fuel_used();
    let sum: u64 = (0..std::hint::black_box(1_000_u64)).map(std::hint::black_box).sum();
    let between = host::fuel_used();
    let more: u64 = (0..std::hint::black_box(10_000_u64)).map(std::hint::black_box).sum();
    let after = host::fuel_used();
    Ok(vec![Artifact::text(
        "fuel.txt",
        format!("{before} {} {} {}", between - before, after - between, sum + more + u64::from(task.attempt)),
    )])
}
