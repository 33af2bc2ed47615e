// What test files and benchmarks find: describe/it/expect, node:test, node:assert, and a few modules of Node that need
// nothing from the machine. `native` is the bridge to the gate; nobody else gets to see it.
(native) => {
  "use strict";

  // Results go to the gate as text: whatever the code under test puts in the place of JSON later does not make it.
  const stringify = JSON.stringify;
  const [assign, bare, freeze] = [Object.assign, Object.create, Object.freeze];
  const told = (result) => stringify(assign(bare(null), result));

  // Showing values

  const identifier = /^[A-Za-z_$][\w$]*$/;
  const inspect = (value, depth = 4, seen = []) => {
    switch (typeof value) {
      case "string": return JSON.stringify(value);
      case "bigint": return `${value}n`;
      case "symbol": return value.toString();
      case "function": return `[Function ${value.name || "(anonymous)"}]`;
      case "object": break;
      default: return Object.is(value, -0) ? "-0" : String(value);
    }
    if (value === null) return "null";
    if (seen.includes(value)) return "[Circular]";
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (value instanceof Promise) return "Promise {}";
    if (typeof value.asymmetricMatch === "function") return value.text ?? "[matcher]";
    if (depth <= 0) return Array.isArray(value) ? "[…]" : "{…}";
    const inner = (part) => inspect(part, depth - 1, [...seen, value]);
    const list = (parts, open, close) => {
      const shown = parts.slice(0, 100);
      if (parts.length > 100) shown.push(`… ${parts.length - 100} more`);
      return shown.length ? `${open} ${shown.join(", ")} ${close}`.replace(/^\[ /, "[").replace(/ \]$/, "]") : open + close;
    };
    if (Array.isArray(value)) return list(Array.from(value, inner), "[", "]");
    if (value instanceof Map) return `Map ${list([...value].map(([k, v]) => `${inner(k)} => ${inner(v)}`), "{", "}")}`;
    if (value instanceof Set) return `Set ${list([...value].map(inner), "{", "}")}`;
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return `${value.constructor.name} ${list(Array.from(value, String), "[", "]")}`;
    const name = Object.getPrototypeOf(value)?.constructor?.name;
    const keys = Reflect.ownKeys(value).filter((key) => Object.getOwnPropertyDescriptor(value, key).enumerable);
    const label = (key) => (typeof key === "symbol" ? `[${key.toString()}]` : identifier.test(key) ? key : JSON.stringify(key));
    const body = list(keys.map((key) => `${label(key)}: ${inner(value[key])}`), "{", "}");
    return name && name !== "Object" ? `${name} ${body}` : body;
  };
  const format = (...parts) => {
    const say = (part) => (typeof part === "string" ? part : inspect(part));
    if (typeof parts[0] !== "string" || !parts[0].includes("%")) return parts.map(say).join(" ");
    let next = 1;
    const text = parts[0].replace(/%([sdifjoOc%])/g, (all, kind) => {
      if (kind === "%") return "%";
      if (next >= parts.length) return all;
      const part = parts[next++];
      if (kind === "c") return "";
      if (kind === "d" || kind === "i" || kind === "f") return String(kind === "i" ? parseInt(part, 10) : Number(part));
      if (kind === "j") return JSON.stringify(part);
      return kind === "s" && typeof part !== "object" ? String(part) : inspect(part);
    });
    return [text, ...parts.slice(next).map(say)].join(" ");
  };

  // Equality. `strict` also compares prototypes, undefined properties and holes, as toStrictEqual and deepStrictEqual do.

  const equal = (a, b, strict, loose = false, seen = []) => {
    if (b && typeof b.asymmetricMatch === "function") return b.asymmetricMatch(a);
    if (a && typeof a.asymmetricMatch === "function") return a.asymmetricMatch(b);
    if (Object.is(a, b)) return true;
    if (loose && typeof a !== "object" && typeof b !== "object") return a == b; // eslint-disable-line eqeqeq
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
    if (seen.some(([x, y]) => x === a && y === b)) return true;
    const inside = [...seen, [a, b]];
    const same = (x, y) => equal(x, y, strict, loose, inside);
    if (strict && Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
    // Nothing can be seen of what these hold: each is itself alone.
    if ([a, b].some((value) => value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef || Object.prototype.toString.call(value).endsWith("Generator]"))) return false;
    if (a instanceof Error !== b instanceof Error) return false;
    if (ArrayBuffer.isView(a) || ArrayBuffer.isView(b)) {
      if (!ArrayBuffer.isView(a) || !ArrayBuffer.isView(b) || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
      const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      if (a instanceof DataView) return same([...bytes(a)], [...bytes(b)]);
    }
    if (Array.isArray(a) !== Array.isArray(b)) return false;
    if (a instanceof Date || b instanceof Date) return a instanceof Date && b instanceof Date && Object.is(a.getTime(), b.getTime());
    if (a instanceof RegExp || b instanceof RegExp) return a instanceof RegExp && b instanceof RegExp && String(a) === String(b) && a.lastIndex === b.lastIndex;
    if (a instanceof Error && b instanceof Error) {
      if (!(a.name === b.name && a.message === b.message) || !same(a.cause, b.cause)) return false;
      if (a instanceof AggregateError && !same(a.errors, b.errors)) return false;
    }
    for (const type of [Number, String, Boolean, BigInt, Symbol]) {
      if (a instanceof type || b instanceof type) return a instanceof type && b instanceof type && Object.is(a.valueOf(), b.valueOf());
    }
    if (a instanceof Map || b instanceof Map) {
      if (!(a instanceof Map && b instanceof Map) || a.size !== b.size) return false;
      const rest = [...b];
      return [...a].every(([key, value]) => {
        const at = rest.findIndex(([k, v]) => same(key, k) && same(value, v));
        if (at < 0) return false;
        rest.splice(at, 1);
        return true;
      });
    }
    if (a instanceof Set || b instanceof Set) {
      if (!(a instanceof Set && b instanceof Set) || a.size !== b.size) return false;
      const rest = [...b];
      return [...a].every((value) => {
        const at = rest.findIndex((other) => same(value, other));
        if (at < 0) return false;
        rest.splice(at, 1);
        return true;
      });
    }
    if (a instanceof ArrayBuffer && b instanceof ArrayBuffer) return same(new Uint8Array(a), new Uint8Array(b));
    const keys = (value) => Reflect.ownKeys(value).filter((key) => Object.getOwnPropertyDescriptor(value, key).enumerable && (strict || value[key] !== undefined));
    const [left, right] = [keys(a), keys(b)];
    if (Array.isArray(a) && a.length !== b.length) return false;
    return left.length === right.length && left.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
  };
  const matches = (actual, expected) => {
    if (expected && typeof expected === "object" && !expected.asymmetricMatch && actual && typeof actual === "object") {
      if (Array.isArray(expected)) return Array.isArray(actual) && actual.length === expected.length && expected.every((part, at) => matches(actual[at], part));
      const plain = [Object.prototype, null].includes(Object.getPrototypeOf(expected)) || !(expected instanceof Map || expected instanceof Set || expected instanceof Date);
      if (plain) return Reflect.ownKeys(expected).every((key) => key in actual && matches(actual[key], expected[key]));
    }
    return equal(actual, expected, false);
  };

  class AssertionError extends Error {
    constructor(options) {
      super(options.message);
      this.name = "AssertionError";
      this.code = "ERR_ASSERTION";
      this.actual = options.actual;
      this.expected = options.expected;
      this.operator = options.operator;
      this.generatedMessage = options.generatedMessage ?? false;
    }
  }

  // node:assert

  const isThenable = (value) => value !== null && ["object", "function"].includes(typeof value) && typeof value.then === "function";
  const fits = (error, expected) => {
    if (expected === undefined) return true;
    if (expected instanceof RegExp) return expected.test(String(error));
    if (typeof expected === "function") {
      if (expected.prototype !== undefined && error instanceof expected) return true;
      if (expected === Error || Error.isPrototypeOf(expected)) return false;
      return expected.call({}, error) === true;
    }
    return Object.keys(expected).every((key) => (expected[key] instanceof RegExp && typeof error?.[key] === "string" ? expected[key].test(error[key]) : equal(error?.[key], expected[key], true)));
  };
  const makeAssert = (strict) => {
    const fail = (actual, expected, operator, message, text) => {
      if (message instanceof Error) throw message;
      throw new AssertionError({ message: message ?? text(), actual, expected, operator, generatedMessage: message === undefined });
    };
    const check = (holds, actual, expected, operator, message, text) => { if (!holds) fail(actual, expected, operator, message, text); };
    const two = (verb) => (a, b) => () => `expected ${inspect(a)} ${verb} ${inspect(b)}`;
    const assert = (value, message) => check(Boolean(value), value, true, "==", message, () => `expected a value that is true, found ${inspect(value)}`);
    const looseEqual = (a, b) => a == b || (Number.isNaN(a) && Number.isNaN(b)); // eslint-disable-line eqeqeq
    const deep = (a, b) => equal(a, b, true);
    const looseDeep = (a, b) => equal(a, b, false, true);
    const threw = (body) => { try { body(); } catch (error) { return { error }; } return null; };
    const rejected = async (body) => {
      const promise = typeof body === "function" ? body() : body;
      if (!isThenable(promise)) throw new TypeError("expected a promise, or a function that returns one");
      try { await promise; } catch (error) { return { error }; }
      return null;
    };
    const judge = (found, expected, message, what) => {
      if (typeof expected === "string") [expected, message] = [undefined, expected];
      check(found !== null, undefined, expected, what, message, () => `expected it to ${what === "throws" ? "throw" : "reject"}, and it did not`);
      if (!fits(found.error, expected)) {
        if (typeof expected === "function" && !(Error.isPrototypeOf(expected) || expected === Error)) fail(found.error, expected, what, message, () => `the error ${inspect(found.error)} was not accepted`);
        if (typeof expected === "function" || message === undefined) fail(found.error, expected, what, message, () => `expected an error like ${inspect(expected)}, found ${inspect(found.error)}`);
        fail(found.error, expected, what, message, () => "");
      }
    };
    const judgeNot = (found, message, what) => check(found === null, found?.error, undefined, what, typeof message === "string" ? message : undefined, () => `expected no error, found ${inspect(found.error)}`);
    Object.assign(assert, {
      AssertionError,
      ok: (value, message) => assert(value, message),
      fail: (message) => fail(undefined, undefined, "fail", message ?? "failed", () => "failed"),
      strictEqual: (a, b, m) => check(Object.is(a, b), a, b, "strictEqual", m, two("to be")(a, b)),
      notStrictEqual: (a, b, m) => check(!Object.is(a, b), a, b, "notStrictEqual", m, two("not to be")(a, b)),
      deepStrictEqual: (a, b, m) => check(deep(a, b), a, b, "deepStrictEqual", m, two("to equal")(a, b)),
      notDeepStrictEqual: (a, b, m) => check(!deep(a, b), a, b, "notDeepStrictEqual", m, two("not to equal")(a, b)),
      partialDeepStrictEqual: (a, b, m) => check(matches(a, b), a, b, "partialDeepStrictEqual", m, two("to contain")(a, b)),
      throws: (body, expected, message) => judge(threw(body), expected, message, "throws"),
      doesNotThrow: (body, ...rest) => judgeNot(threw(body), rest.at(-1), "doesNotThrow"),
      rejects: async (body, expected, message) => judge(await rejected(body), expected, message, "rejects"),
      doesNotReject: async (body, ...rest) => judgeNot(await rejected(body), rest.at(-1), "doesNotReject"),
      match: (text, pattern, m) => check(typeof text === "string" && pattern.test(text), text, pattern, "match", m, two("to match")(text, pattern)),
      doesNotMatch: (text, pattern, m) => check(typeof text === "string" && !pattern.test(text), text, pattern, "doesNotMatch", m, two("not to match")(text, pattern)),
      ifError: (value) => check(value === null || value === undefined, value, null, "ifError", undefined, () => `expected no error, found ${inspect(value)}`),
    });
    assert.equal = strict ? assert.strictEqual : (a, b, m) => check(looseEqual(a, b), a, b, "==", m, two("to be")(a, b));
    assert.notEqual = strict ? assert.notStrictEqual : (a, b, m) => check(!looseEqual(a, b), a, b, "!=", m, two("not to be")(a, b));
    assert.deepEqual = strict ? assert.deepStrictEqual : (a, b, m) => check(looseDeep(a, b), a, b, "deepEqual", m, two("to equal")(a, b));
    assert.notDeepEqual = strict ? assert.notDeepStrictEqual : (a, b, m) => check(!looseDeep(a, b), a, b, "notDeepEqual", m, two("not to equal")(a, b));
    return assert;
  };
  const assert = makeAssert(false);
  assert.strict = makeAssert(true);
  assert.strict.strict = assert.strict;

  // Mock functions, as jest and vitest have them

  const mocks = new Set();
  const mockFunction = (implementation) => {
    let once = [];
    const mock = function (...parameters) {
      const body = once.length ? once.shift() : implementation;
      mock.mock.calls.push(parameters);
      mock.mock.contexts.push(this);
      const at = mock.mock.results.push({ type: "incomplete", value: undefined }) - 1;
      try {
        const value = new.target ? Object.create(new.target.prototype) && body?.apply(this, parameters) : body?.apply(this, parameters);
        mock.mock.results[at] = { type: "return", value };
        return value;
      } catch (error) {
        mock.mock.results[at] = { type: "throw", value: error };
        throw error;
      }
    };
    const clear = () => { mock.mock = { calls: [], results: [], contexts: [], get lastCall() { return this.calls.at(-1); }, callCount() { return this.calls.length; } }; };
    clear();
    const chain = (action) => (...parameters) => { action(...parameters); return mock; };
    Object.assign(mock, {
      _isMockFunction: true,
      getMockName: () => "mock",
      mockName: chain(() => {}),
      mockClear: chain(clear),
      mockReset: chain(() => { clear(); once = []; implementation = undefined; }),
      mockRestore: chain(() => { clear(); once = []; mock.restore?.(); }),
      mockImplementation: chain((body) => { implementation = body; }),
      mockImplementationOnce: chain((body) => { once.push(body); }),
      mockReturnValue: chain((value) => { implementation = () => value; }),
      mockReturnValueOnce: chain((value) => { once.push(() => value); }),
      mockResolvedValue: chain((value) => { implementation = async () => value; }),
      mockResolvedValueOnce: chain((value) => { once.push(async () => value); }),
      mockRejectedValue: chain((value) => { implementation = async () => { throw value; }; }),
      mockRejectedValueOnce: chain((value) => { once.push(async () => { throw value; }); }),
    });
    mocks.add(mock);
    return mock;
  };
  const spyOn = (object, name, implementation) => {
    const original = object[name];
    if (typeof original !== "function") throw new TypeError(`${String(name)} is not a function, so it cannot be spied on`);
    const mock = mockFunction(implementation ?? function (...parameters) { return original.apply(this, parameters); });
    mock.restore = () => { object[name] = original; };
    object[name] = mock;
    return mock;
  };
  const everyMock = (action) => () => { for (const mock of mocks) mock[action](); };
  const refusing = (label, known) => new Proxy(known, {
    get(target, key) {
      if (key in target || typeof key === "symbol" || key === "then") return target[key];
      throw new Error(`${label}.${key} is not part of the sandbox's test harness`);
    },
  });
  const double = { fn: mockFunction, spyOn, clearAllMocks: everyMock("mockClear"), resetAllMocks: everyMock("mockReset"), restoreAllMocks: everyMock("mockRestore"), isMockFunction: (value) => value?._isMockFunction === true };

  // expect

  let expectations = { made: 0, wanted: null, any: false };
  const wrong = (actual, expected, message) => { throw new AssertionError({ message, actual, expected, operator: "expect" }); };
  const calls = (mock) => {
    const list = mock?.mock?.calls;
    if (!Array.isArray(list)) throw new TypeError(`expected a mock function, found ${inspect(mock)}`);
    // node:test keeps { arguments }, jest keeps the arguments themselves
    return list.map((call) => (Array.isArray(call) ? call : call.arguments));
  };
  const thrown = (actual, expected) => {
    if (expected === undefined) return true;
    const text = actual?.message ?? String(actual);
    if (typeof expected === "string") return text.includes(expected);
    if (expected instanceof RegExp) return expected.test(text);
    if (typeof expected === "function") return actual instanceof expected;
    if (expected?.asymmetricMatch) return expected.asymmetricMatch(actual);
    return text === expected?.message;
  };
  const at = (value, path) => {
    const keys = Array.isArray(path) ? path : path.split(/\.|\[(\d+)\]/).filter((part) => part !== undefined && part !== "");
    for (const key of keys) {
      if (value === null || value === undefined || !(key in Object(value))) return { there: false };
      value = value[key];
    }
    return { there: true, value };
  };
  const pass = (holds, verb) => ({ holds, verb });
  const comparable = (...values) => {
    for (const value of values) if (!["number", "bigint"].includes(typeof value)) throw new TypeError(`expected a number, found ${inspect(value)}`);
    return true;
  };
  const matchers = {
    toBe: (a, b) => pass(Object.is(a, b), `to be ${inspect(b)}`),
    toEqual: (a, b) => pass(equal(a, b, false), `to equal ${inspect(b)}`),
    toStrictEqual: (a, b) => pass(equal(a, b, true), `to equal strictly ${inspect(b)}`),
    toMatchObject: (a, b) => pass(matches(a, b), `to match ${inspect(b)}`),
    toBeTruthy: (a) => pass(Boolean(a), "to be truthy"),
    toBeFalsy: (a) => pass(!a, "to be falsy"),
    toBeNull: (a) => pass(a === null, "to be null"),
    toBeUndefined: (a) => pass(a === undefined, "to be undefined"),
    toBeDefined: (a) => pass(a !== undefined, "to be defined"),
    toBeNaN: (a) => pass(Number.isNaN(a), "to be NaN"),
    toBeGreaterThan: (a, b) => comparable(a, b) && pass(a > b, `to be above ${inspect(b)}`),
    toBeGreaterThanOrEqual: (a, b) => comparable(a, b) && pass(a >= b, `to be at least ${inspect(b)}`),
    toBeLessThan: (a, b) => comparable(a, b) && pass(a < b, `to be below ${inspect(b)}`),
    toBeLessThanOrEqual: (a, b) => comparable(a, b) && pass(a <= b, `to be at most ${inspect(b)}`),
    toBeCloseTo: (a, b, digits = 2) => pass(a === b || Math.abs(a - b) < 10 ** -digits / 2, `to be close to ${inspect(b)}`),
    toBeInstanceOf: (a, b) => pass(a instanceof b, `to be an instance of ${b?.name}`),
    toBeTypeOf: (a, b) => pass(typeof a === b, `to be of type ${b}`),
    toContain: (a, b) => pass(typeof a === "string" ? a.includes(b) : [...a].includes(b), `to contain ${inspect(b)}`),
    toContainEqual: (a, b) => pass([...a].some((part) => equal(part, b, false)), `to contain an equal of ${inspect(b)}`),
    toHaveLength: (a, b) => pass(a?.length === b, `to have the length ${inspect(b)}, not ${inspect(a?.length)}`),
    toHaveProperty: (a, path, ...rest) => {
      const found = at(a, path);
      return pass(found.there && (!rest.length || equal(found.value, rest[0], false)), `to have the property ${inspect(path)}${rest.length ? ` equal to ${inspect(rest[0])}` : ""}`);
    },
    toMatch: (a, b) => pass(typeof a === "string" && (typeof b === "string" ? a.includes(b) : b.test(a)), `to match ${inspect(b)}`),
    toThrow: (a, b) => {
      let error;
      if (a instanceof Settled) error = a;
      else if (typeof a !== "function") throw new TypeError(`expected a function that may throw, found ${inspect(a)}`);
      else try { a(); } catch (caught) { error = new Settled(caught); }
      return pass(error !== undefined && thrown(error.value, b), `to throw${b === undefined ? "" : ` ${inspect(b)}`}${error === undefined ? "" : `, and it threw ${inspect(error.value)}`}`);
    },
    toHaveBeenCalled: (a) => pass(calls(a).length > 0, "to have been called"),
    toHaveBeenCalledOnce: (a) => pass(calls(a).length === 1, `to have been called once, not ${calls(a).length} times`),
    toHaveBeenCalledTimes: (a, b) => pass(calls(a).length === b, `to have been called ${b} times, not ${calls(a).length}`),
    toHaveBeenCalledWith: (a, ...b) => pass(calls(a).some((call) => equal(call, b, false)), `to have been called with ${inspect(b)}; calls: ${inspect(calls(a))}`),
    toHaveBeenLastCalledWith: (a, ...b) => pass(equal(calls(a).at(-1), b, false), `to have been called last with ${inspect(b)}`),
    toHaveBeenNthCalledWith: (a, n, ...b) => pass(equal(calls(a)[n - 1], b, false), `to have been called with ${inspect(b)} the ${n}th time`),
    toHaveReturnedWith: (a, b) => pass(a.mock.results.some((result) => result.type === "return" && equal(result.value, b, false)), `to have returned ${inspect(b)}`),
    toSatisfy: (a, b) => pass(Boolean(b(a)), "to satisfy the predicate"),
  };
  matchers.toThrowError = matchers.toThrow;
  class Settled { constructor(value) { this.value = value; } }
  const judge = (name, not, actual, parameters, note) => {
    expectations.made += 1;
    const { holds, verb } = matchers[name](actual, ...parameters);
    if (holds === not) wrong(actual instanceof Settled ? actual.value : actual, parameters[0], `${note ? `${note}: ` : ""}expected ${inspect(actual instanceof Settled ? actual.value : actual)} ${not ? "not " : ""}${verb}`);
  };
  const expectation = (actual, not, note) => new Proxy({}, {
    get(_, name) {
      if (name === "not") return expectation(actual, !not, note);
      if (name === "resolves" || name === "rejects") return settling(actual, name, not, note);
      if (typeof name === "symbol" || name === "then") return undefined;
      if (!Object.hasOwn(matchers, name)) throw new Error(`expect(…).${name} is not part of the sandbox's test harness`);
      return (...parameters) => judge(name, not, actual, parameters, note);
    },
  });
  const settling = (actual, how, not, note) => new Proxy({}, {
    get(_, name) {
      if (name === "not") return settling(actual, how, !not, note);
      if (typeof name === "symbol" || name === "then") return undefined;
      return async (...parameters) => {
        const promise = typeof actual === "function" ? actual() : actual;
        if (!isThenable(promise)) wrong(promise, undefined, `expected a promise, found ${inspect(promise)}`);
        let [value, was] = [undefined, "resolves"];
        try { value = await promise; } catch (error) { [value, was] = [error, "rejects"]; }
        if (was !== how) wrong(value, undefined, `${note ? `${note}: ` : ""}expected the promise to ${how === "resolves" ? "resolve" : "reject"}, and it ${was === "resolves" ? "resolved with" : "rejected with"} ${inspect(value)}`);
        judge(name, not, name.startsWith("toThrow") ? new Settled(value) : value, parameters, note);
      };
    },
  });
  const matcher = (text, asymmetricMatch) => ({ text, asymmetricMatch });
  const primitive = new Map([[String, "string"], [Number, "number"], [Boolean, "boolean"], [BigInt, "bigint"], [Symbol, "symbol"], [Function, "function"], [Object, "object"]]);
  const contains = (expected) => (actual) => typeof actual === "object" && actual !== null && Object.keys(expected).every((key) => equal(actual[key], expected[key], false));
  const includes = (expected) => (actual) => Array.isArray(actual) && expected.every((part) => actual.some((other) => equal(other, part, false)));
  const expect = Object.assign((actual, note) => expectation(actual, false, note), {
    any: (type) => matcher(`any ${type?.name}`, (actual) => typeof actual === primitive.get(type) || (typeof type === "function" && actual instanceof type)),
    anything: () => matcher("anything", (actual) => actual !== null && actual !== undefined),
    objectContaining: (expected) => matcher(`an object with ${inspect(expected)}`, contains(expected)),
    arrayContaining: (expected) => matcher(`a list with ${inspect(expected)}`, includes(expected)),
    stringContaining: (expected) => matcher(`a text with ${inspect(expected)}`, (actual) => typeof actual === "string" && actual.includes(expected)),
    stringMatching: (expected) => matcher(`a text like ${inspect(expected)}`, (actual) => typeof actual === "string" && new RegExp(expected).test(actual)),
    closeTo: (expected, digits = 2) => matcher(`close to ${expected}`, (actual) => Math.abs(actual - expected) < 10 ** -digits / 2),
    not: {
      objectContaining: (expected) => matcher(`no object with ${inspect(expected)}`, (actual) => !contains(expected)(actual)),
      arrayContaining: (expected) => matcher(`no list with ${inspect(expected)}`, (actual) => !includes(expected)(actual)),
      stringContaining: (expected) => matcher(`no text with ${inspect(expected)}`, (actual) => !(typeof actual === "string" && actual.includes(expected))),
    },
    assertions: (count) => { expectations.wanted = count; },
    hasAssertions: () => { expectations.any = true; },
    extend: (more) => {
      for (const [name, body] of Object.entries(more)) {
        matchers[name] = (actual, ...parameters) => {
          const said = body.call({ equals: (a, b) => equal(a, b, false), isNot: false, utils: { printReceived: inspect, printExpected: inspect } }, actual, ...parameters);
          return { holds: Boolean(said.pass), verb: typeof said.message === "function" ? `to pass ${name}: ${said.message()}` : `to pass ${name}` };
        };
      }
    },
    fail: (message) => wrong(undefined, undefined, message ?? "failed"),
    soft: undefined,
  });
  delete expect.soft;

  // Time that moves when nothing else is left to do

  let [now, ticket, timers] = [0, 0, []];
  const later = (repeat) => (body, wait = 0, ...parameters) => {
    if (typeof body !== "function") throw new TypeError("a timer needs a function");
    const delay = Math.max(0, Number(wait) || 0);
    const timer = { id: ++ticket, due: now + delay, body: () => body(...parameters), repeat: repeat ? Math.max(1, delay) : null };
    timers.push(timer);
    return Object.assign(Object(timer.id), { ref() { return this; }, unref() { return this; }, hasRef: () => true, refresh() { return this; } });
  };
  const clear = (id) => { timers = timers.filter((timer) => timer.id !== Number(id)); };
  const turn = () => {
    if (!timers.length) return false;
    const next = timers.reduce((first, timer) => (timer.due < first.due || (timer.due === first.due && timer.id < first.id) ? timer : first));
    now = Math.max(now, next.due);
    if (next.repeat === null) clear(next.id);
    else next.due = now + next.repeat;
    next.body();
    return true;
  };

  // Suites and tests

  const suite = (name, parent, options = {}) => ({ name, parent, options, entries: [], hooks: { before: [], beforeEach: [], after: [], afterEach: [] } });
  let [current, only, running] = [suite("", null), false, null];
  const tests = [];
  const benches = [];
  const optional = (parameters) => {
    let [name, options, body, rest] = ["", {}, undefined, []];
    for (const part of parameters) {
      if (typeof part === "string" || (typeof part === "number" && !name)) { if (!name) name = String(part); else if (typeof part === "number") options = { ...options, timeout: part }; else rest.push(part); }
      else if (typeof part === "function") { if (body) rest.push(part); else body = part; }
      else if (typeof part === "object" && part !== null) options = { ...options, ...part };
    }
    return { name: name || body?.name || "(anonymous)", options, body };
  };
  const pathOf = (at) => { const names = []; for (let s = at; s?.parent; s = s.parent) names.unshift(s.name); return names; };
  const addTest = (parameters, extra = {}) => {
    const { name, options, body } = optional(parameters);
    const all = { ...options, ...extra };
    if (!body && !all.skip) all.todo ??= true;
    // Inside of a test it is a part of that one, as node:test has it; others refuse it.
    if (running) {
      if (!all.node) throw new Error(`the test ${name} is defined inside of a test`);
      return running.inner(name, all, body);
    }
    if (all.node) delete all.only; // node:test asks for --test-only
    if (all.only) only = true;
    const test = { names: [...pathOf(current), name], suite: current, body, options: all };
    tests.push(test);
    return Promise.resolve();
  };
  const addSuite = (parameters, extra = {}) => {
    const { name, options, body } = optional(parameters);
    const all = { ...options, ...extra };
    if (running) throw new Error(`the suite ${name} is defined inside of a test`);
    if (all.node) delete all.only;
    if (all.only) only = true;
    const before = current;
    current = suite(name, before, all);
    try {
      const returned = body?.({ name });
      if (isThenable(returned)) throw new TypeError(`the suite ${name} is asynchronous; its tests would not be known`);
    } finally {
      current = before;
    }
    return Promise.resolve();
  };
  const title = (name, row, at) => {
    const parts = Array.isArray(row) ? row : [row];
    let text = name.replace(/%#/g, String(at));
    if (row && typeof row === "object" && !Array.isArray(row)) text = text.replace(/\$([\w.]+)/g, (all, path) => { const found = at_(row, path); return found === null ? all : found; });
    return text.includes("%") ? format(text, ...parts.slice(0, (text.match(/%[sdifjoO]/g) ?? []).length)) : text;
  };
  const at_ = (row, path) => { const found = at(row, path); return found.there ? (typeof found.value === "string" ? found.value : inspect(found.value)) : null; };
  const table = (first, values) => {
    if (!Array.isArray(first) || !("raw" in first)) return first;
    const names = first[0].split("|").map((name) => name.trim());
    const rows = [];
    for (let start = 0; start < values.length; start += names.length) rows.push(Object.fromEntries(names.map((name, column) => [name, values[start + column]])));
    return rows;
  };
  const register = (add, own = {}) => {
    const with_ = (more) => {
      const extra = { ...own, ...more };
      const call = (...parameters) => add(parameters, extra);
      call.each = (first, ...values) => (name, body, more) => {
        table(first, values).forEach((row, number) => {
          const run = Array.isArray(row) ? () => body(...row) : () => body(row);
          add([title(name, row, number), run, ...(typeof more === "object" && more ? [more] : [])], extra);
        });
      };
      // As Vitest has it: the row as it is, and then the context.
      call.for = (rows) => (name, body, more) => {
        rows.forEach((row, number) => {
          add([title(name, row, number), (context) => body(row, context), ...(typeof more === "object" && more ? [more] : [])], extra);
        });
      };
      return call;
    };
    const base = with_({});
    for (const word of ["skip", "only", "todo"]) base[word] = with_({ [word]: true });
    base.failing = with_({ failing: true });
    base.fails = base.failing;
    base.skipIf = (condition) => (condition ? base.skip : base);
    base.runIf = (condition) => (condition ? base : base.skip);
    base.concurrent = base;
    base.sequential = base;
    return base;
  };
  const test = register(addTest);
  const describe = register(addSuite);
  const hook = (kind) => (body) => { current.hooks[kind].push(body); };
  const hooks = { before: hook("before"), beforeAll: hook("before"), after: hook("after"), afterAll: hook("after"), beforeEach: hook("beforeEach"), afterEach: hook("afterEach") };
  const nodeTest = register(addTest, { node: true });
  const nodeSuite = register(addSuite, { node: true });
  Object.assign(nodeTest, { describe: nodeSuite, suite: nodeSuite, test: nodeTest, it: nodeTest, ...hooks });

  const addBenchmark = (name, body) => { benches.push({ names: [String(name)], body }); };

  const nodeMock = {
    fn: (body) => nodeCalls(mockFunction(body)),
    method: (object, name, body) => {
      const wrapped = nodeCalls(spyOn(object, name, body));
      object[name] = wrapped; // this one counts
      return wrapped;
    },
    reset: everyMock("mockRestore"),
    restoreAll: everyMock("mockRestore"),
  };
  const nodeCalls = (mock) => {
    const wrapped = function (...parameters) {
      const call = { arguments: parameters, result: undefined, error: undefined, this: this };
      wrapped.mock.calls.push(call);
      try { return (call.result = mock.apply(this, parameters)); } catch (error) { call.error = error; throw error; }
    };
    wrapped.mock = { calls: [], callCount: () => wrapped.mock.calls.length, restore: () => mock.mockRestore(), resetCalls: () => { wrapped.mock.calls.length = 0; }, mockImplementation: (body) => mock.mockImplementation(body) };
    return wrapped;
  };
  nodeTest.mock = nodeMock;

  class Skip { constructor(reason, todo = false) { this.reason = reason; this.todo = todo; } }
  const chainUp = (suite) => { const all = []; for (let s = suite; s; s = s.parent) all.unshift(s); return all; };
  const isIn = (test, flag) => Boolean(test.options[flag]) || chainUp(test.suite).some((s) => s.options[flag]);
  const callBody = (body, context, usesDone) => {
    if (!usesDone) return body.call(context, context);
    return new Promise((resolve, reject) => {
      const done = (error) => (error ? reject(error) : resolve());
      done.fail = reject;
      // node:test hands over the context first, the others nothing but the callback.
      const returned = body.length > 1 ? body.call(context, context, done) : body.call(context, done);
      if (isThenable(returned)) returned.then(resolve, reject);
    });
  };
  // What a test of node:test is handed, and what it leaves to be done: parts of its own, and hooks.
  const makeContext = (name) => {
    const parts = [];
    const hooksOf = { after: [], beforeEach: [], afterEach: [] };
    const context = {
      name,
      task: { name },
      diagnostic: (text) => native.print("log", String(text)),
      skip: (reason) => { throw new Skip(reason ?? "skipped"); },
      todo: (reason) => { throw new Skip(reason ?? "todo", true); },
      plan: (count) => { expectations.wanted = count; },
      mock: nodeMock,
      assert,
      expect,
      signal: undefined,
      test: (...parameters) => { const { name: inner, options, body } = optional(parameters); return context.inner(inner, options, body); },
      before: (body) => { parts.push(Promise.resolve().then(() => body(context))); },
      after: (body) => { hooksOf.after.push(body); },
      beforeEach: (body) => { hooksOf.beforeEach.push(body); },
      afterEach: (body) => { hooksOf.afterEach.push(body); },
      inner(inner, options, body) {
        if (options.skip || options.todo || !body) return Promise.resolve();
        const run = async () => {
          const own = makeContext(inner);
          try {
            for (const hook of hooksOf.beforeEach) await hook(own);
            await within(own, () => callBody(body, own, usesDone(body)));
            await own.finish();
            for (const hook of hooksOf.afterEach) await hook(own);
          } catch (error) {
            if (error instanceof Skip) return;
            if (error instanceof Error && !error.message.startsWith(`${inner}: `)) error.message = `${inner}: ${error.message}`;
            throw error;
          }
        };
        const part = run();
        parts.push(part);
        part.catch(() => {}); // told by whoever finishes
        return part;
      },
      async finish() {
        while (parts.length) await parts.shift();
        for (const hook of hooksOf.after.splice(0)) await hook(context);
      },
    };
    context.it = context.test;
    return context;
  };
  const within = async (context, work) => {
    const before = running;
    running = context;
    try { return await work(); } finally { running = before; }
  };
  const describeError = (error) => {
    if (error instanceof Error || (error && typeof error === "object" && "message" in error)) {
      const name = error.name && error.name !== "Error" && error.name !== "AssertionError" ? `${error.name}: ` : "";
      return { message: `${name}${error.message}`, stack: String(error.stack ?? "") };
    }
    return { message: `threw ${inspect(error)}`, stack: "" };
  };
  const runTest = async (test) => {
    if (isIn(test, "skip")) return { status: "skipped", message: typeof test.options.skip === "string" ? test.options.skip : "skip" };
    if (isIn(test, "todo") || !test.body) return { status: "skipped", message: "todo" };
    if (only && !isIn(test, "only")) return { status: "skipped", message: "another test is marked `only`" };
    const suites = chainUp(test.suite);
    expectations = { made: 0, wanted: null, any: false };
    let failed = null;
    const attempt = async (when, work) => {
      try { await work(); } catch (error) { if (error instanceof Skip) throw error; failed ??= { when, error }; }
    };
    const own = makeContext(test.names.at(-1));
    const started = now;
    try {
      for (const s of suites) for (const body of s.hooks.before) await attempt("before", () => callBody(body, {}, usesDone(body)));
      for (const s of suites) for (const body of s.hooks.beforeEach) if (!failed) await attempt("before", () => callBody(body, own, usesDone(body)));
      if (!failed) await attempt("", () => within(own, () => callBody(test.body, own, usesDone(test.body))));
      await attempt("", () => own.finish());
      if (!failed && test.options.timeout > 0 && now - started > test.options.timeout) failed = { when: "", error: new Error(`it took ${now - started} ms, and its timeout is ${test.options.timeout} ms`) };
      for (const s of [...suites].reverse()) for (const body of s.hooks.afterEach) await attempt("after", () => callBody(body, own, usesDone(body)));
      for (const s of [...suites].reverse()) for (const body of s.hooks.after) await attempt("after", () => callBody(body, {}, usesDone(body)));
      // What is left to happen happens, as long as a runner would wait for it.
      for (let turns = 0; turns < 10_000 && timers.some((timer) => timer.repeat === null); turns += 1) await attempt("after", async () => { turn(); await null; });
      if (!failed && process.exitCode) failed = { when: "", error: new Error(`process.exitCode is ${process.exitCode}`) };
    } catch (error) {
      if (error instanceof Skip) return { status: "skipped", message: error.reason };
      throw error;
    }
    if (!failed && expectations.wanted !== null && expectations.made !== expectations.wanted) failed = { when: "", error: new AssertionError({ message: `expected ${expectations.wanted} assertions, and ${expectations.made} were made` }) };
    if (!failed && expectations.any && expectations.made === 0) failed = { when: "", error: new AssertionError({ message: "expected at least one assertion, and none was made" }) };
    if (test.options.failing) return failed ? { status: "passed" } : { status: "failed", when: "", message: "it is marked as failing, and it passes", stack: "" };
    return failed ? { status: "failed", when: failed.when, ...describeError(failed.error) } : { status: "passed" };
  };
  const isAsync = (body) => Object.getPrototypeOf(body)?.constructor?.name === "AsyncFunction";
  // A parameter named `done`, as jest and mocha had it, is a callback; any other is the context of node:test and vitest.
  const usesDone = (body) => !isAsync(body) && (body.length === 2 || (body.length === 1 && namesDone(body)));
  const namesDone = (body) => /^\s*(?:function\b[^(]*)?\(?\s*(?:done|callback|cb)\s*[,)=]/.test(Function.prototype.toString.call(body));

  // A few modules of Node that need nothing of the machine

  const posix = {
    sep: "/", delimiter: ":",
    normalize: (path) => {
      const [parts, absolute] = [[], path.startsWith("/")];
      for (const part of path.split("/")) {
        if (part === "" || part === ".") continue;
        if (part === ".." && parts.length && parts.at(-1) !== "..") parts.pop();
        else if (part !== ".." || !absolute) parts.push(part);
      }
      const text = parts.join("/") + (path.endsWith("/") && parts.length ? "/" : "");
      return (absolute ? "/" : "") + text || ".";
    },
    join: (...parts) => posix.normalize(parts.filter((part) => part !== "").join("/") || "."),
    resolve: (...parts) => {
      let path = "";
      for (const part of [native.root, ...parts]) path = part.startsWith("/") ? part : `${path}/${part}`;
      const whole = posix.normalize(path);
      return whole.length > 1 ? whole.replace(/\/$/, "") : whole;
    },
    isAbsolute: (path) => path.startsWith("/"),
    dirname: (path) => { const cut = path.replace(/\/+$/, "").lastIndexOf("/"); return cut < 0 ? "." : cut === 0 ? "/" : path.slice(0, cut); },
    basename: (path, end) => { const name = path.replace(/\/+$/, "").split("/").at(-1); return end && name !== end && name.endsWith(end) ? name.slice(0, -end.length) : name; },
    extname: (path) => { const name = posix.basename(path); const dot = name.lastIndexOf("."); return dot > 0 ? name.slice(dot) : ""; },
    relative: (from, to) => {
      const [a, b] = [from, to].map((path) => posix.resolve(path).split("/").filter(Boolean));
      let shared = 0;
      while (shared < a.length && shared < b.length && a[shared] === b[shared]) shared += 1;
      return [...a.slice(shared).map(() => ".."), ...b.slice(shared)].join("/");
    },
    parse: (path) => { const [base, ext] = [posix.basename(path), posix.extname(path)]; return { root: path.startsWith("/") ? "/" : "", dir: posix.dirname(path), base, ext, name: ext ? base.slice(0, -ext.length) : base }; },
    format: ({ dir, root: top, base, name, ext }) => `${dir ? `${dir}/` : top ?? ""}${base ?? `${name ?? ""}${ext ?? ""}`}`,
  };
  posix.posix = posix;
  const missing = (path, what) => Object.assign(new Error(`ENOENT: no such file or directory, ${what} '${path}'`), { code: "ENOENT", path, syscall: what });
  const filePath = (path) => posix.resolve(path instanceof URL ? path.pathname : String(path).replace(/^file:\/\//, ""));
  const readOnly = (name) => () => { throw Object.assign(new Error(`EROFS: read-only file system, ${name}`), { code: "EROFS" }); };
  const fs = {
    existsSync: (path) => native.kind(filePath(path)) !== "",
    readFileSync: (path, options) => {
      const bytes = native.read(filePath(path));
      if (bytes === null) throw missing(path, "open");
      const encoding = typeof options === "string" ? options : options?.encoding;
      return encoding ? new TextDecoder().decode(bytes) : bytes;
    },
    readdirSync: (path) => { if (native.kind(filePath(path)) !== "folder") throw missing(path, "scandir"); return native.list(filePath(path)); },
    statSync: (path) => {
      const kind = native.kind(filePath(path));
      if (kind === "") throw missing(path, "stat");
      return { isFile: () => kind === "file", isDirectory: () => kind === "folder", isSymbolicLink: () => false, size: kind === "file" ? native.read(filePath(path)).length : 0 };
    },
    writeFileSync: readOnly("open"), mkdirSync: readOnly("mkdir"), rmSync: readOnly("rm"), unlinkSync: readOnly("unlink"), appendFileSync: readOnly("open"), mkdtempSync: readOnly("mkdtemp"),
  };
  fs.lstatSync = fs.statSync;
  fs.promises = Object.fromEntries(Object.entries(fs).filter(([name]) => name.endsWith("Sync")).map(([name, body]) => [name.slice(0, -4), async (...parameters) => body(...parameters)]));
  class EventEmitter {
    #listeners = new Map();
    on(name, body) { this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), { body }]); return this; }
    once(name, body) { this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), { body, once: true }]); return this; }
    off(name, body) { this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter((entry) => entry.body !== body)); return this; }
    removeAllListeners(name) { if (name === undefined) this.#listeners.clear(); else this.#listeners.delete(name); return this; }
    emit(name, ...parameters) {
      const entries = this.#listeners.get(name) ?? [];
      if (name === "error" && !entries.length) throw parameters[0];
      for (const entry of entries) { if (entry.once) this.off(name, entry.body); entry.body.apply(this, parameters); }
      return entries.length > 0;
    }
    listenerCount(name) { return (this.#listeners.get(name) ?? []).length; }
    listeners(name) { return (this.#listeners.get(name) ?? []).map((entry) => entry.body); }
  }
  EventEmitter.prototype.addListener = EventEmitter.prototype.on;
  EventEmitter.prototype.removeListener = EventEmitter.prototype.off;
  EventEmitter.EventEmitter = EventEmitter;
  EventEmitter.once = (emitter, name) => new Promise((resolve, reject) => { emitter.once(name, (...parameters) => resolve(parameters)); if (name !== "error") emitter.once("error", reject); });
  const util = {
    inspect, format, isDeepStrictEqual: (a, b) => equal(a, b, true),
    promisify: (body) => (...parameters) => new Promise((resolve, reject) => body(...parameters, (error, value) => (error ? reject(error) : resolve(value)))),
    inherits: (child, parent) => { Object.setPrototypeOf(child.prototype, parent.prototype); },
    deprecate: (body) => body,
    types: { isPromise: (value) => value instanceof Promise, isRegExp: (value) => value instanceof RegExp, isDate: (value) => value instanceof Date },
  };
  const exit = (code) => { throw new Error(`process.exit(${code ?? ""}) was called`); };
  const process = Object.assign(new EventEmitter(), {
    env: {}, argv: ["node", "test"], execArgv: [], platform: "linux", arch: "wasm32", version: "v20.0.0", versions: { node: "20.0.0" }, pid: 1, exitCode: undefined,
    cwd: () => native.root, exit, nextTick: (body, ...parameters) => { Promise.resolve().then(() => body(...parameters)); },
    hrtime: Object.assign(() => [Math.floor(Date.now() / 1000), 0], { bigint: () => BigInt(Date.now()) * 1000000n }),
    memoryUsage: () => ({ heapUsed: 0, heapTotal: 0, rss: 0, external: 0 }), uptime: () => now / 1000, emitWarning: (text) => native.print("warn", String(text)),
    stdout: { write: (text) => { native.print("log", String(text).replace(/\n$/, "")); return true; }, isTTY: false }, stderr: { write: (text) => { native.print("error", String(text).replace(/\n$/, "")); return true; }, isTTY: false },
  });
  const url = { fileURLToPath: (value) => filePath(value), pathToFileURL: (path) => ({ href: `file://${posix.resolve(path)}`, pathname: posix.resolve(path), toString() { return this.href; } }) };
  const timersPromises = { setTimeout: (wait, value) => new Promise((resolve) => later(false)(resolve, wait, value)), setImmediate: (value) => new Promise((resolve) => later(false)(resolve, 0, value)) };
  const vitest = { describe, suite: describe, it: test, test, expect, assert, ...hooks, vi: refusing("vi", double), bench: addBenchmark };
  const builtins = {
    test: nodeTest, assert, "assert/strict": assert.strict, path: posix, "path/posix": posix, fs, "fs/promises": fs.promises, util, events: EventEmitter, process, url,
    timers: { setTimeout: later(false), setInterval: later(true), setImmediate: (body, ...rest) => later(false)(body, 0, ...rest), clearTimeout: clear, clearInterval: clear, clearImmediate: clear },
    "timers/promises": timersPromises, os: { EOL: "\n", platform: () => "linux", tmpdir: () => "/tmp", cpus: () => [{}], type: () => "Linux" },
    module: { createRequire: (from) => requireFrom(filePath(from)) }, perf_hooks: { performance: undefined },
    vitest, "@jest/globals": { ...vitest, jest: refusing("jest", double) }, "bun:test": { ...vitest, mock: mockFunction },
  };

  // CommonJS

  const loaded = new Map();
  const requireFrom = (base) => {
    const require = (name) => {
      const path = native.resolve(base, name, true);
      if (path.startsWith("builtin:")) return builtins[path.slice(8)];
      const there = loaded.get(path);
      if (there) return there.exports;
      const module = { exports: {}, id: path, filename: path, loaded: false, children: [], paths: [] };
      loaded.set(path, module);
      try {
        if (path.endsWith(".json")) module.exports = JSON.parse(new TextDecoder().decode(native.read(path)));
        else native.compile(path).call(module.exports, module.exports, requireFrom(path), module, path, posix.dirname(path));
      } catch (error) {
        loaded.delete(path);
        throw error;
      }
      module.loaded = true;
      return module.exports;
    };
    require.resolve = (name) => native.resolve(base, name, true);
    require.cache = {};
    require.main = undefined;
    return require;
  };

  // Globals

  const write = (level) => (...parts) => native.print(level, format(...parts));
  // The clocks move with the timers that have fired, and with the engine's own.
  const [clock, ownPerformance, NativeDate] = [Date.now.bind(Date), globalThis.performance, Date];
  const millis = () => Math.floor(clock() + now);
  const performance = { now: () => now + (ownPerformance ? ownPerformance.now() : 0), mark() {}, measure() {}, timeOrigin: 0 };
  builtins.perf_hooks.performance = performance;
  NativeDate.now = millis;
  const MovingDate = new Proxy(NativeDate, {
    construct: (target, parameters, made) => Reflect.construct(target, parameters.length ? parameters : [target.now()], made === MovingDate ? target : made),
    apply: (target) => new target(target.now()).toString(),
  });
  NativeDate.prototype.constructor = MovingDate;
  const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  const globals = {
    console: { log: write("log"), info: write("log"), debug: write("log"), warn: write("warn"), error: write("error"), trace: write("log"), dir: write("log"), table: write("log"), group: write("log"), groupEnd() {}, time() {}, timeEnd() {}, assert: (holds, ...parts) => { if (!holds) native.print("error", format("assertion failed:", ...parts)); } },
    ...builtins.timers, process, global: globalThis, performance, Date: MovingDate,
    queueMicrotask: (body) => { Promise.resolve().then(body); },
    structuredClone: (value) => clone(value, new Map()),
    describe, it: test, test, bench: addBenchmark, expect, beforeAll: hooks.beforeAll, afterAll: hooks.afterAll, beforeEach: hooks.beforeEach, afterEach: hooks.afterEach, before: hooks.before, after: hooks.after,
    xit: test.skip, xtest: test.skip, xdescribe: describe.skip, fit: test.only, fdescribe: describe.only, jest: refusing("jest", double), vi: refusing("vi", double),
  };
  // What decorators of TypeScript become, as its own compiler has it.
  globals.babelHelpers = {
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
  };
  const clone = (value, known) => {
    if (typeof value === "function" || typeof value === "symbol") throw new Error("DataCloneError: it cannot be cloned");
    if (typeof value !== "object" || value === null) return value;
    if (known.has(value)) return known.get(value);
    const keep = (copy) => { known.set(value, copy); return copy; };
    if (value instanceof Date) return keep(new Date(value));
    if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
    if (value instanceof Map) { const copy = keep(new Map()); for (const [k, v] of value) copy.set(clone(k, known), clone(v, known)); return copy; }
    if (value instanceof Set) { const copy = keep(new Set()); for (const v of value) copy.add(clone(v, known)); return copy; }
    if (value instanceof ArrayBuffer) return keep(value.slice(0));
    if (ArrayBuffer.isView(value)) return keep(value.slice());
    const copy = keep(Array.isArray(value) ? [] : value instanceof Error ? Object.assign(new value.constructor(value.message), {}) : {});
    for (const key of Object.keys(value)) copy[key] = clone(value[key], known);
    return copy;
  };
  if (typeof globalThis.TextEncoder === "undefined") {
    globals.TextEncoder = class TextEncoder { get encoding() { return "utf-8"; } encode(text = "") { return native.encode(String(text)); } };
    globals.TextDecoder = class TextDecoder { get encoding() { return "utf-8"; } decode(bytes) { return bytes === undefined ? "" : native.decode(bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)); } };
  }
  if (typeof globalThis.URL === "undefined") {
    globals.URL = class URL {
      constructor(text, base) {
        const whole = /^[a-z][a-z0-9+.-]*:/i.test(text) ? String(text) : new URL(String(base)).resolve(String(text));
        const parts = /^([a-z][a-z0-9+.-]*:)(?:\/\/([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?$/i.exec(whole);
        if (!parts) throw new TypeError(`Invalid URL: ${text}`);
        [, this.protocol, this.host = "", this.pathname, this.search = "", this.hash = ""] = parts;
        this.pathname = this.pathname.startsWith("/") ? posix.normalize(this.pathname) : this.pathname || (this.host ? "/" : "");
        this.hostname = this.host.replace(/:\d+$/, "");
        this.port = /:(\d+)$/.exec(this.host)?.[1] ?? "";
        this.origin = `${this.protocol}//${this.host}`;
      }
      resolve(text) { return text.startsWith("/") ? `${this.origin}${text}` : `${this.origin}${posix.normalize(`${this.pathname.replace(/[^/]*$/, "")}${text}`)}`; }
      get href() { return `${this.protocol}//${this.host}${this.pathname}${this.search}${this.hash}`; }
      toString() { return this.href; }
      toJSON() { return this.href; }
    };
  }
  for (const [name, value] of Object.entries(globals)) if (value !== undefined) define(name, value);

  const named = (list) => {
    const seen = new Map();
    return list.map((entry) => {
      const name = `${entry.file}${entry.names.map((part) => ` > ${part.replace(/\s+/g, " ")}`).join("")}`;
      const count = (seen.get(name) ?? 0) + 1;
      seen.set(name, count);
      return count > 1 ? `${name} #${count}` : name;
    });
  };

  // What the gate calls
  return freeze({
    begin() { current = suite("", null); },
    loaded(file) { for (const entry of [...tests, ...benches]) entry.file ??= file; },
    units: () => JSON.stringify(named(tests)),
    benchmarks: () => JSON.stringify(named(benches)),
    run(unit) { const found = tests[named(tests).indexOf(unit)]; return found ? runTest(found).then(told) : null; },
    async end() {
      for (let turns = 0; turns < 10_000 && timers.some((timer) => timer.repeat === null); turns += 1) { turn(); await null; }
      for (const when of ["beforeExit", "exit"]) process.emit(when, process.exitCode ?? 0);
      if (process.exitCode) throw new Error(`process.exitCode is ${process.exitCode}`);
    },
    bench(unit) {
      const found = benches[named(benches).indexOf(unit)];
      if (!found) return null;
      const once = async (measured) => {
        const before = native.fuel();
        const returned = found.body();
        if (isThenable(returned)) await returned;
        return measured ? native.fuel() - before : 0n;
      };
      // The first call compiles what the engine compiles lazily; the second one counts.
      return once(false).then(() => once(true)).then((fuel) => JSON.stringify({ status: "measured", fuel: String(fuel) }), (error) => JSON.stringify({ status: "failed", when: "", ...describeError(error) }));
    },
    turn,
    turnOnce: () => timers.some((timer) => timer.repeat === null) && turn(),
    describeError: (error) => JSON.stringify(describeError(error)),
    exportsOf: (name) => JSON.stringify(Object.keys(builtins[name]).filter((key) => identifier.test(key))),
    builtin: (name) => builtins[name],
    isBuiltin: (name) => Object.hasOwn(builtins, name),
    require: (path) => requireFrom(path)(path),
    requiredKeys: (path) => { const value = requireFrom(path)(path); return JSON.stringify(value && ["object", "function"].includes(typeof value) ? Object.keys(value) : []); },
  });
}
