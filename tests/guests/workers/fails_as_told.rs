//! Returns the failure that its params name.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    kind: String,
    #[serde(default)]
    message: Option<String>,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let message = task.params.message;
    Err(match task.params.kind.as_str() {
        "transient" => sandhog_guest::transient("try again"),
        "permanent" => sandhog_guest::permanent(message.unwrap_or_else(|| "give up".to_owned())),
        "cancelled" => Failure::Cancelled,
        other => sandhog_guest::invalid_input(format!("no such kind: {other}")),
    })
}
