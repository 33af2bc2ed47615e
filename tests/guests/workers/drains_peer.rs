//! Asks a peer that it may ask, and reads what comes until nothing does.
use std::io::Read as _;

use sandhog_guest::{Artifact, Failure, Task, http};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    url: String,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let told = match http::send("GET", &task.params.url, &[], b"") {
        Err(error) => format!("no response: {}", error.message),
        Ok(mut response) => {
            let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
            loop {
                match response.read(&mut buffer) {
                    Ok(0) => break format!("{}: {total} bytes", response.status),
                    Ok(count) => total += count,
                    Err(error) => break format!("{}: {} KiB, then {error}", response.status, total >> 10),
                }
            }
        }
    };
    Ok(vec![Artifact::text("told.txt", told)])
}
