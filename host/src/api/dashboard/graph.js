// The steps of a run as a graph: layered by what they need, left to right, and kept up to date in place.

import { clean, cut, h, mark, s, say, sync } from "./dom.js";

const WIDTH = 184;
const HEIGHT = 54;
const GAP_X = 46;
const GAP_Y = 16;
const PAD = 10;
/** More than this is no picture any more. */
const STEPS_MAX = 400;

/** Paths in a box of 12 by 12: a shape for each status, so that colour is not the only cue. */
const ICONS = {
  waiting: "M6 2v4l2.6 1.8M6 .8a5.2 5.2 0 1 0 0 10.4A5.2 5.2 0 0 0 6 .8",
  active: "M3 1.5v9L10.5 6z",
  completed: "M1.5 6.5l3 3 6-7",
  failed: "M2 2l8 8M10 2l-8 8",
  skipped: "M1.5 2l4.5 4-4.5 4M6 2l4.5 4L6 10",
  cancelled: "M2 6h8",
};

/** The layer of each step: one behind the last of those that it needs. What needs itself, or nothing known, stands in the first. */
function layers(steps, places) {
  const depth = new Array(steps.length).fill(-1);
  const visit = (at, above) => {
    if (depth[at] >= 0) return depth[at];
    if (above.has(at)) return 0;
    above.add(at);
    let deepest = -1;
    for (const need of steps[at].needs) {
      const place = places.get(need);
      if (place !== undefined && place < steps.length) deepest = Math.max(deepest, visit(place, above));
    }
    // A planned step has no needs of its own at first: it stands behind the step that planned it.
    const planner = plannerOf(steps[at], places);
    if (planner !== undefined && planner < steps.length) deepest = Math.max(deepest, visit(planner, above));
    above.delete(at);
    depth[at] = deepest + 1;
    return depth[at];
  };
  steps.forEach((_, at) => visit(at, new Set()));
  return depth;
}

/** `STEP/ID` and `STEP.INDEX/ID` are steps of a plan that STEP made. */
function plannerOf(step, places) {
  const slash = step.id.lastIndexOf("/");
  if (slash < 0) return undefined;
  const name = step.id.slice(0, slash);
  return places.get(name) ?? places.get(name.replace(/\.\d+$/, ""));
}

function arrange(steps, places) {
  const depth = layers(steps, places);
  const columns = [];
  steps.forEach((_, at) => (columns[depth[at]] ??= []).push(at));
  const row = new Map();
  columns.forEach((column) => {
    // By the mean of what they need, so that edges cross little.
    const weight = (at) => {
      const needs = steps[at].needs.map((need) => row.get(places.get(need))).filter((place) => place !== undefined);
      return needs.length ? needs.reduce((sum, place) => sum + place, 0) / needs.length : at;
    };
    const weights = new Map(column.map((at) => [at, weight(at)]));
    column.sort((a, b) => weights.get(a) - weights.get(b) || a - b);
    column.forEach((at, place) => row.set(at, place - (column.length - 1) / 2));
  });
  const tallest = Math.max(...columns.map((column) => column.length));
  const middle = PAD + (tallest * (HEIGHT + GAP_Y) - GAP_Y) / 2;
  const spots = steps.map((_, at) => ({
    x: PAD + depth[at] * (WIDTH + GAP_X),
    y: middle + row.get(at) * (HEIGHT + GAP_Y) - HEIGHT / 2,
  }));
  return { spots, width: PAD * 2 + columns.length * (WIDTH + GAP_X) - GAP_X, height: middle * 2 };
}

const done = (step) => step.counts.completed ?? 0;
const given = (step) => (step.counts.failed ?? 0) + (step.counts.dead_lettered ?? 0);
const waits = (step) => step.counts.approving ?? 0;

function told(step) {
  const parts = [`step ${step.id}`, step.status, `${done(step)} of ${step.total ?? "?"} tasks completed`];
  if (given(step)) parts.push(`${given(step)} given up`);
  if (waits(step)) parts.push(`${waits(step)} wait for approval`);
  if (step.needs.length) parts.push(`needs ${step.needs.join(", ")}`);
  if (step.gates.length) parts.push(`gates ${step.gates.join(", ")}`);
  return parts.join("; ");
}

const KINDS = [
  ["foreach", "each", "one task for each input"],
  ["approval", "approval", "a person approves"],
  ["optional", "optional", "the run goes on without it"],
  ["expand", "plans", "its result is a plan: more steps"],
];

function traits(step) {
  return KINDS.filter(([field]) => step[field]).map(([, word]) => word).join(" · ");
}

