//! Attacks: calls one import of the host's without end.
use std::time::{Instant, SystemTime};

use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    what: String,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    loop {
        match task.params.what.as_str() {
            "log" => log::info!("again"),
            "progress" => sandhog_guest::host::progress(0.5, "again"),
            "cancelled" => drop(sandhog_guest::host::cancelled()),
            "fuel" => drop(std::hint::black_box(sandhog_guest::host::fuel_used())),
            "clock" => drop(std::hint::black_box((Instant::now(), SystemTime::now()))),
            "random" => drop(std::hint::black_box(wasip2::random::random::get_random_bytes(1024))),
            "files" => drop(std::hint::black_box(std::fs::metadata("/tmp"))),
            "stdout" => println!("again"),
            other => return Err(sandhog_guest::permanent(format!("there is no import {other}"))),
        }
    }
}
