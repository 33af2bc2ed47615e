// Doubles: `vi`, `jest` and node:test's `mock`, with the spies of Vitest and the clocks of Sinon.
import { clearAllMocks, createMockInstance, fn, isMockFunction, resetAllMocks, restoreAllMocks, spyOn } from "@vitest/spy";
import { withGlobal } from "@sinonjs/fake-timers";
import { mockObject } from "@vitest/mocker";

import { millis } from "./clock.js";
import { bound, modules } from "./mocks.js";
import { process } from "./node/process.js";
import { state } from "./registry.js";

const fakes = withGlobal(globalThis);
let clock = null;
const names = { Date: "Date", setTimeout: "setTimeout", clearTimeout: "clearTimeout", setInterval: "setInterval", clearInterval: "clearInterval", setImmediate: "setImmediate", clearImmediate: "clearImmediate", nextTick: "nextTick", queueMicrotask: "queueMicrotask", performance: "performance", hrtime: "hrtime" };
const usual = ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "setImmediate", "clearImmediate", "Date", "performance"];
const install = ({ now, toFake = usual, toNotFake = [], loopLimit = 10_000, shouldAdvanceTime, advanceTimeDelta } = {}) => {
  clock?.uninstall();
  clock = fakes.install({ now: now === undefined ? millis() : now, toFake: toFake.filter((name) => names[name] && !toNotFake.includes(name)), loopLimit, shouldAdvanceTime, advanceTimeDelta, ignoreMissingTimers: true, shouldClearNativeTimers: true });
};
const need = () => { if (!clock) throw new Error("timers are not mocked; call useFakeTimers() first"); return clock; };
/** After a test: the clocks are the real ones again. */
export const restoreTimers = () => { clock?.uninstall(); clock = null; };
const setSystemTime = (time) => {
  const at = time === undefined ? millis() : time instanceof Date ? time.getTime() : new Date(time).getTime();
  if (clock) { clock.setSystemTime(at); return; }
  install({ now: at, toFake: ["Date"] });
};
const timers = (self) => ({
  useRealTimers: () => { restoreTimers(); return self(); },
  isFakeTimers: () => clock !== null,
  setSystemTime: (time) => { setSystemTime(time); return self(); },
  getRealSystemTime: () => millis(),
  getMockedSystemTime: () => (clock ? new Date(clock.now) : null),
  advanceTimersByTime: (wait) => { need().tick(wait); return self(); },
  advanceTimersByTimeAsync: async (wait) => { await need().tickAsync(wait); return self(); },
  advanceTimersToNextTimer: (steps = 1) => { for (let step = 0; step < steps; step += 1) need().next(); return self(); },
  advanceTimersToNextTimerAsync: async (steps = 1) => { for (let step = 0; step < steps; step += 1) await need().nextAsync(); return self(); },
  advanceTimersToNextFrame: () => { need().runToFrame(); return self(); },
  runAllTimers: () => { need().runAll(); return self(); },
  runAllTimersAsync: async () => { await need().runAllAsync(); return self(); },
  runOnlyPendingTimers: () => { need().runToLast(); return self(); },
  runOnlyPendingTimersAsync: async () => { await need().runToLastAsync(); return self(); },
  runAllTicks: () => { need().runMicrotasks(); return self(); },
  clearAllTimers: () => { need().reset(); return self(); },
  getTimerCount: () => need().countTimers(),
});

