//! Logs without measure, and tries to forge lines.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    for n in 0..100_000 {
        log::info!("{n} \u{1b}[31mred\nerror: forged \u{202e}");
    }
    log::info!("{}", "y".repeat(1 << 20));
    Ok(vec![])
}
