import legacy from "util";
import { parseArgs } from "@pkgjs/parseargs";
import { inspect, format, formatWithOptions } from "node-inspect-extracted";
import { equals, iterableEquality, typeEquality, sparseArrayEquality, arrayBufferEquality } from "@vitest/expect";

// As node:assert's deepStrictEqual: prototypes, holes and symbols count.
// And what can be known by itself alone is; a regular expression has a state.
const alone = (a, b) => {
  if ([a, b].some((value) => value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef)) return Object.is(a, b);
  if (a instanceof RegExp && b instanceof RegExp) return String(a) === String(b) && a.lastIndex === b.lastIndex;
  return undefined;
};
const isDeepStrictEqual = (a, b) => equals(a, b, [alone, iterableEquality, typeEquality, sparseArrayEquality, arrayBufferEquality], true);
const tag = (name) => (value) => Object.prototype.toString.call(value) === `[object ${name}]`;
const codes = { reset: [0, 0], bold: [1, 22], dim: [2, 22], italic: [3, 23], underline: [4, 24], inverse: [7, 27], strikethrough: [9, 29], black: [30, 39], red: [31, 39], green: [32, 39], yellow: [33, 39], blue: [34, 39], magenta: [35, 39], cyan: [36, 39], white: [37, 39], gray: [90, 39], grey: [90, 39] };
inspect.colors ??= codes;
const types = {
  ...legacy.types, isPromise: tag("Promise"), isRegExp: tag("RegExp"), isDate: tag("Date"), isMap: tag("Map"), isSet: tag("Set"), isWeakMap: tag("WeakMap"), isWeakSet: tag("WeakSet"), isMapIterator: tag("Map Iterator"), isSetIterator: tag("Set Iterator"),
  isNativeError: (value) => value instanceof Error, isAsyncFunction: tag("AsyncFunction"), isGeneratorFunction: (value) => tag("GeneratorFunction")(value) || tag("AsyncGeneratorFunction")(value), isGeneratorObject: tag("Generator"), isProxy: () => false, isModuleNamespaceObject: tag("Module"),
  isAnyArrayBuffer: (value) => value instanceof ArrayBuffer, isArrayBuffer: (value) => value instanceof ArrayBuffer, isSharedArrayBuffer: tag("SharedArrayBuffer"), isArrayBufferView: ArrayBuffer.isView, isTypedArray: (value) => ArrayBuffer.isView(value) && !(value instanceof DataView), isDataView: (value) => value instanceof DataView, isUint8Array: (value) => value instanceof Uint8Array, isExternal: () => false,
  isBoxedPrimitive: (value) => [Number, String, Boolean, BigInt, Symbol].some((type) => value instanceof type), isSymbolObject: (value) => value instanceof Symbol,
};
export const util = {
  ...legacy, inspect, format, formatWithOptions, parseArgs, isDeepStrictEqual, types,
  TextEncoder: globalThis.TextEncoder, TextDecoder: globalThis.TextDecoder,
  debuglog: () => Object.assign(() => {}, { enabled: false }), debug: () => Object.assign(() => {}, { enabled: false }),
  stripVTControlCharacters: (text) => text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007]*(?:\u0007|\u001b\\)/g, ""),
  styleText: (names, text) => [names].flat().reduceRight((inner, name) => `\u001b[${codes[name][0]}m${inner}\u001b[${codes[name][1]}m`, text),
  toUSVString: (text) => String(text).toWellFormed?.() ?? String(text),
  aborted: (signal) => new Promise((resolve) => { signal.addEventListener("abort", resolve); }),
};
