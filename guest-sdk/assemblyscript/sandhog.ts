/**
 * Write sandhog plugins in AssemblyScript: one function that the host calls.
 *
 *     import { Answer, Artifact, Task } from "./sandhog";
 *     export { cabi_realloc } from "./sandhog";
 *
 *     export function sandhog_worker_run(at: usize): usize {
 *       const task = new Task(at);
 *       if (task.inputs.length != 1) return Answer.invalidInput("expected one input");
 *       return Answer.artifacts([new Artifact("copy.txt", "text/plain", task.inputs[0].content)]);
 *     }
 *
 * A gate exports sandhog_gate_check, and answers with Answer.verdict. Build: asc -O3 --runtime stub --use abort=PATH/sandhog/abort; then
 * `sandhog pack` makes a plugin of the module.
 *
 * Values are read and written as the component model's canonical ABI lays them out. Nothing is freed: each call runs in an instance of
 * its own, whose memory goes with it.
 */

// @ts-ignore: decorator
@external("sandhog:plugin/host@0.1.0", "log")
declare function hostLog(level: i32, at: usize, length: usize): void;
// @ts-ignore: decorator
@external("sandhog:plugin/host@0.1.0", "progress")
declare function hostProgress(fraction: f64, at: usize, length: usize): void;
// @ts-ignore: decorator
@external("sandhog:plugin/host@0.1.0", "fuel-used")
declare function hostFuelUsed(): u64;
// @ts-ignore: decorator
@external("sandhog:plugin/host@0.1.0", "cancelled")
declare function hostCancelled(): i32;

/** In falling order of importance. */
export enum Level {
  Error,
  Warn,
  Info,
  Debug,
  Trace,
}

/** A line for the log of this attempt. */
export function log(level: Level, text: string): void {
  const bytes = String.UTF8.encode(text);
  hostLog(level, changetype<usize>(bytes), bytes.byteLength);
}

/** How far the task has come, from 0 to 1. */
export function progress(fraction: f64, note: string): void {
  const bytes = String.UTF8.encode(note);
  hostProgress(fraction, changetype<usize>(bytes), bytes.byteLength);
}

/** The fuel that this attempt has used so far. */
export function fuelUsed(): u64 {
  return hostFuelUsed();
}

/** Whether the task has been cancelled. */
export function isCancelled(): bool {
  return hostCancelled() != 0;
}

/** What AssemblyScript calls when an assertion fails: the reason goes to the log, and the attempt has trapped. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const why = message ? message : "aborted";
  log(Level.Error, `${why} (${file ? file : "?"}:${line}:${column})`);
  unreachable();
}

/** Memory for what the host hands over. To be exported by the plugin. */
export function cabi_realloc(old: usize, oldSize: usize, align: usize, newSize: usize): usize {
  if (newSize == 0) return align;
  const made = heap.alloc(newSize); // aligned by 16
  if (oldSize > 0) memory.copy(made, old, min(oldSize, newSize));
  return made;
}

function text(at: usize): string {
  return String.UTF8.decodeUnsafe(load<u32>(at), load<u32>(at, 4));
}

function texts(at: usize): string[] {
  const list: string[] = [];
  for (let index: u32 = 0; index < load<u32>(at, 4); index++) list.push(text(load<u32>(at) + index * 8));
  return list;
}

function bytes(at: usize): Uint8Array {
  const length = load<u32>(at, 4);
  const copy = new Uint8Array(length);
  memory.copy(copy.dataStart, load<u32>(at), length);
  return copy;
}

function putText(at: usize, value: string): void {
  const encoded = String.UTF8.encode(value);
  store<u32>(at, changetype<u32>(encoded));
  store<u32>(at, encoded.byteLength, 4);
}

function blank(size: usize): usize {
  const made = heap.alloc(max(size, 1));
  memory.fill(made, 0, size);
  return made;
}

/** A named piece of content: what a task is given, and what it makes. */
export class Artifact {
  constructor(
    public name: string,
    public mediaType: string,
    public content: Uint8Array,
  ) {}

  /** One of text. */
  static text(name: string, content: string): Artifact {
    return new Artifact(name, "text/plain", Uint8Array.wrap(String.UTF8.encode(content)));
  }

