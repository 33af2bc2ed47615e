//! Attacks: hands the host one argument of any size.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    what: String,
    bytes: usize,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let text = "n".repeat(task.params.bytes);
    let taken = match task.params.what.as_str() {
        "log" => {
            log::info!("{text}");
            true
        }
        "progress" => {
            sandhog_guest::host::progress(f64::NAN, &text);
            true
        }
        "path" => std::fs::read(format!("/tmp/{text}")).is_ok(),
        "name" => std::fs::write(format!("/tmp/{text}"), "x").is_ok(),
        "header" => wasip2::http::types::Fields::new().append("x-long", text.as_bytes()).is_ok(),
        "random" => !wasip2::random::random::get_random_bytes(text.len() as u64).is_empty(),
        "stdout" => std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).is_ok(),
        other => return Err(sandhog_guest::permanent(format!("there is no import {other}"))),
    };
    Ok(vec![Artifact::text("taken.txt", taken.to_string())])
}
