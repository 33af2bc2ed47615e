// One WebSocket for the whole page, with any number of subscriptions over it. Each remembers the last `seq` that it saw, and goes on
// behind it after the connection was lost: records are on the journal, so nothing is missed and nothing comes twice.

const WAIT_FIRST_MS = 250;
const WAIT_MAX_MS = 10_000;
/** How long the page may not have been running before its connection is taken for dead: a laptop that slept. */
const SLEPT_MS = 20_000;
const BEAT_MS = 5_000;
/** How long the server may say nothing before it is asked whether it is there, and how long it has for the answer. */
const SILENCE_MS = 30_000;
const ANSWER_MS = 10_000;
/** What is kept for one frame. More than this means that the tab does not get to run: it fetches again instead. */
const WAITING_MAX = 20_000;

const subscriptions = new Map();
const watchers = new Set();
let socket = null;
let state = "connecting";
let failures = 0;
let timer = null;
let waiting = [];
let overflowed = false;
let flushing = false;
let heardAt = 0;
let askedAt = 0;
let beatAt = Date.now();
let probe = async () => true;

/** Calls back with `live`, `connecting`, `reconnecting` or `paused`. */
export function watch(callback) {
  watchers.add(callback);
  callback(state);
}

function become(next) {
  if (state === next) return;
  state = next;
  for (const callback of watchers) callback(state);
}

/**
 * Begins. `allowed` says whether it makes sense to try again: a socket does not tell that it was refused for want of a token.
 * @param {() => Promise<boolean>} allowed
 */
export function start(allowed) {
  probe = allowed;
  connect();
  setInterval(beat, BEAT_MS);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && beat());
  addEventListener("online", reconnect);
}

/** Ends the connection there is, and begins another at once. */
export function reconnect() {
  failures = 0;
  drop();
  connect();
}

/** Ends the connection until `reconnect`. */
export function pause() {
  drop();
  become("paused");
}

function drop() {
  clearTimeout(timer);
  timer = null;
  if (!socket) return;
  const old = socket;
  socket = null;
  old.onopen = old.onmessage = old.onclose = old.onerror = null;
  old.close();
}

function connect() {
  clearTimeout(timer);
  timer = null;
  if (state !== "connecting") become("reconnecting");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/v1/live`);
  socket.onopen = opened;
  socket.onmessage = received;
  socket.onclose = lost;
}

function opened() {
  failures = 0;
  heardAt = Date.now();
  askedAt = 0;
  for (const subscription of subscriptions.values()) request(subscription);
  become("live");
}

async function lost() {
  socket = null;
  become("reconnecting");
  failures += 1;
  const most = Math.min(WAIT_MAX_MS, WAIT_FIRST_MS * 2 ** Math.min(failures, 10));
  // Jitter, so that all pages that lost the same server do not come back in the same instant.
  const wait = most / 2 + (Math.random() * most) / 2;
  timer = setTimeout(async () => {
    timer = -1;
    const allowed = failures < 2 || (await probe());
    if (timer !== -1) return; // somebody connected, or paused, meanwhile
    if (allowed) connect();
    else become("paused");
  }, wait);
}

/** Looks whether the page slept, and whether the server is still there. A hidden page is left alone: its timers are slow anyway. */
function beat() {
  const now = Date.now();
  if (document.visibilityState !== "visible") return;
  const slept = now - beatAt > SLEPT_MS;
  beatAt = now;
  if (state === "paused") return;
  if (slept) return reconnect();
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (askedAt && now - askedAt > ANSWER_MS && heardAt < askedAt) return reconnect();
  if (now - heardAt > SILENCE_MS && heardAt >= askedAt) {
    askedAt = now;
    // A browser cannot ping; a question that is answered does as well.
    send({ subscribe: "still-there", topics: ["plugins"] });
  }
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function request({ name, filter, last }) {
  send({ subscribe: name, ...filter, ...(last === null ? {} : { after: last }) });
}

/**
 * Follows events. `callback` gets a list of messages, at most once a frame.
 * @param {string} name of the subscription: a second one of the same name takes its place
 * @param {{topics?: string[], runs?: string[], plugins?: string[], after?: number}} options
 * @returns {() => void} ends it
 */
export function subscribe(name, { after = null, ...filter }, callback) {
  const subscription = { name, filter, callback, last: after };
  subscriptions.set(name, subscription);
  request(subscription);
  return () => {
    if (subscriptions.get(name) !== subscription) return;
    subscriptions.delete(name);
    send({ unsubscribe: name });
  };
}

function received(event) {
  heardAt = Date.now();
  let message;
  try {
    message = JSON.parse(event.data);
  } catch {
    return;
  }
  if (waiting.length < WAITING_MAX) waiting.push(message);
  else overflowed = true;
  if (flushing) return;
  flushing = true;
  // Frames do not come to a hidden tab, and messages do.
  if (document.visibilityState === "visible") requestAnimationFrame(flush);
  else setTimeout(flush, 1000);
}

document.addEventListener("visibilitychange", () => {
  // A frame that was asked for may never come once the tab is hidden.
  if (document.visibilityState === "hidden" && flushing) setTimeout(flush, 1000);
});

function flush() {
  if (!flushing) return;
  flushing = false;
  const messages = waiting;
  waiting = [];
  const bundles = new Map();
  for (const message of messages) sort(message, bundles);
  if (overflowed) {
    overflowed = false;
    for (const { name } of subscriptions.values()) bundle(bundles, name, { type: "gap", detail: "the page was too slow" });
  }
  for (const [name, list] of bundles) hand(subscriptions.get(name), list);
}

function hand(subscription, list) {
  try {
    subscription?.callback(list);
  } catch (error) {
    console.error(error); // one view's fault must not stop the others
  }
}

function bundle(bundles, name, message) {
  const subscription = subscriptions.get(name);
  if (!subscription) return;
  if (typeof message.seq === "number") subscription.last = Math.max(subscription.last ?? 0, message.seq);
  if (!bundles.has(name)) bundles.set(name, []);
  bundles.get(name).push(message);
}

function sort(message, bundles) {
  if (message.type === "subscribed") {
    const subscription = subscriptions.get(message.subscription);
    if (subscription) subscription.last ??= message.seq;
  } else if (message.type === "problem") {
    console.warn("the live connection was refused something:", message.problem?.detail);
  } else if (message.subscriptions) {
    for (const name of message.subscriptions) bundle(bundles, name, message);
  }
}
