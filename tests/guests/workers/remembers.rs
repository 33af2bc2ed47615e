//! Remembers: counts its tasks in a static, and keeps what its params say.
use std::sync::Mutex;

use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Params {
    /// How it ends: `fail`, `panic`, or with an answer.
    end: String,
    /// How many bytes it keeps for ever.
    keep: usize,
}

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let mut kept = KEPT.lock().expect("one thread");
    kept.push(vec![1; task.params.keep]);
    log::info!("task {}", kept.len());
    match task.params.end.as_str() {
        "fail" => return Err(sandhog_guest::transient("as told")),
        "panic" => panic!("as told"),
        _ => {}
    }
    let _ = std::fs::write(format!("/tmp/{}", kept.len()), "x");
    let files = std::fs::read_dir("/tmp").map_or(0, Iterator::count);
    let cancelled = sandhog_guest::host::cancelled();
    Ok(vec![Artifact::text("told", format!("task {}, {files} files, cancelled: {cancelled}", kept.len()))])
}
