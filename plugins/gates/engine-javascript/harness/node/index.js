// Node's modules, as far as they need nothing of the machine; what needs it can be imported, and says so when it is used.
import assert from "assert";
import { Buffer, SlowBuffer, INSPECT_MAX_BYTES, kMaxLength } from "buffer";
import EventEmitter from "events";
import path from "path-browserify";
import querystring from "querystring-es3";
import stream from "readable-stream";
import streamPromises from "readable-stream/lib/stream/promises.js";
import stringDecoder from "string_decoder";
import legacyUrl from "url";
import zlib from "browserify-zlib";
import { URL as PlainURL, URLSearchParams } from "whatwg-url";
import * as streams from "web-streams-polyfill";
import { equals, subsetEquality } from "@vitest/expect";
import { define, native } from "../native.js";
import { performance, setTimeout, setInterval, setImmediate, clear } from "../clock.js";
import { process } from "./process.js";
import { crypto } from "./crypto.js";
import { fs, filePath } from "./fs.js";
import { util } from "./util.js";

const plain = (text) => text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const [from, toString, isEncoding] = [Buffer.from, Buffer.prototype.toString, Buffer.isEncoding];
Buffer.from = (data, encoding, ...rest) => from(data, typeof encoding === "string" && /^base64url$/i.test(encoding) ? "base64" : encoding, ...rest);
Buffer.isEncoding = (encoding) => isEncoding(encoding) || /^base64url$/i.test(String(encoding));
Buffer.prototype.toString = function (encoding, ...range) { return /^base64url$/i.test(String(encoding)) ? plain(toString.call(this, "base64", ...range)) : toString.call(this, encoding, ...range); };
define("Buffer", Buffer);
class URL extends PlainURL {
  constructor(text, base) {
    try { super(text, base); } catch { throw Object.assign(new TypeError("Invalid URL"), { code: "ERR_INVALID_URL", input: String(text) }); }
  }
}
define("URL", URL);
define("URLSearchParams", URLSearchParams);
define("atob", (text) => Buffer.from(String(text), "base64").toString("latin1"));
define("btoa", (text) => Buffer.from(String(text), "latin1").toString("base64"));
for (const [name, value] of Object.entries(streams)) if (/^(Readable|Writable|Transform)Stream|QueuingStrategy$/.test(name)) define(name, value);

// What the library gets wrong: what is itself alone, the state of a regular expression, and NaN, which is equal to itself.
const [deepStrict, deepLoose, notDeepLoose, looseEqual, looseNotEqual] = [assert.deepStrictEqual, assert.deepEqual, assert.notDeepEqual, assert.equal, assert.notEqual];
const throws = (body) => { try { body(); } catch { return true; } return false; };
const bothNaN = (a, b) => Number.isNaN(a) && Number.isNaN(b);
const fail = (actual, expected, operator, message, text) => { if (message instanceof Error) throw message; throw new assert.AssertionError({ message: message ?? text, actual, expected, operator }); };
const strictly = (actual, expected, message) => {
  deepStrict(actual, expected, message);
  if (!util.isDeepStrictEqual(actual, expected)) fail(actual, expected, "deepStrictEqual", message, "Expected values to be strictly deep-equal");
};
const loosely = (actual, expected, message) => { if (throws(() => deepLoose(actual, expected)) && !equals(actual, expected, [])) deepLoose(actual, expected, message); };
Object.assign(assert, {
  deepStrictEqual: strictly, deepEqual: loosely, notDeepEqual: (actual, expected, message) => { notDeepLoose(actual, expected, message); if (!throws(() => loosely(actual, expected))) fail(actual, expected, "notDeepEqual", message, "Expected values not to be loosely deep-equal"); },
  equal: (actual, expected, message) => { if (!bothNaN(actual, expected)) looseEqual(actual, expected, message); },
  notEqual: (actual, expected, message) => { if (bothNaN(actual, expected)) fail(actual, expected, "!=", message, "NaN != NaN"); looseNotEqual(actual, expected, message); },
});
Object.assign(assert.strict, { deepStrictEqual: strictly, deepEqual: strictly });
assert.partialDeepStrictEqual ??= (actual, expected, message) => {
  if (!equals(actual, expected, [subsetEquality])) throw new assert.AssertionError({ message: message ?? `expected ${util.inspect(actual)} to contain ${util.inspect(expected)}`, actual, expected, operator: "partialDeepStrictEqual" });
};
assert.strict.partialDeepStrictEqual = assert.partialDeepStrictEqual;

