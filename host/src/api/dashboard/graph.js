// The steps of a run as a graph: layered by what they need, left to right, and kept up to date in place.

import { clean, cut, h, mark, s, say, sync } from "./dom.js";

const WIDTH = 184;
const HEIGHT = 54;
const GAP_X = 46;
const GAP_Y = 16;
const PAD = 10;
/** More than this is no picture any more. */
const STEPS_MAX = 400;

/** The height of an edge that passes over a layer. */
const SLOT = 10;
const GATES_SHOWN = 8;

/** Paths in a box of 12 by 12: a shape for each status, so that colour is not the only cue. */
const ICONS = {
  waiting: "M6 2v4l2.6 1.8M6 .8a5.2 5.2 0 1 0 0 10.4A5.2 5.2 0 0 0 6 .8",
  active: "M3 1.5v9L10.5 6z",
  completed: "M1.5 6.5l3 3 6-7",
  failed: "M2 2l8 8M10 2l-8 8",
  skipped: "M1.5 2l4.5 4-4.5 4M6 2l4.5 4L6 10",
  cancelled: "M2 6h8",
};

/**
 * What each step stands behind: what it needs; where that planned, the last steps of the plan, since the whole plan is waited for; and for
 * the first steps of a plan, the step that planned them.
 * @returns {{from: number, planned: boolean}[][]} by place
 */
function links(steps, places) {
  const planned = new Map();
  const planners = steps.map((step) => plannerOf(step, places));
  planners.forEach((planner, at) => {
    if (planner === undefined || planner >= steps.length) return;
    if (!planned.has(planner)) planned.set(planner, []);
    planned.get(planner).push(at);
  });
  const ends = (at, above) => {
    const last = (planned.get(at) ?? []).filter((one) => !planned.get(at).some((other) => steps[other].needs.includes(steps[one].id)));
    return last.length === 0 || above.has(at) ? [at] : last.flatMap((one) => ends(one, new Set([...above, at])));
  };
  return steps.map((step, at) => {
    const needs = step.needs.map((need) => places.get(need)).filter((need) => need !== undefined && need < steps.length);
    const behind = needs.flatMap((need) => ends(need, new Set())).map((from) => ({ from, planned: false }));
    const planner = planners[at];
    if (behind.length === 0 && planner !== undefined && planner < steps.length) behind.push({ from: planner, planned: true });
    return behind;
  });
}

/** The layer of each step: one behind the last of those that it stands behind. What needs itself, or nothing known, stands in the first. */
function layers(behind) {
  const depth = new Array(behind.length).fill(-1);
  const visit = (at, above) => {
    if (depth[at] >= 0) return depth[at];
    if (above.has(at)) return -1;
    above.add(at);
    const deepest = Math.max(-1, ...behind[at].map(({ from }) => visit(from, above)));
    above.delete(at);
    depth[at] = deepest + 1;
    return depth[at];
  };
  behind.forEach((_, at) => visit(at, new Set()));
  return depth;
}

/** `STEP/ID` and `STEP.INDEX/ID` are steps of a plan that STEP made. */
function plannerOf(step, places) {
  const slash = step.id.lastIndexOf("/");
  if (slash < 0) return undefined;
  const name = step.id.slice(0, slash);
  return places.get(name) ?? places.get(name.replace(/\.\d+$/, ""));
}

/**
 * Places for steps and edges. An edge that passes over layers has a slot of its own in each of them, so that it never runs through a step;
 * edges from the same step share theirs.
 */
