/**
 * Write sandhog plugins in JavaScript or TypeScript: one function, and one line that makes it a worker or a gate.
 *
 *     import { artifact, input, worker as make } from "./sandhog.js";
 *
 *     export const worker = make((task) => [artifact("copy.txt", input(task).content)]);
 *
 * Build with componentize-qjs; README.md has the line. What is thrown by `invalidInput`, `transient` and `permanent` is a failure of that
 * kind; any other error is permanent, with its message.
 */

import { cancelled, fuelUsed, log as hostLog, progress } from "sandhog:plugin/host@0.1.0";

export { cancelled, fuelUsed, progress };

/** A line for the log of this attempt; the level is error, warn, info, debug or trace. */
export const log = (text, level = "info") => hostLog(level, String(text));

class Failure extends Error {
  constructor(tag, text) {
    super(text);
    this.failure = { tag, val: text };
  }
}

/** The params or inputs are wrong. Never retried. */
export const invalidInput = (text) => new Failure("invalid-input", text);
/** It may work the next time. */
export const transient = (text) => new Failure("transient", text);
/** It will not work the next time either. */
export const permanent = (text) => new Failure("permanent", text);

/** What a function throws, as the contract has it: neither a bare error nor its trace would tell what went wrong. */
const answering = (function_) => (argument) => {
  try {
    return function_({ ...argument, params: JSON.parse(argument.params) });
  } catch (error) {
    if (!(error instanceof Failure)) log(error?.stack ?? error, "error");
    throw error?.failure ?? { tag: "permanent", val: `${error?.name ?? "Error"}: ${error?.message ?? error}` };
  }
};

/** Makes a function from a task to artifacts a worker. */
export const worker = (run) => ({ run: answering(run) });

/** Makes a function from a subject to findings, or to a verdict, a gate. */
export const gate = (check) => ({
  check: answering((subject) => {
    const answer = check(subject);
    return Array.isArray(answer) ? verdict(answer) : answer;
  }),
});

/** The one input of a task that has exactly one. */
export const input = (task) => {
  if (task.inputs.length !== 1) throw invalidInput(`expected one input, found ${task.inputs.length}`);
  return task.inputs[0];
};

/** An artifact of bytes or text. */
export const artifact = (name, content, mediaType = typeof content === "string" ? "text/plain" : "application/octet-stream") => ({
  name,
  mediaType,
  content: typeof content === "string" ? encode(content) : content,
});

/** A finding of a gate; without a line the whole file is meant. The severity is info, low, medium, high or critical. */
export const finding = (rule, message, { path, line, column = 1, severity = "medium", suggestion, helpUrl } = {}) => ({
  rule,
  severity,
  message,
  location: path === undefined ? undefined : { path, span: line && { startLine: line, startColumn: column, endLine: line, endColumn: column } },
  suggestion,
  helpUrl,
  fix: undefined,
});

/** A verdict that fails where a finding is of medium severity or more. */
export const verdict = (findings, summary = `${findings.length} findings`, metrics = []) => ({
  decision: findings.some(({ severity }) => !["info", "low"].includes(severity)) ? "fail" : "pass",
  findings,
  metrics,
  summary,
});

// There is no TextEncoder here. Functions of the engine do the work: a loop over the letters costs ten times as much.

/** Text as bytes in UTF-8. */
export const encode = (text) => Uint8Array.fromBase64(btoa(unescape(encodeURIComponent(text.toWellFormed()))));

/** Bytes in UTF-8 as text; throws where they are not. */
export const decode = (bytes) => {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) text += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK));
  return ASCII.test(text) ? text : decodeURIComponent(escape(text));
};

/** How many arguments one call is given. */
const CHUNK = 8192;
const ASCII = /^[\x00-\x7f]*$/;