path.posix = path;
const fileUrl = (of) => { const url = new URL("file:///"); url.pathname = path.resolve(native.root, of).replace(/%/g, "%25"); return url; };
const url = { ...legacyUrl, URL, URLSearchParams, fileURLToPath: filePath, pathToFileURL: fileUrl, domainToASCII: (name) => new URL(`http://${name}`).hostname, urlToHttpOptions: (of) => ({ protocol: of.protocol, hostname: of.hostname, path: of.pathname + of.search, href: of.href, port: of.port }) };
const once = EventEmitter.once ?? ((emitter, name) => new Promise((resolve) => { emitter.once(name, (...values) => resolve(values)); }));
async function* on(emitter, name, { signal } = {}) {
  const [events, waiting] = [[], []];
  const told = (...values) => { const next = waiting.shift(); if (next) next.resolve(values); else events.push(values); };
  const wrong = (error) => { waiting.shift()?.reject(error); };
  emitter.on(name, told);
  if (name !== "error") emitter.on("error", wrong);
  signal?.addEventListener("abort", () => wrong(signal.reason));
  try { for (;;) yield events.length ? events.shift() : await new Promise((resolve, reject) => { waiting.push({ resolve, reject }); }); } finally { emitter.off(name, told); emitter.off("error", wrong); }
}
Object.assign(EventEmitter, { EventEmitter, once, on, getEventListeners: (emitter, name) => emitter.listeners?.(name) ?? [], setMaxListeners: () => {} });
const timers = { setTimeout, setInterval, setImmediate, clearTimeout: clear, clearInterval: clear, clearImmediate: clear };
const after = (wait, value, signal) => new Promise((resolve, reject) => {
  if (signal?.aborted) { reject(signal.reason); return; }
  const timer = setTimeout(resolve, wait, value);
  signal?.addEventListener("abort", () => { clear(timer); reject(signal.reason); });
});
const timersPromises = {
  setTimeout: (wait, value, options) => after(wait, value, options?.signal), setImmediate: (value, options) => after(0, value, options?.signal),
  async *setInterval(wait, value) { for (;;) yield await after(wait, value); }, scheduler: { wait: (wait) => after(wait), yield: () => after(0) },
};
setTimeout[util.promisify.custom] = timersPromises.setTimeout;
setImmediate[util.promisify.custom] = timersPromises.setImmediate;