function arrange(steps, places) {
  const behind = links(steps, places);
  const depth = layers(behind);
  const columns = Array.from({ length: Math.max(...depth) + 1 }, () => new Map());
  steps.forEach((_, at) => columns[depth[at]].set(at, { id: at, height: HEIGHT, order: at, ins: [] }));
  const lines = [];
  behind.forEach((list, to) => {
    for (const { from, planned } of list) {
      const through = [];
      for (let layer = depth[from] + 1; layer < depth[to]; layer += 1) {
        const id = `${from}~${layer}`;
        if (!columns[layer].has(id)) columns[layer].set(id, { id, height: SLOT, order: from, ins: [through.at(-1)?.id ?? from] });
        through.push({ id, layer });
      }
      columns[depth[to]].get(to).ins.push(through.at(-1)?.id ?? from);
      lines.push({ key: `${from}>${to}`, from, to, planned, through });
    }
  });
  const middle = new Map();
  let tallest = 0;
  for (const column of columns) tallest = Math.max(tallest, stack([...column.values()], middle));
  const top = PAD + tallest / 2;
  const x = (layer) => PAD + layer * (WIDTH + GAP_X);
  const spots = steps.map((_, at) => ({ x: x(depth[at]), y: top + middle.get(at) - HEIGHT / 2 }));
  for (const line of lines) line.path = curve(line, spots, (id) => top + middle.get(id), x);
  return { lines, spots, width: x(columns.length) - GAP_X + PAD, height: top * 2 };
}

/** Stacks what stands in a layer around 0, by the mean of what it comes from, so that edges cross little. Returns its height. */
function stack(column, middle) {
  for (const item of column) {
    const from = item.ins.map((id) => middle.get(id)).filter((y) => y !== undefined);
    item.weight = from.length ? from.reduce((sum, y) => sum + y, 0) / from.length : 0;
  }
  column.sort((a, b) => a.weight - b.weight || a.order - b.order);
  const height = column.reduce((sum, item) => sum + item.height + GAP_Y, -GAP_Y);
  let y = -height / 2;
  for (const item of column) {
    middle.set(item.id, y + item.height / 2);
    y += item.height + GAP_Y;
  }
  return height;
}

function curve({ from, to, through }, spots, y, x) {
  let at = [spots[from].x + WIDTH, y(from)];
  let path = `M${at[0]} ${at[1]}`;
  const bend = (toX, toY) => {
    const half = (toX - at[0]) / 2;
    path += `C${at[0] + half} ${at[1]} ${toX - half} ${toY} ${toX} ${toY}`;
  };
  for (const { id, layer } of through) {
    bend(x(layer), y(id));
    at = [x(layer) + WIDTH, y(id)];
    path += `H${at[0]}`;
  }
  bend(spots[to].x - 1, y(to));
  return path;
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
      name: s("text", { class: "name", x: 29, y: 22 }),
      icon: s("path", { class: "icon", transform: "translate(11 12)" }),
      counts: s("text", { class: "counts", x: WIDTH - 10, y: 21, "text-anchor": "end" }),
      worker: s("text", { class: "sub", x: 10, y: 38 }),
      done: s("rect", { class: "done", x: 1, y: HEIGHT - 5, height: 4, width: 0 }),
      given: s("rect", { class: "given", y: HEIGHT - 5, height: 4, width: 0 }),
      gates: step.gates.slice(0, GATES_SHOWN).map((gate, at, shown) => gateMark(gate, shown.length - 1 - at)),
    };
    g.append(
      parts.title,
      s("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 5 }),
      parts.icon,
      parts.name,
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
    const counts = step.total === null ? "" : `${done(step)}/${step.total}`;
    say(parts.counts, counts);
    say(parts.name, cut(step.id, Math.floor((WIDTH - 44 - counts.length * 7) / 7.6)));
    const kinds = traits(step);
    const room = 25 - Math.min(step.gates.length, GATES_SHOWN) * 2;
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
    const { lines, spots } = arranged;
    sync(edges, keptEdges, lines, (line) => line.key, () => s("path"), (path, line) => {
      mark(path, "d", line.path);
      mark(path, "data-status", steps[line.from].status);
      mark(path, "class", line.planned ? "planned" : null);
    });
    sync(nodes, keptNodes, steps, (step) => step.id, node, (g, step) => update(g, step, spots[model.places.get(step.id)]));
  }

  return { element, draw, select: (id) => keptNodes.forEach((g, key) => mark(g, "data-chosen", key === id ? "" : null)) };
}
