// What the libraries look for when they are loaded.
import { native, define } from "./native.js";
import "./clock.js";
import "./events.js";
import structuredClone from "@ungap/structured-clone";

define("global", globalThis);

class TextEncoder {
  get encoding() { return "utf-8"; }
  encode(text = "") { return native.encode(String(text)); }
  encodeInto(text, into) {
    let [read, written] = [0, 0];
    for (const letter of String(text)) {
      const bytes = native.encode(letter);
      if (written + bytes.length > into.length) break;
      into.set(bytes, written);
      written += bytes.length;
      read += letter.length;
    }
    return { read, written };
  }
}
const labels = { "utf-8": "utf-8", utf8: "utf-8", "unicode-1-1-utf-8": "utf-8", latin1: "windows-1252", ascii: "windows-1252", "us-ascii": "windows-1252", "iso-8859-1": "windows-1252", "windows-1252": "windows-1252", "utf-16": "utf-16le", "utf-16le": "utf-16le", "ucs-2": "utf-16le" };
class TextDecoder {
  #rest = [];
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    this.encoding = labels[String(label).trim().toLowerCase()];
    if (!this.encoding) throw new RangeError(`The encoding ${label} is not known`);
    Object.assign(this, { fatal, ignoreBOM });
  }
  decode(data, { stream = false } = {}) {
    const view = data === undefined ? new Uint8Array() : ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    if (this.encoding === "windows-1252") return Array.from(view, (byte) => String.fromCharCode(byte)).join("");
    let bytes = this.#rest.length ? Uint8Array.from([...this.#rest, ...view]) : view;
    this.#rest = [];
    if (this.encoding === "utf-16le") {
      let text = "";
      for (let at = 0; at + 1 < bytes.length; at += 2) text += String.fromCharCode(bytes[at] | (bytes[at + 1] << 8));
      return text;
    }
    if (stream) {
      // What a letter begins with waits for its end.
      let start = bytes.length;
      for (let back = 1; back <= 3 && back <= bytes.length; back += 1) {
        const byte = bytes[bytes.length - back];
        if ((byte & 0xc0) === 0x80) continue;
        const wants = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        if (wants > back) start = bytes.length - back;
        break;
      }
      this.#rest = [...bytes.subarray(start)];
      bytes = bytes.subarray(0, start);
    }
    const text = native.decode(bytes, this.fatal);
    if (text === null) throw Object.assign(new TypeError("The encoded data was not valid for encoding utf-8"), { code: "ERR_ENCODING_INVALID_ENCODED_DATA" });
    return this.ignoreBOM ? text : text.replace(/^\uFEFF/, "");
  }
}
define("TextEncoder", TextEncoder);
define("TextDecoder", TextDecoder);
define("structuredClone", (value, options) => structuredClone(value, options));
// What the libraries ask of a process before there is one.
define("process", { env: {}, argv: [], nextTick: (body, ...parameters) => queueMicrotask(() => body(...parameters)), cwd: () => native.root, platform: "linux", version: "v22.0.0", versions: { node: "22.0.0" }, browser: false, emitWarning() {} });
define("console", Object.fromEntries(["log", "info", "debug", "warn", "error"].map((name) => [name, () => {}])));
// What the engine has not, and libraries touch when they are loaded, for uses that nobody here makes of them.
const borrowed = { Atomics: {}, WebAssembly: { compile: () => new Promise(() => {}) } };
for (const name of Object.keys(borrowed)) { if (name in globalThis) delete borrowed[name]; else define(name, borrowed[name]); }
export const giveBack = () => { for (const name of Object.keys(borrowed)) delete globalThis[name]; };

// What V8's call sites tell beside what the engine's do: libraries that look at their callers ask for it.
const prepare = Error.prepareStackTrace;
let site;
Error.prepareStackTrace = (_, sites) => { [site] = sites; return ""; };
void new Error().stack;
Error.prepareStackTrace = prepare;
if (site) {
  const more = { getThis: undefined, getTypeName: null, getFunction: undefined, getMethodName: null, getEvalOrigin: undefined, isToplevel: true, isEval: false, isConstructor: false, isAsync: false, isPromiseAll: false, getPromiseIndex: null, getScriptHash: "" };
  const kind = Object.getPrototypeOf(site);
  for (const [name, value] of Object.entries(more)) if (!(name in kind)) Object.defineProperty(kind, name, { value: () => value, writable: true, configurable: true });
  if (!("getScriptNameOrSourceURL" in kind)) Object.defineProperty(kind, "getScriptNameOrSourceURL", { value() { return this.getFileName(); }, writable: true, configurable: true });
}
// A stack begins with what happened, as V8 has it: what prints an error prints its stack.
const stack = Object.getOwnPropertyDescriptor(Error.prototype, "stack");
if (stack?.get) {
  Object.defineProperty(Error.prototype, "stack", {
    ...stack,
    get() {
      const frames = stack.get.call(this);
      if (typeof frames !== "string") return frames;
      const first = String(this);
      return frames.startsWith(first) ? frames : `${first}\n${frames}`.trimEnd();
    },
  });
}