/** A module that needs the machine: it has the names, and each says what it is when it is called. */
const ofTheMachine = (module, names, more = {}) => {
  const refuse = (name) => function () { throw Object.assign(new Error(`${module}.${name}() is not in the sandbox`), { code: "ERR_SANDBOX" }); };
  return { ...Object.fromEntries(names.split(" ").map((name) => [name, refuse(name)])), ...more };
};
class AsyncResource { runInAsyncScope(body, self, ...parameters) { return body.apply(self, parameters); } emitDestroy() { return this; } static bind(body) { return body; } bind(body) { return body; } }
// Without a hook into promises: what is run at once sees the store, and what it waits for does not.
class AsyncLocalStorage {
  #store;
  run(store, body, ...parameters) { const before = this.#store; this.#store = store; try { return body(...parameters); } finally { this.#store = before; } }
  exit(body, ...parameters) { return this.run(undefined, body, ...parameters); }
  getStore() { return this.#store; }
  enterWith(store) { this.#store = store; }
  disable() { this.#store = undefined; }
}
const http = (module) => ofTheMachine(module, "createServer request get Agent Server ClientRequest", { METHODS: ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"], STATUS_CODES: { 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 301: "Moved Permanently", 302: "Found", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict", 410: "Gone", 413: "Payload Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout" }, globalAgent: {}, IncomingMessage: class IncomingMessage extends stream.Readable {}, ServerResponse: class ServerResponse extends stream.Writable {}, OutgoingMessage: class OutgoingMessage extends stream.Writable {} });
export const builtins = {
  assert, "assert/strict": assert.strict, path, "path/posix": path, fs, "fs/promises": fs.promises, util, "util/types": util.types, events: EventEmitter, process, url, crypto, querystring, string_decoder: stringDecoder, timers, "timers/promises": timersPromises, zlib,
  buffer: { Buffer, SlowBuffer, INSPECT_MAX_BYTES, kMaxLength, constants: { MAX_LENGTH: kMaxLength, MAX_STRING_LENGTH: 2 ** 29 }, atob: globalThis.atob, btoa: globalThis.btoa, isUtf8: (bytes) => native.decode(new Uint8Array(bytes), true) !== null },
  stream, "stream/promises": streamPromises, "stream/web": streams,
  os: { EOL: "\n", platform: () => "linux", tmpdir: () => "/tmp", homedir: () => "/home/sandbox", hostname: () => "sandbox", cpus: () => [{ model: "wasm", speed: 0, times: {} }], type: () => "Linux", arch: () => "wasm32", release: () => "0", version: () => "0", totalmem: () => 268435456, freemem: () => 134217728, endianness: () => "LE", uptime: () => 0, loadavg: () => [0, 0, 0], networkInterfaces: () => ({}), userInfo: () => ({ username: "sandbox", uid: 1000, gid: 1000, homedir: "/home/sandbox", shell: null }), availableParallelism: () => 1, constants: { signals: {}, errno: {} }, devNull: "/dev/null" },
  perf_hooks: { performance, PerformanceObserver: class PerformanceObserver { observe() {} disconnect() {} }, constants: {} },
  async_hooks: { AsyncLocalStorage, AsyncResource, createHook: () => ({ enable() { return this; }, disable() { return this; } }), executionAsyncId: () => 1, triggerAsyncId: () => 0 },
  diagnostics_channel: { channel: (name) => ({ name, hasSubscribers: false, publish() {}, subscribe() {}, unsubscribe() { return false; } }), hasSubscribers: () => false, subscribe() {}, unsubscribe() { return false; } },
  constants: fs.constants, punycode: { toASCII: (name) => new URL(`http://${name}`).hostname, toUnicode: (name) => name },
  child_process: ofTheMachine("child_process", "exec execFile execFileSync execSync fork spawn spawnSync"), cluster: ofTheMachine("cluster", "fork", { isMaster: true, isPrimary: true, isWorker: false, workers: {} }),
  dgram: ofTheMachine("dgram", "createSocket"), dns: ofTheMachine("dns", "lookup resolve resolve4 resolve6", { promises: ofTheMachine("dns", "lookup resolve") }), http: http("http"), https: http("https"), http2: ofTheMachine("http2", "connect createServer createSecureServer", { constants: {} }),
  inspector: ofTheMachine("inspector", "open close url Session"), net: ofTheMachine("net", "connect createConnection createServer Socket Server", { isIP: (text) => (/^\d{1,3}(\.\d{1,3}){3}$/.test(text) ? 4 : /^[0-9a-f:.]+$/i.test(text) && text.includes(":") ? 6 : 0), isIPv4: (text) => /^\d{1,3}(\.\d{1,3}){3}$/.test(text), isIPv6: (text) => /^[0-9a-f:.]+$/i.test(text) && text.includes(":") }),
  readline: ofTheMachine("readline", "createInterface", { clearLine: () => true, cursorTo: () => true, moveCursor: () => true }), "readline/promises": ofTheMachine("readline", "createInterface"), repl: ofTheMachine("repl", "start"), tls: ofTheMachine("tls", "connect createServer"), tty: ofTheMachine("tty", "ReadStream WriteStream", { isatty: () => false }), v8: ofTheMachine("v8", "getHeapStatistics setFlagsFromString", { serialize: (value) => Buffer.from(JSON.stringify(value)), deserialize: (bytes) => JSON.parse(bytes.toString()) }),
  vm: ofTheMachine("vm", "createContext runInContext runInNewContext Script SourceTextModule", { isContext: () => false, runInThisContext: (text) => (0, eval)(text) }), wasi: ofTheMachine("wasi", "WASI"), worker_threads: ofTheMachine("worker_threads", "Worker MessageChannel BroadcastChannel", { isMainThread: true, parentPort: null, workerData: null, threadId: 0 }),
};
define("fetch", async (of) => { throw new TypeError(`fetch(${typeof of === "string" ? of : of?.url ?? of}) is not in the sandbox: there is no network`); });
