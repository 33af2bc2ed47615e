//! Sends requests over HTTP to wherever it is told, and says what came of each.
use std::fmt::Write as _;

use sandhog_guest::{Artifact, Failure, Task, http};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    urls: Vec<String>,
    /// How much is sent along.
    #[serde(default)]
    body_bytes: usize,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let mut text = String::new();
    for url in &task.params.urls {
        let method = if task.params.body_bytes == 0 { "GET" } else { "PUT" };
        // With a header that is the host's to set.
        match http::send(method, url, &[("x-api-key", "mine")], &vec![0; task.params.body_bytes]) {
            Ok(mut response) => {
                let body = response.text(1 << 20).map_err(sandhog_guest::permanent)?;
                let _ = writeln!(text, "{} {body}{}", response.status, response.header("x-echo").unwrap_or_default());
            }
            Err(error) => {
                let _ = writeln!(text, "{} {error}", if error.denied { "denied" } else { "failed" });
            }
        }
    }
    Ok(vec![Artifact::text("answers.txt", text)])
}
