// Shouts: the input in capitals, with as many marks as the params say.
import { Answer, Artifact, Level, log, Task } from "./sandhog";

export { cabi_realloc } from "./sandhog";

export function sandhog_worker_run(at: usize): usize {
  const task = new Task(at);
  const marks = task.params.number("marks", 1);
  if (marks < 0 || marks > 1000) return Answer.invalidInput("`marks` must be from 0 to 1000");
  if (task.inputs.length != 1) return Answer.invalidInput("expected one input");
  log(Level.Info, `${task.inputs[0].content.length} bytes`);
  const text = task.inputs[0].asText();
  return Answer.artifacts([Artifact.text("shouted.txt", text.trimEnd().toUpperCase() + "!".repeat(marks as i32) + "\n")]);
}