const stubs = new Map();
const environment = new Map();
const replaced = [];
const mocked = (of) => of;
const automock = (object, type = "automock") => mockObject({ type, globalConstructors: { Object, Function, Array, Map, RegExp }, createMockInstance }, object);
bound.automock = automock;
const refusing = (label, known) => new Proxy(known, {
  get(target, key) {
    if (key in target || typeof key === "symbol" || key === "then") return target[key];
    throw new Error(`${label}.${key} is not in the sandbox`);
  },
});
export const vi = refusing("vi", {
  fn, spyOn, isMockFunction, mocked, mockObject: (object, options) => automock(object, options?.spy ? "autospy" : "automock"),
  clearAllMocks: () => { clearAllMocks(); return vi; }, resetAllMocks: () => { resetAllMocks(); return vi; }, restoreAllMocks: () => { restoreAllMocks(); return vi; },
  mock: modules.mock, doMock: modules.mock, unmock: modules.unmock, doUnmock: modules.unmock, hoisted: (body) => body(),
  importActual: modules.importActual, importMock: modules.importMock, resetModules: () => { modules.reset(); return vi; }, dynamicImportSettled: async () => {},
  stubGlobal: (name, value) => { if (!stubs.has(name)) stubs.set(name, Object.getOwnPropertyDescriptor(globalThis, name)); Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: true }); return vi; },
  unstubAllGlobals: () => { for (const [name, before] of stubs) { if (before) Object.defineProperty(globalThis, name, before); else delete globalThis[name]; } stubs.clear(); return vi; },
  stubEnv: (name, value) => { if (!environment.has(name)) environment.set(name, process.env[name]); if (value === undefined) delete process.env[name]; else process.env[name] = String(value); return vi; },
  unstubAllEnvs: () => { for (const [name, before] of environment) { if (before === undefined) delete process.env[name]; else process.env[name] = before; } environment.clear(); return vi; },
  useFakeTimers: (options) => { install(options); return vi; },
  ...timers(() => vi),
  waitFor: (body, options) => waiting(body, options, () => true), waitUntil: (body, options) => waiting(body, options, Boolean),
  setConfig: ({ testTimeout, hookTimeout }) => { state.timeout = testTimeout ?? state.timeout; state.hookTimeout = hookTimeout ?? state.hookTimeout; }, resetConfig: () => { state.timeout = 0; state.hookTimeout = 0; },
});
const waiting = async (body, options, holds) => {
  const { timeout = 1000, interval = 50 } = typeof options === "number" ? { timeout: options } : options ?? {};
  for (const end = millis() + timeout; ;) {
    let error = new Error("timed out");
    try { const value = await body(); if (holds(value)) return value; } catch (thrown) { error = thrown; }
    if (millis() >= end) throw error;
    if (clock) { await clock.tickAsync(interval); }
    await new Promise((resolve) => { fakes.timers.setTimeout(resolve, interval); });
  }
};

// As Jest has it, a reset mock does nothing.
const jestFn = (body) => (body === undefined ? fn() : fn().mockImplementation(body));
export const jest = refusing("jest", {
  fn: jestFn, spyOn, isMockFunction, mocked,
  clearAllMocks: () => { clearAllMocks(); return jest; }, resetAllMocks: () => { resetAllMocks(); return jest; },
  restoreAllMocks: () => { restoreAllMocks(); for (const restore of replaced.splice(0)) restore(); return jest; },
  replaceProperty: (object, key, value) => {
    const before = Object.getOwnPropertyDescriptor(object, key);
    const restore = () => Object.defineProperty(object, key, before);
    const replace = (own) => { Object.defineProperty(object, key, { ...before, value: own }); return { replaceValue: replace, restore }; };
    if (!before || typeof before.value === "function" || !("value" in before)) throw new Error(`the property ${String(key)} cannot be replaced`);
    replaced.push(restore);
    return replace(value);
  },
  mock: (...parameters) => { modules.mock(...parameters); return jest; }, doMock: (...parameters) => { modules.mock(...parameters); return jest; }, setMock: (path, value) => { modules.mock(path, () => value); return jest; },
  unmock: (path) => { modules.unmock(path); return jest; }, dontMock: (path) => { modules.unmock(path); return jest; }, deepUnmock: (path) => { modules.unmock(path); return jest; },
  requireActual: modules.requireActual, requireMock: modules.requireMock, createMockFromModule: (path) => automock(modules.requireActual(path)), genMockFromModule: (path) => automock(modules.requireActual(path)),
  resetModules: () => { modules.reset(); return jest; }, isolateModules: (body) => { modules.reset(); try { body(); } finally { modules.reset(); } return jest; }, isolateModulesAsync: async (body) => { modules.reset(); try { await body(); } finally { modules.reset(); } },
  enableAutomock: () => { throw new Error("jest.enableAutomock is not in the sandbox"); }, disableAutomock: () => jest,
  setTimeout: (wait) => { state.timeout = wait; return jest; }, retryTimes: (count) => { state.retries = count; return jest; }, now: () => (clock ? clock.now : millis()),
  useFakeTimers: (options) => {
    const fromJest = (name) => !(options?.doNotFake ?? []).includes(name);
    install({ now: options?.now instanceof Date ? options.now.getTime() : options?.now, toFake: [...usual, "nextTick", "queueMicrotask", "hrtime"].filter(fromJest), loopLimit: options?.timerLimit ?? 100_000, shouldAdvanceTime: Boolean(options?.advanceTimers), advanceTimeDelta: typeof options?.advanceTimers === "number" ? options.advanceTimers : undefined });
    return jest;
  },
  ...timers(() => jest), getSeed: () => 0,
});

