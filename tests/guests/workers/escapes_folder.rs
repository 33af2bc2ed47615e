//! Tries every way out of the directory that it was granted at /granted.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

use std::fs;

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let mut text = format!("inside {:?}\n", fs::read_to_string("/granted/inside.txt"));
    for path in ["/etc/passwd", "/granted/../secret.txt", "/granted/link", "/granted/linked/secret.txt", "/granted/.", "/subject"] {
        text += &format!("{path} {}\n", fs::read(path).is_ok());
    }
    let written = fs::write("/granted/written.txt", "w").is_ok();
    let removed = fs::remove_file("/granted/inside.txt").is_ok();
    let linked = fs::hard_link("/granted/inside.txt", "/granted/hard").is_ok();
    text += &format!("written {written} removed {removed} linked {linked}\n");
    Ok(vec![Artifact::text("found.txt", text)])
}
