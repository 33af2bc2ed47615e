// What ran when: a lane for each task, with the calls of its worker and its gates, what it waited for, and when it was sent back.

import { clean, cut, h, mark, s, say, sync } from "./dom.js";
import { bytes, clock, count, duration, fuel } from "./format.js";
import { RUN_ENDED } from "./model.js";

/** How many lanes are drawn: those with the latest calls. */
export const LANES_SHOWN = 300;
const LANE = 18;
const AXIS = 22;
const MARGIN = 8;
const ZOOM_MAX = 64;
/** How long a lane's name may be. */
const LABEL = 29;

const STEPS_MS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5, 864e5];

function ticks(span, room) {
  const most = Math.max(2, Math.floor(room / 90));
  const step = STEPS_MS.find((candidate) => span / candidate <= most) ?? span / most;
  const list = [];
  for (let at = 0; at <= span && list.length < 200; at += step) list.push(at);
  return list;
}

/** A name that fits beside a lane: of a path, the folders go first. */
function brief(name) {
  let rest = name;
  while (rest.length > LABEL && rest.includes("/")) rest = rest.slice(rest.indexOf("/") + 1);
  return cut(rest === name || !rest ? name : `…/${rest}`, LABEL);
}

/** What a call was, in a sentence. */
function sentence(call, lane, model, from) {
  const step = model.steps[lane.place];
  const task = model.tasks.get(lane.key);
  const name = `${step?.id ?? lane.place}[${task?.input || lane.index}]`;
  const span = call.end === null ? "so far" : `took ${duration(call.end - call.start)}`;
  const when = `at ${duration(call.start - from)} (${clock(call.start)})`;
  const what = {
    attempt: () => `worker ${step?.worker ?? ""}, attempt ${call.attempt}, revision ${call.revision}: ${call.outcome}`,
    gate: () => `gate ${step?.gates[call.gate] ?? call.gate}, attempt ${call.attempt}, revision ${call.revision}: ${call.outcome}`,
    wait: () => call.note,
    mark: () => (call.outcome === "sent back" ? `sent back for revision ${call.revision}` : call.outcome),
  }[call.kind]();
  const cost = call.receipt ? `fuel ${fuel(call.receipt.fuel)}, peak memory ${bytes(call.receipt.peak_memory_bytes)}` : null;
  const note = call.note && call.kind !== "wait" ? call.note : null;
  return [name, what, call.kind === "mark" ? when : `${when}, ${span}`, cost, note].filter(Boolean).join(" — ");
}

