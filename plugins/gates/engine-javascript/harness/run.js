// Running one test: its hooks, its parts, its limits.
import assert from "assert";
import { printDiffOrStringify } from "@vitest/utils/diff";
import { isThenable, native } from "./native.js";
import { elapsed, isWaiting, turn } from "./clock.js";
import { beginTest, endTest, expect, plan } from "./expect.js";
import { nodeMock, restoreTimers } from "./doubles.js";
import { process } from "./node/process.js";
import { util } from "./node/util.js";
import { chainUp, isIn, isVitest, mochaOf, optional, state, usesDone } from "./registry.js";

const TURNS_MAX = 10_000;
class Skip { constructor(reason, todo = false) { this.reason = reason; this.todo = todo; } }

/** Runs a body to its end. What goes wrong after it has said that it is done goes to `late`. */
const callBody = (body, self, context, late = []) => {
  if (!usesDone(body)) {
    if (Object.prototype.toString.call(body) === "[object GeneratorFunction]") throw new TypeError("a generator is no test: nothing runs it");
    return body.call(self, context);
  }
  return new Promise((resolve, reject) => {
    let isDone = false;
    const wrong = (error) => { if (isDone) late.push(error); else { isDone = true; reject(error); } };
    const done = (error) => {
      if (isDone) { late.push(new Error(`done() was called again${error ? `, with ${util.format(error)}` : ""}`)); return; }
      isDone = true;
      if (error) reject(error instanceof Error ? error : new Error(util.format(error))); else resolve();
    };
    done.fail = wrong;
    try {
      // node:test hands over the context first, the others nothing but the callback.
      const returned = body.length > 1 ? body.call(self, context, done) : body.call(self, done);
      if (isThenable(returned)) {
        returned.then(() => {}, () => {});
        wrong(new Error("it takes a callback and returns a promise; one of them tells when it is done"));
      }
    } catch (error) { wrong(error); }
  });
};
const within = async (context, work) => {
  const before = state.running;
  state.running = context;
  try { return await work(); } finally { state.running = before; }
};
/** What a test is handed, and what it leaves to be done: parts of its own, and hooks. */
const makeContext = (name, isNode) => {
  const parts = [];
  let [planned, made] = [null, 0];
  const counted = (of) => new Proxy(of, {
    apply: (target, self, parameters) => { made += 1; return Reflect.apply(target, self, parameters); },
    get: (target, key) => { const value = target[key]; return typeof value === "function" && key !== "AssertionError" ? (...parameters) => { made += 1; return value(...parameters); } : value; },
  });
  const hooksOf = { after: [], beforeEach: [], afterEach: [], failed: [] };
  const controller = new AbortController();
  const skip = (...parameters) => {
    if (parameters[0] === false) return;
    throw new Skip(parameters.find((part) => typeof part === "string") ?? "skipped");
  };
  const context = {
    name, fullName: name, task: { name, meta: {}, result: { state: "run" } }, diagnostic: (text) => native.print("log", String(text)), skip,
    todo: (reason) => { throw new Skip(reason ?? "todo", true); },
    isNode, plan: (count) => { if (isNode) planned = count; else plan(count); }, mock: nodeMock, assert: isNode ? counted(assert) : assert, expect, signal: controller.signal, annotate: async () => {},
    test: (...parameters) => { const { name: inner, options: own, body } = optional(parameters); return context.inner(inner, own, body); },
    before: (body) => { parts.push({ part: Promise.resolve().then(() => body(context)), name, isOver: true }); },
    after: (body) => { hooksOf.after.push(body); },
    beforeEach: (body) => { hooksOf.beforeEach.push(body); },
    afterEach: (body) => { hooksOf.afterEach.push(body); },
    onTestFinished: (body) => { hooksOf.after.unshift(body); },
    onTestFailed: (body) => { hooksOf.failed.push(body); },
    inner(inner, own, body) {
      made += 1;
      if (own.skip || own.todo || !body) return Promise.resolve();
      const run = async () => {
        const part = makeContext(inner, true);
        try {
          for (const hook of hooksOf.beforeEach) await hook(part);
          await within(part, () => callBody(body, part, part));
          await part.finish();
          for (const hook of hooksOf.afterEach) await hook(part);
        } catch (error) {
          if (error instanceof Skip) return;
          if (error instanceof Error && !error.message.startsWith(`${inner}: `)) error.message = `${inner}: ${error.message}`;
          throw error;
        }
      };
      const part = run();
      const entry = { part, name: inner, isOver: false };
      parts.push(entry);
      const over = () => { entry.isOver = true; };
      part.then(over, over); // what went wrong is told by whoever finishes
      return part;
    },
    async finish(failed) {
      for (let turns = 0; turns < 50 && parts.some((entry) => !entry.isOver); turns += 1) await null;
      for (const { part, name: inner, isOver } of parts.splice(0)) {
        if (!isOver) throw new Error(`the test ended before its part ${inner}, which it does not wait for`);
        await part;
      }
      if (planned !== null && made !== planned) throw new Error(`the plan is of ${planned} assertions, and ${made} were made`);
      if (failed) for (const hook of hooksOf.failed.splice(0)) await hook(context);
      for (const hook of hooksOf.after.splice(0)) await hook(context);
    },
  };
  context.it = context.test;
  return context;
};
/** The test's body with the fixtures of Vitest's `test.extend` that it names: each lives as long as the body runs. */
const withFixtures = (fixtures, body, context) => {
  const named = (of) => { const text = Function.prototype.toString.call(of).replace(/\/\*[^]*?\*\/|\/\/.*/g, ""); const inside = /^[^(]*\(\s*\{([^}]*)\}/.exec(text)?.[1] ?? ""; return inside.split(",").map((part) => part.split(/[:=]/)[0].trim()).filter(Boolean); };
  const made = new Map();
  const isAuto = (entry) => Array.isArray(entry) && entry[1]?.auto;
  const open = async (names, then) => {
    const [name, ...rest] = names;
    if (name === undefined) return then();
    if (made.has(name) || !Object.hasOwn(fixtures, name)) return open(rest, then);
    const value = Array.isArray(fixtures[name]) && typeof fixtures[name][1] === "object" ? fixtures[name][0] : fixtures[name];
    const keep = (own) => { made.set(name, own); context[name] = own; };
    if (typeof value !== "function") { keep(value); return open(rest, then); }
    return open(named(value).filter((other) => other !== name), async () => {
      let result;
      await value(context, async (own) => { keep(own); result = await open(rest, then); });
      return result;
    });
  };
  return open([...Object.keys(fixtures).filter((name) => isAuto(fixtures[name])), ...named(body)], () => callBody(body, context, context));
};
const DIFF_LINES_MAX = 40;
/** How two values differ, line by line; nothing where the message says so already: of what is plain, and of node:assert. */
const difference = (error) => {
  const isPlain = (value) => value === null || (typeof value !== "object" && !String(value).includes("\n"));
  if (!("actual" in error && "expected" in error) || error.generatedMessage !== undefined || (isPlain(error.actual) && isPlain(error.expected))) return "";
  let lines;
  try { lines = util.stripVTControlCharacters(printDiffOrStringify(error.actual, error.expected, { expand: false, contextLines: 2 }) ?? "").split("\n"); } catch { return ""; }
  if (lines.length > DIFF_LINES_MAX) lines = [...lines.slice(0, DIFF_LINES_MAX), `… ${lines.length - DIFF_LINES_MAX} more lines`];
  return lines.join("") ? `\n${lines.join("\n")}` : "";
};
export const describeError = (error) => {
  if (error instanceof Error || (error && typeof error === "object" && "message" in error)) {
    const name = error.name && error.name !== "Error" && !String(error.name).startsWith("AssertionError") ? `${error.name}: ` : "";
    return { message: util.stripVTControlCharacters(`${name}${error.message}${difference(error)}`), stack: String(error.stack ?? "") };
  }
  return { message: `threw ${util.inspect(error)}`, stack: "" };
};

const attemptOnce = async (test) => {
  const options = { ...test.options };
  const suites = chainUp(test.suite);
  await beginTest(`${native.root}/${test.file}`, test.names);
  let failed = null;
  const attempt = async (when, work) => {
    try { return await work(); } catch (error) { if (error instanceof Skip) throw error; failed ??= { when, error }; return undefined; }
  };
  const name = test.names.at(-1);
  const own = makeContext(name, Boolean(options.node));
  // Mocha's bodies find their context in `this`.
  const about = { title: name, fullTitle: () => test.names.join(" "), state: undefined };
  const self = mochaOf(options, { skip: own.skip, test: about, currentTest: about });
  const late = [];
  const inTime = async (limit, work) => {
    const started = elapsed();
    const value = await work();
    const wait = limit();
    if (wait > 0 && elapsed() - started > wait) throw new Error(`it took ${elapsed() - started} ms, and its timeout is ${wait} ms`);
    return value;
  };
  const inherited = suites.findLast((suite) => suite.options.timeout !== undefined)?.options.timeout;
  const hook = ({ body, timeout }, when) => attempt(when, () => inTime(() => timeout ?? (isVitest() ? state.hookTimeout : inherited ?? state.timeout), () => callBody(body, self, own, late)));
  const cleanups = [];
  // What a hook of Vitest's returns is called when its time is over.
  const clean = (returned) => { if (typeof returned === "function") cleanups.push(returned); };
  const ordered = (hooks) => (isVitest() ? [...hooks].reverse() : hooks);
  for (const suite of suites) for (const each of suite.hooks.before) clean(await hook(each, "before"));
  for (const suite of suites) for (const each of suite.hooks.beforeEach) if (!failed) clean(await hook(each, "before"));
  if (!failed) await attempt("", () => inTime(() => options.timeout ?? inherited ?? state.timeout, () => within(own, () => (options.fixtures ? withFixtures(options.fixtures, test.body, own) : callBody(test.body, self, own, late)))));
  if (!failed) await attempt("", () => endTest());
  about.state = failed ? "failed" : "passed";
  own.task.result.state = failed ? "fail" : "pass";
  await attempt("", () => own.finish(failed));
  for (const suite of [...suites].reverse()) for (const each of ordered(suite.hooks.afterEach)) await hook(each, "after");
  for (const suite of [...suites].reverse()) for (const each of ordered(suite.hooks.after)) await hook(each, "after");
  for (const cleanup of cleanups.reverse()) await attempt("after", cleanup);
  restoreTimers();
  // What is left to happen happens, as long as a runner would wait for it.
  for (let turns = 0; turns < TURNS_MAX && isWaiting(); turns += 1) await attempt("after", async () => { turn(); await null; });
  if (!failed && late.length) failed = { when: "", error: late[0] };
  if (!failed && process.exitCode) failed = { when: "", error: new Error(`process.exitCode is ${process.exitCode}`) };
  if (failed && options.retry !== test.options.retry) test.options.retry = options.retry; // Mocha's `this.retries` in the test itself
  return failed;
};
export const runTest = async (test) => {
  if (isIn(test, "skip")) return { status: "skipped", message: typeof test.options.skip === "string" ? test.options.skip : "skip" };
  if (isIn(test, "todo") || !test.body) return { status: "skipped", message: "todo" };
  if (state.only && !isIn(test, "only")) return { status: "skipped", message: "another test is marked `only`" };
  let failed = null;
  const retries = () => { const retry = test.options.retry ?? chainUp(test.suite).findLast((suite) => suite.options.retry)?.options.retry ?? state.retries; return Number(retry?.count ?? retry) || 0; };
  try {
    for (let tries = 0; tries <= retries(); tries += 1) {
      failed = await attemptOnce(test);
      if (!failed) break;
    }
    for (let again = 0; !failed && again < (test.options.repeats ?? 0); again += 1) failed = await attemptOnce(test);
  } catch (error) {
    if (error instanceof Skip) return { status: "skipped", message: error.reason };
    throw error;
  }
  if (isIn(test, "failing")) return failed ? { status: "passed" } : { status: "failed", when: "", message: "it is marked as failing, and it passes", stack: "" };
  return failed ? { status: "failed", when: failed.when, ...describeError(failed.error) } : { status: "passed" };
};
/** A program that registers no test: it is run to its end, and says by its exit code how it went. */
export const runToEnd = async () => {
  for (let turns = 0; turns < TURNS_MAX && isWaiting(); turns += 1) { turn(); await null; }
  for (const when of ["beforeExit", "exit"]) process.emit(when, process.exitCode ?? 0);
  if (process.exitCode) throw new Error(`process.exitCode is ${process.exitCode}`);
};
