// The bridge to the gate. It is there while the harness starts, and nobody else gets to see it.
export const native = globalThis.native;
delete globalThis.native;

// What the harness itself needs, whatever code under test does to it later.
export const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
export const isThenable = (value) => value !== null && (typeof value === "object" || typeof value === "function") && typeof value.then === "function";
