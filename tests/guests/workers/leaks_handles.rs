//! Opens resources and keeps them: as many as it is asked for, or without end.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    count: Option<usize>,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let mut kept = Vec::new();
    while task.params.count.is_none_or(|count| kept.len() < count) {
        kept.push(wasip2::clocks::monotonic_clock::subscribe_duration(1));
    }
    Ok(vec![Artifact::text("kept.txt", kept.len().to_string())])
}
