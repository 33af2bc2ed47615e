//! Shouts: the input in capitals, with as many marks as the params say.

use sandhog_guest::{Artifact, Failure, Task, invalid_input};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    marks: i64,
}

impl Default for Params {
    fn default() -> Self {
        Self { marks: 1 }
    }
}

fn run(task: Task<Params>) -> Result<Artifact, Failure> {
    let marks = task.params.marks;
    if !(0..=1000).contains(&marks) {
        return Err(invalid_input("`marks` must be from 0 to 1000"));
    }
    let text = task.input()?.as_text()?;
    log::info!("{} bytes", text.len());
    Ok(Artifact::text("shouted.txt", format!("{}{}\n", text.trim_end().to_uppercase(), "!".repeat(marks as usize))))
}
