// Time, which moves when nothing else is left to do: a test that waits for an hour does not take one.
import { native, define } from "./native.js";

let [now, ticket, timers] = [0, 0, []];

class Timeout {
  constructor(id) { this.id = id; }
  ref() { return this; }
  unref() { return this; }
  hasRef() { return true; }
  refresh() {
    const timer = timers.find((timer) => timer.id === this.id);
    if (timer) timer.due = now + timer.delay;
    return this;
  }
  close() { clear(this); return this; }
  [Symbol.toPrimitive]() { return this.id; }
}

const later = (repeat) => (body, wait = 0, ...parameters) => {
  if (typeof body !== "function") throw Object.assign(new TypeError("The \"callback\" argument must be of type function."), { code: "ERR_INVALID_ARG_TYPE" });
  const delay = Math.max(0, Number(wait) || 0);
  const timer = { id: ++ticket, delay, due: now + delay, body: () => body(...parameters), repeat };
  timers.push(timer);
  return new Timeout(timer.id);
};
export const setTimeout = later(false);
export const setInterval = later(true);
export const setImmediate = (body, ...parameters) => setTimeout(body, 0, ...parameters);
export const clear = (which) => {
  const id = which instanceof Timeout ? which.id : Number(which);
  timers = timers.filter((timer) => timer.id !== id);
};

/** Lets the next timer fire; false when there is none. */
export const turn = () => {
  if (!timers.length) return false;
  const next = timers.reduce((first, timer) => (timer.due < first.due || (timer.due === first.due && timer.id < first.id) ? timer : first));
  now = Math.max(now, next.due);
  if (next.repeat) next.due = now + Math.max(1, next.delay);
  else clear(next.id);
  next.body();
  return true;
};
/** Whether a timer is left that does not repeat: what a runner would wait for. */
export const isWaiting = () => timers.some((timer) => !timer.repeat);
/** Milliseconds that timers have taken. */
export const elapsed = () => now;

// The clocks move with the timers that have fired, and with the engine's own.
const NativeDate = Date;
const own = NativeDate.now.bind(NativeDate);
export const millis = () => Math.floor(own() + now);
NativeDate.now = millis;
const MovingDate = new Proxy(NativeDate, {
  construct: (target, parameters, made) => Reflect.construct(target, parameters.length ? parameters : [target.now()], made === MovingDate ? target : made),
  apply: (target) => new target(target.now()).toString(),
});
NativeDate.prototype.constructor = MovingDate;
const entries = [];
export const performance = {
  timeOrigin: 0,
  now: () => now + native.elapsed(),
  mark(name) { const entry = { name, entryType: "mark", startTime: performance.now(), duration: 0 }; entries.push(entry); return entry; },
  measure(name) { const entry = { name, entryType: "measure", startTime: 0, duration: performance.now() }; entries.push(entry); return entry; },
  getEntries: () => [...entries],
  getEntriesByName: (name) => entries.filter((entry) => entry.name === name),
  getEntriesByType: (type) => entries.filter((entry) => entry.entryType === type),
  clearMarks() { entries.length = 0; },
  clearMeasures() { entries.length = 0; },
  toJSON: () => ({ timeOrigin: 0 }),
};

export const queueMicrotask = (body) => { Promise.resolve().then(body); };
define("Date", MovingDate);
define("performance", performance);
define("queueMicrotask", queueMicrotask);
for (const [name, value] of Object.entries({ setTimeout, setInterval, setImmediate, clearTimeout: clear, clearInterval: clear, clearImmediate: clear })) define(name, value);
