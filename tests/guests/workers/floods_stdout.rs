//! Writes a hundred megabytes to standard output and error.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

use std::io::Write as _;

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    for _ in 0..50_000 {
        std::io::stdout().write_all(&line).map_err(sandhog_guest::permanent)?;
        std::io::stderr().write_all(&line).map_err(sandhog_guest::permanent)?;
    }
    Ok(vec![])
}
