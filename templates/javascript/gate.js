// Rejects files with a mark that somebody meant to come back to.
import { finding, gate as make } from "./sandhog.js";
import { readText } from "./subject.js";

export const gate = make(({ files, params }) => {
  const word = params.word ?? "TODO";
  return files.flatMap(({ path }) =>
    readText(path)
      .split("\n")
      .map((text, index) => ({ line: index + 1, column: text.indexOf(word) + 1 }))
      .filter(({ column }) => column > 0)
      .map(({ line, column }) => finding("left-over", `\`${word}\` is left`, { path, line, column })),
  );
});
