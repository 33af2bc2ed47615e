// Events and signals, which the libraries look for when they are loaded.
import { Event, EventTarget } from "event-target-shim";
import { define } from "./native.js";
import { setTimeout } from "./clock.js";

define("EventTarget", EventTarget);
define("Event", Event);
define("CustomEvent", class CustomEvent extends Event {
  #detail;
  constructor(type, options) { super(type, options); this.#detail = options?.detail ?? null; }
  get detail() { return this.#detail; }
});
define("DOMException", globalThis.DOMException ?? class DOMException extends Error {
  constructor(message = "", name = "Error") { super(message); Object.defineProperty(this, "name", { value: name, configurable: true }); this.code = { AbortError: 20, TimeoutError: 23, DataCloneError: 25 }[name] ?? 0; }
});
class AbortSignal extends EventTarget {
  aborted = false;
  reason = undefined;
  onabort = null;
  throwIfAborted() { if (this.aborted) throw this.reason; }
  static abort(reason) { const own = new AbortController(); own.abort(reason); return own.signal; }
  static timeout(wait) { const own = new AbortController(); setTimeout(() => own.abort(new DOMException("The operation was aborted due to timeout", "TimeoutError")), wait); return own.signal; }
  static any(signals) {
    const own = new AbortController();
    for (const signal of signals) {
      if (signal.aborted) { own.abort(signal.reason); break; }
      signal.addEventListener("abort", () => own.abort(signal.reason));
    }
    return own.signal;
  }
}
class AbortController {
  signal = new AbortSignal();
  abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    if (this.signal.aborted) return;
    Object.assign(this.signal, { aborted: true, reason });
    const event = new Event("abort");
    this.signal.onabort?.(event);
    this.signal.dispatchEvent(event);
  }
}
define("AbortController", AbortController);
define("AbortSignal", AbortSignal);
