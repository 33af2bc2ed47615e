// What test files find without an import.
import { define } from "./native.js";
import { process } from "./node/process.js";
import { chai, expect } from "./expect.js";
import { jest, nodeMock, vi } from "./doubles.js";
import { builtins } from "./node/index.js";
import { util } from "./node/util.js";
import { bench, describe, hooks, nodeTest, state, test } from "./registry.js";
import { fn, spyOn } from "@vitest/spy";

// By way of the process's streams: a test may stand in for these.
const write = (level) => (...parts) => { process[level === "log" ? "stdout" : "stderr"].write(`${util.format(...parts)}\n`); };
const counts = new Map();
const console = {
  log: write("log"), info: write("log"), debug: write("log"), warn: write("warn"), error: write("error"), trace: write("error"), dir: (value, options) => console.log(util.inspect(value, options)), dirxml: write("log"), table: write("log"), group: write("log"), groupCollapsed: write("log"), groupEnd() {},
  time() {}, timeEnd() {}, timeLog() {}, clear() {}, count: (label = "default") => { counts.set(label, (counts.get(label) ?? 0) + 1); console.log(`${label}: ${counts.get(label)}`); }, countReset: (label = "default") => { counts.delete(label); },
  assert: (holds, ...parts) => { if (!holds) console.error("Assertion failed:", ...parts); },
};
console.Console = class Console { constructor() { Object.assign(this, console); } };
builtins.console = console;

const now = () => { if (!state.running) throw new Error("no test is running"); return state.running; };
const vitest = { describe, suite: describe, it: test, test, expect, assert: chai.assert, chai, should: chai.should, ...hooks, vi, vitest: vi, bench, onTestFinished: (body) => now().onTestFinished(body), onTestFailed: (body) => now().onTestFailed(body), inject: () => undefined, expectTypeOf: () => types, assertType() {} };
const types = new Proxy(() => types, { get: (_, key) => (typeof key === "symbol" || key === "then" ? undefined : types) });
nodeTest.mock = nodeMock;
Object.assign(builtins, {
  test: nodeTest, vitest, "@jest/globals": { describe, it: test, test, fit: test.only, xit: test.skip, xtest: test.skip, fdescribe: describe.only, xdescribe: describe.skip, expect, ...hooks, jest }, mocha: { describe, it: test, context: describe, specify: test, before: hooks.before, after: hooks.after, beforeEach: hooks.beforeEach, afterEach: hooks.afterEach, suite: describe, test, setup: hooks.beforeEach, teardown: hooks.afterEach, suiteSetup: hooks.before, suiteTeardown: hooks.after },
  "bun:test": { ...vitest, jest, mock: Object.assign((body) => fn(body), { module: (path, factory) => vi.mock(path, factory), restore: () => vi.restoreAllMocks() }), spyOn },
});
/** What packages are where the subject has none of them itself. */
export const fallbacks = { chai };

for (const [name, value] of Object.entries({
  console, describe, suite: describe, it: test, test, context: describe, specify: test, bench, expect, ...hooks, setup: hooks.beforeEach, teardown: hooks.afterEach, suiteSetup: hooks.before, suiteTeardown: hooks.after,
  xit: test.skip, xtest: test.skip, xdescribe: describe.skip, xcontext: describe.skip, fit: test.only, fdescribe: describe.only, jest, vi, vitest: vi,
})) define(name, value);
// What decorators of TypeScript become, as its own compiler has it.
define("babelHelpers", {
  decorate(decorators, target, key, descriptor) {
    const count = arguments.length;
    let result = count < 3 ? target : descriptor === null ? Object.getOwnPropertyDescriptor(target, key) : descriptor;
    for (const decorator of [...decorators].reverse()) {
      if (decorator) result = (count < 3 ? decorator(result) : count > 3 ? decorator(target, key, result) : decorator(target, key)) || result;
    }
    if (count > 3 && result) Object.defineProperty(target, key, result);
    return result;
  },
  decorateParam: (index, decorator) => (target, key) => decorator(target, key, index),
  decorateMetadata: () => () => {},
  defineProperty: (object, key, value) => Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true }),
});
