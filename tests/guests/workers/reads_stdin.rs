//! Reads its standard input to the end.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

use std::io::Read as _;

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(sandhog_guest::permanent)?;
    Ok(vec![Artifact::text("stdin.txt", format!("{} bytes", text.len()))])
}
