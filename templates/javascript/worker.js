// Shouts: the input in capitals, with as many marks as the params say.
import { artifact, decode, input, invalidInput, log, worker as make } from "./sandhog.js";

export const worker = make((task) => {
  const { marks = 1 } = task.params;
  if (!Number.isInteger(marks) || marks < 0 || marks > 1000) throw invalidInput("`marks` must be from 0 to 1000");
  const { content } = input(task);
  log(`${content.length} bytes`);
  return [artifact("shouted.txt", `${decode(content).trimEnd().toUpperCase()}${"!".repeat(marks)}\n`)];
});