// node:test's own.
const nodeCalls = (mock, restore) => {
  const calls = [];
  const wrapped = function (...parameters) {
    const call = { arguments: parameters, result: undefined, error: undefined, stack: new Error(), target: new.target, this: this };
    calls.push(call);
    try { return (call.result = new.target ? Reflect.construct(mock, parameters, new.target) : Reflect.apply(mock, this, parameters)); } catch (error) { call.error = error; throw error; }
  };
  wrapped.mock = { calls, callCount: () => calls.length, restore, resetCalls: () => { calls.length = 0; }, mockImplementation: (body) => { mock.mockImplementation(body); }, mockImplementationOnce: (body) => { mock.mockImplementationOnce(body); } };
  restores.push(restore);
  return wrapped;
};
const restores = [];
const methodOf = (kind) => (object, name, body, options) => {
  if (typeof body === "object") [body, options] = [undefined, body];
  const which = options?.getter ? "getter" : options?.setter ? "setter" : kind;
  const field = which === "getter" ? "get" : which === "setter" ? "set" : "value";
  let holder = object;
  while (holder && !Object.hasOwn(holder, name)) holder = Object.getPrototypeOf(holder);
  const before = holder && Object.getOwnPropertyDescriptor(holder, name);
  if (typeof before?.[field] !== "function") throw Object.assign(new TypeError(`The argument 'methodName' must be a method. Received ${String(name)}`), { code: "ERR_INVALID_ARG_VALUE" });
  const wrapped = nodeCalls(fn(body ?? before[field]), () => { if (holder === object) Object.defineProperty(object, name, before); else delete object[name]; });
  Object.defineProperty(object, name, { ...before, [field]: wrapped, configurable: true });
  return wrapped;
};
const restoreAll = () => { for (const restore of restores.splice(0)) restore(); restoreTimers(); };
export const nodeMock = {
  fn: (body, other, options) => {
    const { times = Infinity } = (typeof other === "object" ? other : options) ?? {};
    const [original, double] = [typeof body === "function" ? body : () => undefined, typeof other === "function" ? other : body];
    let calls = 0;
    return nodeCalls(fn(function (...parameters) { return (++calls > times ? original : double ?? original).apply(this, parameters); }), () => {});
  },
  method: methodOf("method"), getter: methodOf("getter"), setter: methodOf("setter"), reset: restoreAll, restoreAll,
  module: (path, options) => { modules.mock(path, () => ({ ...(options?.namedExports ?? options?.exports), ...(options && "defaultExport" in options ? { default: options.defaultExport } : {}) })); return { restore: () => modules.unmock(path) }; },
  timers: {
    enable: ({ apis, now = 0 } = {}) => install({ now: now instanceof Date ? now.getTime() : now, toFake: (apis ?? ["setTimeout", "setInterval", "setImmediate", "Date"]).flatMap((name) => [name, name.replace(/^set/, "clear")]) }),
    reset: restoreTimers, tick: (wait = 1) => need().tick(wait), runAll: () => need().runAll(), setTime: (at) => setSystemTime(at), [Symbol.dispose ?? Symbol("dispose")]: restoreTimers,
  },
};