/** @param {(key: {step: number, index: number}) => void} choose called with the lane that was opened */
export function timeline(choose) {
  const axis = s("g", { class: "axis", "aria-hidden": "true" });
  const grid = s("g", { class: "grid", "aria-hidden": "true" });
  const calls = s("g");
  const svg = s("svg", { role: "group", "aria-label": "Calls over time; arrow keys move between them, Enter opens the task", class: "calls" }, grid, calls);
  const head = s("svg", { class: "axis-row", height: AXIS, "aria-hidden": "true" }, axis);
  const labels = h("div", { class: "lane-labels", "aria-hidden": "true" });
  const board = h("div", { class: "lanes-board" }, h("div", { class: "lane-corner" }), head, labels, svg);
  const scroll = h("div", { class: "scroll lanes", "data-testid": "timeline" }, board);
  const detail = h("p", { class: "lane-detail", "aria-live": "polite" });
  const note = h("span", { class: "hint" });
  const zoomOut = h("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoomTo(zoom / 2) }, "−");
  const zoomIn = h("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoomTo(zoom * 2) }, "+");
  const fit = h("button", { type: "button", onclick: () => zoomTo(1) }, "Fit");
  const legend = h("span", { class: "legend", "aria-hidden": "true" }, [
    ["running", "running"], ["completed", "worker"], ["passed", "gate passed"], ["rejected", "rejected"], ["failed", "failed"], ["waiting", "waits"], ["back", "sent back"],
  ].map(([name, word]) => h("span", { class: `key ${name}` }, word)));
  const element = h("div", null, h("div", { class: "row lanes-tools" }, legend, note, h("span", { class: "spring" }), zoomOut, zoomIn, fit), scroll, detail);
  const keptCalls = new Map();
  const keptLabels = new Map();
  const keptTicks = new Map();
  const keptGrid = new Map();
  let zoom = 1;
  let last = null;
  let shown = new Map();
  let focusable = null;
  // What runs is at the end: it is followed until somebody scrolls away.
  let following = true;
  scroll.addEventListener("scroll", () => {
    following = scroll.scrollTop + scroll.clientHeight >= scroll.scrollHeight - LANE * 2;
  });

  function zoomTo(next) {
    const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / scroll.scrollWidth;
    zoom = Math.min(ZOOM_MAX, Math.max(1, next));
    redraw();
    scroll.scrollLeft = middle * scroll.scrollWidth - scroll.clientWidth / 2;
  }

  const tell = (id) => {
    const found = shown.get(id);
    if (found) say(detail, sentence(found.call, found.lane, last.model, last.from));
  };
  calls.addEventListener("pointerover", (event) => event.target.dataset.id && tell(event.target.dataset.id));
  calls.addEventListener("focusin", (event) => event.target.dataset.id && tell(event.target.dataset.id));
  calls.addEventListener("click", (event) => {
    const found = shown.get(event.target.dataset.id);
    if (found) choose({ step: found.lane.place, index: found.lane.index });
  });
  calls.addEventListener("keydown", (event) => move(event));

  function move(event) {
    const found = shown.get(event.target.dataset.id);
    if (!found) return;
    if (event.key === "Enter") {
      event.preventDefault();
      choose({ step: found.lane.place, index: found.lane.index });
      return;
    }
    const next = neighbour(found, event.key);
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (next) focusOn(next);
  }

  /** The bar in the direction of an arrow key; null where there is none, undefined for other keys. */
  function neighbour({ lane, call }, key) {
    const at = lane.calls.indexOf(call);
    if (key === "ArrowRight") return lane.calls[at + 1] ?? null;
    if (key === "ArrowLeft") return lane.calls[at - 1] ?? null;
    if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
    const lanes = last.lanes;
    const other = lanes[lanes.indexOf(lane) + (key === "ArrowDown" ? 1 : -1)];
    if (!other) return null;
    return other.calls.reduce((best, one) => (Math.abs(one.start - call.start) < Math.abs(best.start - call.start) ? one : best), other.calls[0]);
  }

  function focusOn(call) {
    const element = keptCalls.get(call.id);
    if (!element) return;
    if (focusable) keptCalls.get(focusable)?.setAttribute("tabindex", "-1");
    focusable = call.id;
    element.setAttribute("tabindex", "0");
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function visible(lanes) {
    const all = [...lanes.lanes.values()];
    const latest = all.slice(-LANES_SHOWN);
    return latest.sort((a, b) => a.first - b.first || a.place - b.place || a.index - b.index);
  }

  function draw({ lanes: record, model, shortened, ready }) {
    const lanes = visible(record);
    if (lanes.length === 0) {
      say(detail, ready ? "No worker was called yet." : "Reading records…");
      return;
    }
    if (!last) say(detail, "Point at a bar, or focus one, to see what it is.");
    const running = !RUN_ENDED.has(model.status);
    const from = lanes.length < record.lanes.size ? lanes[0].first : record.from;
    const to = Math.max(running ? Date.now() : record.to, record.to, from + 0.5);
    const width = Math.max(240, scroll.clientWidth - labels.offsetWidth - 4) * zoom;
    const x = (at) => MARGIN + ((Math.min(at, to) - from) / (to - from)) * (width - MARGIN * 2);
    const height = lanes.length * LANE + 4;
    mark(svg, "width", width);
    mark(svg, "height", height);
    mark(head, "width", width);
    drawAxis(ticks(to - from, width), from, x, height);
    drawLabels(lanes, model);
    drawCalls(lanes, x, to, model);
    last = { lanes, record, model, shortened, ready, from };
    if (running && following) scroll.scrollTop = scroll.scrollHeight;
    const parts = [];
    if (lanes.length < record.lanes.size || record.dropped) parts.push(`the latest ${lanes.length} of ${count(record.lanes.size + record.dropped)} tasks that ran`);
    if (shortened) parts.push("of the latest records only");
    if (!ready) parts.push("reading records…");
    say(note, parts.join("; "));
  }

  function drawAxis(list, from, x, height) {
    sync(axis, keptTicks, list, (at) => at, () => s("text", { y: 15 }), (element, at) => {
      mark(element, "x", x(from + at));
      mark(element, "text-anchor", at === 0 ? "start" : "middle");
      say(element, at === 0 ? "0" : duration(at));
    });
    sync(grid, keptGrid, list, (at) => at, () => s("line", { y1: 0 }), (element, at) => {
      mark(element, "x1", x(from + at));
      mark(element, "x2", x(from + at));
      mark(element, "y2", height);
    });
  }

  function drawLabels(lanes, model) {
    sync(labels, keptLabels, lanes, (lane) => lane.key, () => h("div", { class: "lane-label" }), (element, lane) => {
      const task = model.tasks.get(lane.key);
      const step = model.steps[lane.place];
      const text = task?.input || (step?.foreach ? `${step.id}[${lane.index}]` : step?.id ?? lane.key);
      mark(element, "data-status", task?.status);
      mark(element, "title", clean(`${step?.id ?? ""}[${lane.index}] ${task?.input ?? ""}`));
      say(element, brief(text));
    });
  }

  function drawCalls(lanes, x, to, model) {
    const items = [];
    shown = new Map();
    lanes.forEach((lane, row) => {
      for (const call of lane.calls) {
        items.push({ call, lane, row });
        shown.set(call.id, { call, lane });
      }
    });
    if (!shown.has(focusable)) focusable = items[0]?.call.id ?? null;
    sync(calls, keptCalls, items, ({ call }) => call.id, create, (element, item) => place(element, item, x, to, model));
  }

  function create({ call }) {
    const element = s(call.kind === "mark" ? "path" : "rect", { class: call.kind, "data-id": call.id, tabindex: "-1", role: "img" });
    return element;
  }

  function place(element, { call, lane, row }, x, to, model) {
    const top = row * LANE + 2;
    mark(element, "data-outcome", call.outcome);
    mark(element, "tabindex", call.id === focusable ? "0" : "-1");
    mark(element, "aria-label", `${model.steps[lane.place]?.id ?? ""} ${lane.index}: ${call.kind} ${call.outcome}`);
    const left = x(call.start);
    if (call.kind === "mark") {
      const up = top + LANE / 2 - 1;
      mark(element, "d", call.outcome === "sent back" ? `M${left - 4} ${up}l6 -5v10z` : `M${left - 4} ${up - 4}l8 8m0 -8l-8 8`);
      return;
    }
    const right = x(call.end ?? to);
    const gates = Math.max(1, Math.min(model.steps[lane.place]?.gates.length ?? 1, 4));
    const [offset, height] = call.kind === "gate" ? [((call.gate % gates) * (LANE - 6)) / gates, (LANE - 6) / gates - (gates > 1 ? 1 : 0)] : call.kind === "wait" ? [4, LANE - 14] : [0, LANE - 6];
    mark(element, "x", left);
    mark(element, "y", top + offset);
    mark(element, "width", Math.max(2, right - left));
    mark(element, "height", height);
  }

  const redraw = () => last && draw({ lanes: last.record, model: last.model, shortened: last.shortened, ready: last.ready });
  return { element, draw, redraw };
}
