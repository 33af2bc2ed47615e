use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    marks: usize,
}

fn run(task: Task<Params>) -> Result<Artifact, Failure> {
    let text = task.input()?.as_text()?.trim_end().to_uppercase();
    Ok(Artifact::text("shouted.txt", text + &"!".repeat(task.params.marks) + "\n"))
}
