/** A named piece of content: what a task is given, and what it makes. */
export interface Artifact {
  /** A relative path with `/` between its parts. */
  name: string;
  /** An IANA media type; empty means `application/octet-stream`. */
  mediaType: string;
  content: Uint8Array;
}

export type Severity = "info" | "low" | "medium" | "high" | "critical";

/** Counted from 1, columns in Unicode scalar values; the end column is behind the last character. */
export interface Span {
  startLine: number;
  startColumn: number;
  endLine: number;
  endColumn: number;
}

/** One thing that a gate has to say about what it judged. */
export interface Finding {
  /** The rule's own stable name. */
  rule: string;
  severity: Severity;
  message: string;
  location?: { path: string; span?: Span };
  suggestion?: string;
  helpUrl?: string;
  fix?: { description: string; edits: { start: number; end: number; replacement: string }[]; safe: boolean };
}

/** What a worker is asked to do. */
export interface Task<Params> {
  /** The same over all attempts and revisions: the key for effects. Empty for a deterministic plugin, as `run` is. */
  id: string;
  run: string;
  step: string;
  /** Counts tries after failures, from 1. */
  attempt: number;
  /** Counts rounds after rejections, from 0. */
  revision: number;
  params: Params;
  inputs: Artifact[];
  /** What the work will be judged by, one line a gate. */
  criteria: string[];
  /** What the gates said about `previous`. */
  feedback: Finding[];
  previous: Artifact[];
}

/** What a gate is asked to judge. */
export interface Subject<Params> {
  /** Sorted by path. */
  files: { path: string; sizeBytes: number; mediaType: string }[];
  /** The task whose artifacts are judged; its params are JSON. */
  task?: Task<string>;
  /** What the judged attempt used, where the workflow asks for it. */
  usage?: { fuel: number; peakMemoryBytes: number; wallTimeNs: number };
  params: Params;
  unit?: string;
}

export interface Metric {
  name: string;
  value: number;
  unit: string;
}

export interface Verdict {
  decision: "pass" | "fail";
  findings: Finding[];
  metrics: Metric[];
  summary: string;
}

/** Makes a function from a task to artifacts a worker. */
export function worker<Params = Record<string, unknown>>(run: (task: Task<Params>) => Artifact[]): object;
/** Makes a function from a subject to findings, or to a verdict, a gate. */
export function gate<Params = Record<string, unknown>>(check: (subject: Subject<Params>) => Finding[] | Verdict): object;

/** The one input of a task that has exactly one. */
export function input(task: Task<never> | Task<unknown>): Artifact;
/** An artifact of bytes or text. */
export function artifact(name: string, content: string | Uint8Array, mediaType?: string): Artifact;
/** A finding of a gate; without a line the whole file is meant. */
export function finding(
  rule: string,
  message: string,
  more?: { path?: string; line?: number; column?: number; severity?: Severity; suggestion?: string; helpUrl?: string },
): Finding;
/** A verdict that fails where a finding is of medium severity or more. */
export function verdict(findings: Finding[], summary?: string, metrics?: Metric[]): Verdict;

/** The params or inputs are wrong. Never retried. */
export function invalidInput(text: string): Error;
/** It may work the next time. */
export function transient(text: string): Error;
/** It will not work the next time either. */
export function permanent(text: string): Error;

/** A line for the log of this attempt. */
export function log(text: unknown, level?: "error" | "warn" | "info" | "debug" | "trace"): void;
/** How far the task has come, from 0 to 1. */
export function progress(fraction: number, note: string): void;
/** The fuel that this attempt has used so far. */
export function fuelUsed(): number;
/** Whether the task has been cancelled. */
export function cancelled(): boolean;

/** Text as bytes in UTF-8. */
export function encode(text: string): Uint8Array;
/** Bytes in UTF-8 as text; throws where they are not. */
export function decode(bytes: Uint8Array): string;