  /** The content as text. */
  asText(): string {
    return String.UTF8.decodeUnsafe(this.content.dataStart, this.content.length);
  }
}

function artifacts(at: usize): Artifact[] {
  const list: Artifact[] = [];
  for (let index: u32 = 0; index < load<u32>(at, 4); index++) {
    const one: usize = load<u32>(at) + index * 24;
    list.push(new Artifact(text(one), text(one + 8), bytes(one + 16)));
  }
  return list;
}

/** How much a finding matters, in rising order. */
export enum Severity {
  Info,
  Low,
  Medium,
  High,
  Critical,
}

/** One thing that a gate has to say; line 0 means the whole file, an empty path none. */
export class Finding {
  suggestion: string = "";

  constructor(
    public rule: string,
    public severity: Severity,
    public message: string,
    public path: string = "",
    public line: u32 = 0,
    public column: u32 = 1,
  ) {}
}

function findings(at: usize): Finding[] {
  const list: Finding[] = [];
  for (let index: u32 = 0; index < load<u32>(at, 4); index++) {
    const one: usize = load<u32>(at) + index * 100;
    const finding = new Finding(text(one), load<u8>(one, 8) as Severity, text(one + 12));
    if (load<u8>(one, 20)) {
      finding.path = text(one + 24);
      if (load<u8>(one, 32)) {
        finding.line = load<u32>(one, 36);
        finding.column = load<u32>(one, 40);
      }
    }
    if (load<u8>(one, 52)) finding.suggestion = text(one + 56);
    list.push(finding);
  }
  return list;
}

/** What a worker is asked to do. */
export class Task {
  /** The same over all attempts and revisions: the key for effects. Empty for a deterministic plugin, as the run is. */
  id: string;
  run: string;
  step: string;
  /** Tries after failures, from 1. */
  attempt: u32;
  /** Rounds after rejections, from 0. */
  revision: u32;
  params: Params;
  inputs: Artifact[];
  /** What the work will be judged by. */
  criteria: string[];
  /** What the gates said about `previous`. */
  feedback: Finding[];
  previous: Artifact[];

  constructor(at: usize) {
    this.id = text(at);
    this.run = text(at + 8);
    this.step = text(at + 16);
    this.attempt = load<u32>(at, 24);
    this.revision = load<u32>(at, 28);
    this.params = new Params(text(at + 32));
    this.inputs = artifacts(at + 40);
    this.criteria = texts(at + 48);
    this.feedback = findings(at + 56);
    this.previous = artifacts(at + 64);
  }
}

/** One file of a subject. */
export class File {
  constructor(
    public path: string,
    public size: u64,
    public mediaType: string,
  ) {}
}

function files(at: usize): File[] {
  const list: File[] = [];
  for (let index: u32 = 0; index < load<u32>(at, 4); index++) {
    const one: usize = load<u32>(at) + index * 24;
    list.push(new File(text(one), load<u64>(one, 8), text(one + 16)));
  }
  return list;
}

/**
 * What a gate is asked to judge. Contents are read through WASI, which AssemblyScript has not: names, sizes, types, the task and what it
 * used are here.
 */
export class Subject {
  files: File[];
  task: Task | null;
  /** Fuel, bytes of memory at most and nanoseconds; 0 where they are not told. */
  fuel: u64 = 0;
  peakMemoryBytes: u64 = 0;
  wallTimeNs: u64 = 0;
  params: Params;

  constructor(at: usize) {
    this.files = files(at);
    this.task = load<u8>(at, 8) ? new Task(at + 12) : null;
    if (load<u8>(at, 88)) {
      this.fuel = load<u64>(at, 96);
      this.peakMemoryBytes = load<u64>(at, 104);
      this.wallTimeNs = load<u64>(at, 112);
    }
    this.params = new Params(text(at + 120));
  }
}

/** A JSON object, by its own members. */
export class Params {
  constructor(public json: string) {}

