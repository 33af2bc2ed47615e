// What test files register: `describe`, `it` and their kin, as Jest, Vitest, Mocha and node:test have them in common.
import { format as pretty } from "@vitest/pretty-format";
import { util as chaiUtil } from "chai";
import { isThenable, native } from "./native.js";
import { util } from "./node/util.js";

const suite = (name, parent, options = {}) => ({ name, parent, options, hooks: { before: [], beforeEach: [], after: [], afterEach: [] } });
let root = suite("", null);
let current = root;
let waiting = [];
let registered = 0;
export const tests = [];
export const benchmarks = [];
/** What holds for all that is registered: whether some are marked `only`, how often Jest repeats what fails, how long a test and a hook may take (0: any time), which test runs now. */
export const state = { only: false, retries: 0, timeout: 0, hookTimeout: 0, running: null };
/** Whether the project's runner is Vitest, where runners differ: by its package.json. */
export const isVitest = () => {
  if (runner === undefined) {
    const text = native.read(`${native.root}/package.json`);
    runner = text === null ? false : new TextDecoder().decode(text).includes('"vitest"');
  }
  return runner;
};
let runner;

const isAsync = (body) => Object.prototype.toString.call(body) === "[object AsyncFunction]";
/** Whether a body wants a callback, as Jest and Mocha have it: a parameter that is called `done`, and not the context of Vitest or node:test. */
export const usesDone = (body) => callbacks.has(body) || (!isAsync(body) && (body.length === 2 || (body.length === 1 && namesDone(body))));
const callbacks = new WeakSet();
const namesDone = (body) => /^\s*(?:function\b[^(]*)?\(?\s*(?:done|callback|cb)\s*[,)=]/.test(Function.prototype.toString.call(body));

export const begin = () => { root = suite("", null); current = root; };
export const chainUp = (of) => { const all = []; for (let at = of; at; at = at.parent) all.unshift(at); return all; };
export const isIn = (test, flag) => Boolean(test.options[flag]) || chainUp(test.suite).some((at) => at.options[flag]);
/** Suites whose bodies are asynchronous are gone through one after another, after the file. */
export const settleSuites = async () => {
  while (waiting.length) {
    const { own, body } = waiting.shift();
    current = own;
    try { await body({ name: own.name }); } finally { current = root; }
  }
};
export const named = (list) => {
  const seen = new Map();
  return list.map((entry) => {
    const name = `${entry.file}${entry.names.map((part) => ` > ${part.replace(/\s+/g, " ")}`).join("")}`;
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count > 1 ? `${name} #${count}` : name;
  });
};

export const optional = (parameters) => {
  let [name, options, body] = ["", {}, undefined];
  for (const part of parameters) {
    if (typeof part === "string" || (typeof part === "number" && !name)) { if (!name) name = String(part); else if (typeof part === "number") options = { ...options, timeout: part }; }
    else if (typeof part === "number") options = { ...options, timeout: part };
    else if (typeof part === "function") { if (name || body) body ??= part; else if (/^class\b/.test(Function.prototype.toString.call(part)) || parameters.some((other) => other !== part && typeof other === "function")) name = part.name; else body = part; }
    else if (typeof part === "object" && part !== null) options = { ...options, ...part };
  }
  return { name: name || body?.name || "(anonymous)", options, body };
};
const addTest = (parameters, extra = {}) => {
  const { name, options, body } = optional(parameters);
  const all = { ...options, ...extra };
  if (all.fails) all.failing = true;
  if (!body && !all.skip) all.todo ??= true;
  // Inside of a test it is a part of that one, as node:test has it; others refuse it.
  if (state.running) {
    if (!all.node) throw new Error(`the test ${name} is defined inside of a test`);
    return state.running.inner(name, all, body);
  }
  if (all.node) delete all.only; // node:test asks for --test-only
  if (all.only) state.only = true;
  const test = { names: [...chainUp(current).slice(1).map((at) => at.name), name], suite: current, body, options: all, order: registered++ };
  tests.push(test);
  return Object.assign(Promise.resolve(), mochaOf(test.options));
};
const addSuite = (parameters, extra = {}) => {
  const { name, options, body } = optional(parameters);
  const all = { ...options, ...extra };
  if (state.running) throw new Error(`the suite ${name} is defined inside of a test`);
  if (all.fails) all.failing = true;
  if (all.node) delete all.only;
  if (all.only) state.only = true;
  const own = suite(name, current, all);
  if (isAsync(body)) {
    waiting.push({ own, body });
    return Promise.resolve();
  }
  const before = current;
  current = own;
  try {
    const returned = body?.call(mochaOf(own.options, { title: name, fullTitle: () => name }), { name });
    if (isThenable(returned)) throw new TypeError(`the suite ${name} returns a promise; an \`async\` function is waited for`);
  } finally {
    current = before;
  }
  return Promise.resolve();
};
/** What Mocha calls bodies with as `this`. */
export const mochaOf = (options, more = {}) => {
  const own = {
    timeout(wait) { if (wait === undefined) return options.timeout ?? 0; options.timeout = Number(wait); return own; },
    retries(count) { if (count === undefined) return options.retry ?? 0; options.retry = count; return own; },
    slow() { return own; },
    ...more,
  };
  return own;
};

const at = (row, path) => path.split(".").reduce((value, key) => (value === null || value === undefined ? undefined : value[key]), row);
// A value in a title: as Vitest has it, or as Jest.
const shown = (value) => (isVitest() ? chaiUtil.objDisplay(value) : pretty(value, { maxDepth: 1, min: true }));
const title = (name, row, number) => {
  const parts = Array.isArray(row) ? row : [row];
  let text = String(typeof name === "function" ? name.name : name).replace(/%#/g, String(number)).replace(/%\$/g, String(number + 1));
  if (row && typeof row === "object" && !Array.isArray(row)) text = text.replace(/\$([\w.]+)/g, (all, path) => (at(row, path) === undefined && !(path in row) ? all : shown(at(row, path))));
  let next = 0;
  return text.replace(/%([sdifjoOp%])/g, (all, kind) => {
    if (kind === "%") return "%";
    if (next >= parts.length) return all;
    const part = parts[next++];
    return kind === "p" ? pretty(part, { maxDepth: 1, min: true }) : util.format(all, part);
  });
};
const table = (first, values) => {
  if (!Array.isArray(first) || !("raw" in first)) return first;
  const names = first[0].split("|").map((name) => name.trim()).filter(Boolean);
  const rows = [];
  for (let start = 0; start < values.length; start += names.length) rows.push(Object.fromEntries(names.map((name, column) => [name, values[start + column]])));
  return rows;
};
const withCallback = (body) => { callbacks.add(body); return body; };
const register = (add, own = {}) => {
  const having = (more) => {
    const extra = { ...own, ...more };
    const call = (...parameters) => add(parameters, extra);
    const optionsOf = (parts) => Object.assign({}, ...parts.map((part) => (typeof part === "number" ? { timeout: part } : typeof part === "object" ? part : {})));
    const bodyOf = (parts) => parts.find((part) => typeof part === "function");
    const isCallback = (body, given) => body.length === given + 1 && /\b(?:done|callback|cb)\s*\)/.test(Function.prototype.toString.call(body).slice(0, 500));
    call.each = (first, ...values) => (name, ...parts) => {
      const body = bodyOf(parts);
      table(first, values).forEach((row, number) => {
        const given = Array.isArray(row) ? row : [row];
        const run = isCallback(body, given.length) ? withCallback((done) => body(...given, done)) : isAsync(body) && add === addSuite ? async () => body(...given) : function () { return body.apply(this, given); };
        add([title(name, row, number), run, optionsOf(parts)], extra);
      });
    };
    // As Vitest has it: the row as it is, and then the context.
    call.for = (rows) => (name, ...parts) => {
      rows.forEach((row, number) => { add([title(name, row, number), (context) => bodyOf(parts)(row, context), optionsOf(parts)], extra); });
    };
    return call;
  };
  const base = having({});
  const fluent = (call, more) => {
    for (const word of ["skip", "only", "todo"]) Object.defineProperty(call, word, { get: () => fluent(having({ ...more, [word]: true }), { ...more, [word]: true }), configurable: true });
    for (const word of ["failing", "fails"]) Object.defineProperty(call, word, { get: () => fluent(having({ ...more, failing: true }), { ...more, failing: true }), configurable: true });
    for (const word of ["concurrent", "sequential", "shuffle"]) Object.defineProperty(call, word, { get: () => call, configurable: true });
    call.skipIf = (condition) => (condition ? call.skip : call);
    call.runIf = (condition) => (condition ? call : call.skip);
    if (add === addTest) call.extend = (fixtures) => register(add, { ...own, fixtures: { ...own.fixtures, ...fixtures } });
    return call;
  };
  return fluent(base, {});
};
const hook = (kind) => (...parameters) => {
  const { body, options } = optional(parameters);
  if (state.running && !state.running.isNode) throw new Error("a hook is defined inside of a test");
  if (body) current.hooks[kind].push({ body, timeout: options.timeout });
};
export const hooks = { before: hook("before"), beforeAll: hook("before"), after: hook("after"), afterAll: hook("after"), beforeEach: hook("beforeEach"), afterEach: hook("afterEach") };
export const test = register(addTest);
export const describe = register(addSuite);
Object.assign(test, { describe, suite: describe, ...hooks });
export const nodeTest = register(addTest, { node: true });
export const nodeSuite = register(addSuite, { node: true });
Object.assign(nodeTest, { describe: nodeSuite, suite: nodeSuite, test: nodeTest, it: nodeTest, ...hooks });
export const bench = (name, body) => { benchmarks.push({ names: [String(name)], body }); };