/** @param {(step: object) => void} choose called with the step that was clicked */
export function graph(choose) {
  const edges = s("g", { class: "edges", "aria-hidden": "true" });
  const nodes = s("g");
  const svg = s("svg", { role: "group", "aria-label": "Steps, by what they need", "data-testid": "graph" }, edges, nodes);
  const note = h("p", { class: "hint", hidden: true });
  const element = h("div", null, h("div", { class: "scroll graph", tabindex: "-1" }, svg), note);
  const keptNodes = new Map();
  const keptEdges = new Map();
  let arranged = null;
  let known = 0;

  function node(step) {
    const g = s("g", {
      class: "step",
      "data-testid": `step-${step.id}`,
      role: "button",
      tabindex: "0",
      onclick: () => choose(step),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(step);
      },
    });
    const parts = {
      title: s("title"),
      icon: s("path", { class: "icon", transform: "translate(11 12)" }),
      counts: s("text", { class: "counts", x: WIDTH - 10, y: 21, "text-anchor": "end" }),
      worker: s("text", { class: "sub", x: 10, y: 38 }),
      done: s("rect", { class: "done", x: 1, y: HEIGHT - 5, height: 4, width: 0 }),
      given: s("rect", { class: "given", y: HEIGHT - 5, height: 4, width: 0 }),
      gates: step.gates.slice(0, 8).map((gate, at) => gateMark(gate, at)),
    };
    g.append(
      parts.title,
      s("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 5 }),
      parts.icon,
      s("text", { class: "name", x: 29, y: 22 }, cut(step.id, 17)),
      parts.counts,
      parts.worker,
      ...parts.gates.map(({ g: gate }) => gate),
      parts.done,
      parts.given,
    );
    g.parts_ = parts;
    return g;
  }

  function gateMark(gate, at) {
    const title = s("title", null, `gate ${gate}`);
    const g = s("g", { class: "gate", transform: `translate(${WIDTH - 15 - at * 13} 35)` }, title, s("path", { d: "M0 -5L5 0L0 5L-5 0Z" }));
    return { g, title, gate };
  }

  function update(g, step, spot) {
    const { parts_: parts } = g;
    mark(g, "data-status", step.status);
    mark(g, "transform", `translate(${spot.x} ${spot.y})`);
    mark(g, "aria-label", told(step));
    say(parts.title, told(step));
    mark(parts.icon, "d", ICONS[step.status] ?? ICONS.waiting);
    say(parts.counts, step.total === null ? "" : `${done(step)}/${step.total}`);
    const kinds = traits(step);
    const room = 25 - Math.min(step.gates.length, 8) * 2;
    say(parts.worker, cut(waits(step) ? `${waits(step)} to approve` : kinds ? `${step.worker} · ${kinds}` : step.worker, room));
    mark(parts.worker, "class", waits(step) ? "sub waits" : "sub");
    const total = Math.max(step.total ?? 0, 1);
    const inner = WIDTH - 2;
    mark(parts.done, "width", (inner * Math.min(done(step), total)) / total);
    mark(parts.given, "x", 1 + (inner * done(step)) / total);
    mark(parts.given, "width", (inner * given(step)) / total);
    for (const { g: gate, title, gate: name } of parts.gates) {
      const rejections = step.rejections.get(name) ?? 0;
      mark(gate, "data-rejected", rejections > 0 ? "" : null);
      say(title, rejections ? `gate ${name}: ${rejections} findings` : `gate ${name}`);
    }
  }

  function edge({ from, to }) {
    const x1 = from.x + WIDTH;
    const [y1, x2, y2] = [from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
    const bend = Math.max(18, (x2 - x1) / 2);
    return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 1} ${y2}`;
  }

  function draw(model) {
    const steps = model.steps.slice(0, STEPS_MAX);
    if (!arranged || known !== model.steps.length) {
      known = model.steps.length;
      arranged = arrange(steps, model.places);
      mark(svg, "width", arranged.width);
      mark(svg, "height", arranged.height);
      mark(svg, "viewBox", `0 0 ${arranged.width} ${arranged.height}`);
      note.hidden = model.steps.length <= STEPS_MAX;
      note.textContent = clean(`The first ${STEPS_MAX} of ${model.steps.length} steps.`);
    }
    const { spots } = arranged;
    const lines = [];
    steps.forEach((step, at) => {
      const planner = plannerOf(step, model.places);
      const needs = step.needs.map((need) => model.places.get(need));
      if (planner !== undefined && !needs.some((need) => plannerOf(steps[need] ?? { id: "" }, model.places) === planner)) needs.push(planner);
      for (const need of needs) {
        if (need !== undefined && need < steps.length) lines.push({ key: `${need}>${at}`, from: spots[need], to: spots[at], planned: need === planner, status: steps[need].status });
      }
    });
    sync(edges, keptEdges, lines, (line) => line.key, () => s("path"), (path, line) => {
      mark(path, "d", edge(line));
      mark(path, "data-status", line.status);
      mark(path, "class", line.planned ? "planned" : null);
    });
    sync(nodes, keptNodes, steps, (step) => step.id, node, (g, step) => update(g, step, spots[model.places.get(step.id)]));
  }

  return { element, draw, select: (id) => keptNodes.forEach((g, key) => mark(g, "data-chosen", key === id ? "" : null)) };
}