  /** The JSON of one param, as it stands there; null where there is none of this name. */
  get(name: string): string | null {
    const json = this.json;
    let at = 1;
    while (at < json.length) {
      while (at < json.length && " \n\r\t,".includes(json.charAt(at))) at++;
      const key = at;
      at = this.behind(at);
      if (at == key) break;
      const isIt = json.substring(key + 1, at - 1) == name;
      while (at < json.length && " \n\r\t:".includes(json.charAt(at))) at++;
      const value = at;
      at = this.behind(at);
      if (isIt) return json.substring(value, at);
    }
    return null;
  }

  /** A param that is a whole number; the other value where it is not there, or is none. */
  number(name: string, otherwise: i64): i64 {
    const json = this.get(name);
    if (!json) return otherwise;
    const number = parseFloat(json);
    return isNaN(number) || floor(number) != number ? otherwise : (number as i64);
  }

  /** A param that is a text without escapes; the other one where it is not there, or is none. */
  text(name: string, otherwise: string): string {
    const json = this.get(name);
    if (!json || json.length < 2 || json.charAt(0) != '"' || json.includes("\\")) return otherwise;
    return json.substring(1, json.length - 1);
  }

  /** Behind the value that begins at a place. The host has made sure that it is valid JSON. */
  private behind(from: i32): i32 {
    const json = this.json;
    let depth = 0;
    let inText = false;
    for (let at = from; at < json.length; at++) {
      const sign = json.charAt(at);
      if (inText) {
        if (sign == "\\") at++;
        else if (sign == '"') {
          inText = false;
          if (depth == 0) return at + 1;
        }
      } else if (sign == '"') inText = true;
      else if (sign == "{" || sign == "[") depth++;
      else if (sign == "}" || sign == "]") {
        if (depth == 0) return at;
        depth--;
        if (depth == 0) return at + 1;
      } else if (depth == 0 && ", \n\r\t:".includes(sign)) return at;
    }
    return json.length;
  }
}

/** What the host is answered. */
export class Answer {
  /** What a worker made. */
  static artifacts(list: Artifact[]): usize {
    const result = blank(16);
    const first = blank(list.length * 24);
    for (let index = 0; index < list.length; index++) {
      const at = first + index * 24;
      putText(at, list[index].name);
      putText(at + 8, list[index].mediaType);
      store<u32>(at, list[index].content.dataStart as u32, 16);
      store<u32>(at, list[index].content.length, 20);
    }
    store<u32>(result, first as u32, 4);
    store<u32>(result, list.length, 8);
    return result;
  }

  /** What a gate says: it rejects where a finding is of medium severity or more. */
  static verdict(list: Finding[]): usize {
    const result = blank(32);
    const first = blank(list.length * 100);
    for (let index = 0; index < list.length; index++) {
      const finding = list[index];
      const at = first + index * 100;
      putText(at, finding.rule);
      store<u8>(at, finding.severity as u8, 8);
      putText(at + 12, finding.message);
      if (finding.path.length > 0) {
        store<u8>(at, 1, 20);
        putText(at + 24, finding.path);
        if (finding.line > 0) {
          store<u8>(at, 1, 32);
          store<u32>(at, finding.line, 36);
          store<u32>(at, finding.column, 40);
          store<u32>(at, finding.line, 44);
          store<u32>(at, finding.column, 48);
        }
      }
      if (finding.suggestion.length > 0) {
        store<u8>(at, 1, 52);
        putText(at + 56, finding.suggestion);
      }
      if (finding.severity >= Severity.Medium) store<u8>(result, 1, 4);
    }
    store<u32>(result, first as u32, 8);
    store<u32>(result, list.length, 12);
    store<u32>(result, 8, 16); // no metrics
    putText(result + 24, `${list.length} findings`);
    return result;
  }

  private static failure(kind: u8, why: string): usize {
    const result = blank(32);
    store<u8>(result, 1);
    store<u8>(result, kind, 4);
    putText(result + 8, why);
    return result;
  }

  /** The params or inputs are wrong. Never retried. */
  static invalidInput(why: string): usize {
    return Answer.failure(0, why);
  }

  /** It may work the next time. */
  static transient(why: string): usize {
    return Answer.failure(1, why);
  }

  /** It will not work the next time either. */
  static permanent(why: string): usize {
    return Answer.failure(2, why);
  }
}
