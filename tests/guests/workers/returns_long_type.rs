//! Returns an artifact with a media type as long as it is told, of characters that JSON writes as six.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    #[serde(default = "some")]
    bytes: usize,
}

fn some() -> usize {
    300
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let mut artifact = Artifact::text("a", "");
    artifact.media_type = "\u{1b}".repeat(task.params.bytes);
    Ok(vec![artifact])
}
