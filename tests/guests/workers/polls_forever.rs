//! Waits for a time that never comes, in a host call that it makes again and again.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    loop {
        wasip2::clocks::monotonic_clock::subscribe_duration(10_000_000).block();
    }
}
