// The page of a run: its graph, its timeline and its tasks, kept up to date from the records.

import { complain, notice, path, post, tell } from "./api.js";
import { ask as askFor, badge, bar, cut, empty, h, heading, mark, paced, say, setBadge, swap, sync, table } from "./dom.js";
import { bytes, count, counted, duration, fuel, instant, short, time } from "./format.js";
import { graph } from "./graph.js";
import { failureText, GIVEN_UP, RUN_ENDED, TASK_STATUSES } from "./model.js";
import { open } from "./story.js";
import { timeline } from "./timeline.js";

const SHOWN_FIRST = 100;
const SHOWN_MORE = 500;

const COLUMNS = [
  { label: "Status" }, { label: "Task" }, { label: "Attempts", class: "number", sort: (task) => task.attempts }, { label: "Revisions", class: "number", sort: (task) => task.revisions },
  { label: "Findings", class: "number", sort: (task) => task.findings.length }, { label: "Fuel", class: "number", sort: (task) => task.usage.fuel },
  { label: "Peak memory", class: "number", sort: (task) => task.usage.peak_memory_bytes }, { label: "Time", class: "number", sort: (task) => task.usage.wall_time_ms },
];

export const taskHash = (run, step, index) => `#/runs/${encodeURIComponent(run)}/tasks/${encodeURIComponent(step)}/${index}`;

export function showRun(main, [id]) {
  const story = open(id);
  const commands = path(["runs", id, "commands"]);
  const title = heading("Run ", short(id));
  const status = badge("…", "run-status");
  const facts = h("dl", { class: "facts" });
  const reasons = h("div", { class: "reasons" });
  const buttons = h("div", { class: "row" });
  const approvals = h("div");
  const reading = h("p", { class: "hint" }, "Reading the run…");
  const body = h("div", { hidden: true });
  main.append(h("div", { class: "row head" }, title, status, h("span", { class: "id", title: id }, id), h("span", { class: "spring" }), buttons), reading, body);

  const list = taskList(id);
  const picture = graph((step) => list.choose(step.id));
  const lanes = timeline(({ step, index }) => (location.hash = taskHash(id, story.model.steps[step].id, index)));
  const section = (name, ...children) => h("section", { "aria-label": name }, h("h2", null, name), ...children);
  const graphSection = section("Steps", picture.element);
  body.append(facts, reasons, approvals, graphSection, section("Timeline", lanes.element), list.element);

  const drawLanes = paced(() => {
    if (story.model) lanes.draw({ lanes: story.lanes, model: story.model, shortened: story.shortened, ready: story.lanesReady });
  }, 400);

  function draw() {
    const { model } = story;
    if (!model) return;
    reading.hidden = true;
    body.hidden = false;
    const name = cut(model.workflow, 80);
    if (title.dataset.name !== name) {
      title.dataset.name = name;
      say(title, name);
      document.title = `${title.textContent} · sandhog`;
    }
    setBadge(status, model.degraded.length && model.status === "completed" ? "completed (degraded)" : model.status);
    mark(status, "data-status", model.status);
    drawFacts(facts, model);
    drawReasons(reasons, model);
    drawButtons(model);
    drawApprovals(approvals, model, list);
    picture.draw(model);
    drawLanes();
    list.draw(model);
  }

  function drawButtons(model) {
    const ended = RUN_ENDED.has(model.status);
    const counts = model.counts();
    const given = [...GIVEN_UP].reduce((sum, word) => sum + (counts[word] ?? 0), 0);
    swap(buttons, `${model.status}/${given}`, () => [
      given > 0 && model.status !== "cancelled" && h("button", { type: "button", onclick: () => tell(commands, { command: "retry", tasks: [] }, `${counted(given, "task")} will be run again.`) }, `Retry ${count(given)} given up`),
      model.status === "running" && h("button", { type: "button", "data-testid": "pause", onclick: () => tell(commands, { command: "pause", reason: "paused in the dashboard" }, "The run is being paused.") }, "Pause"),
      model.status === "paused" && h("button", { type: "button", "data-testid": "resume", class: "primary", onclick: () => tell(commands, { command: "resume" }, "The run goes on.") }, "Resume"),
      !ended && model.status !== "cancelling" && h("button", { type: "button", class: "danger", "data-testid": "cancel", onclick: cancel }, "Cancel…"),
    ].filter(Boolean));
  }

  function cancel() {
    askFor({
      title: "Cancel this run?", label: "Reason", action: "Cancel the run", danger: true, required: true,
      help: "Nothing starts any more, and what runs is ended. What completed stays.",
      submit: async (reason) => {
        await post(commands, { command: "cancel", reason });
        notice("The run is being cancelled.", "info");
      },
    });
  }

  const unlisten = story.onChange(draw);
  const ticking = setInterval(() => story.model && !RUN_ENDED.has(story.model.status) && document.visibilityState === "visible" && draw(), 1000);
  const resized = new ResizeObserver(paced(() => lanes.redraw(), 150));
  resized.observe(main);
  story.ready.then(
    () => {
      draw();
      if (!story.lanesReady) story.loadLanes();
    },
    (error) => {
      complain(error);
      status.hidden = true;
      reading.replaceWith(empty("This run cannot be shown.", error.message, " ", h("a", { href: "#/runs" }, "All runs")));
    },
  );
  return {
    filter: list.filter,
    leave: () => {
      unlisten();
      clearInterval(ticking);
      resized.disconnect();
      drawLanes.stop();
    },
  };
}

function drawFacts(facts, model) {
  const took = model.startedAt && !RUN_ENDED.has(model.status) ? Date.now() - instant(model.startedAt) : model.tookMs;
  const counts = model.counts();
  const [done, total] = [counts.completed ?? 0, model.total()];
  const given = (counts.failed ?? 0) + (counts.dead_lettered ?? 0);
  const cells = [
    ["Tasks", `${count(done)}/${count(total)}`], ["Given up", count(given)], ["Started", null], ["Took", duration(took)],
    ["Fuel", fuel(model.usage.fuel)], ["Peak memory", bytes(model.usage.peak_memory_bytes)], ["Records", count(model.version)],
  ];
  if (!facts.values_) {
    facts.values_ = cells.map(() => h("dd"));
    facts.meter_ = h("div", { class: "facts-meter" });
    facts.append(...cells.map(([label], at) => h("div", null, h("dt", null, label), facts.values_[at])), facts.meter_);
  }
  cells.forEach(([label, value], at) => {
    if (label === "Started") swap(facts.values_[at], model.startedAt ?? "", () => time(model.startedAt));
    else say(facts.values_[at], value);
  });
  swap(facts.meter_, `${done}/${given}/${total}`, () => bar([["done", done / Math.max(total, 1)], ["bad", given / Math.max(total, 1)]], `${done} of ${total} tasks completed, ${given} given up`));
}

function drawReasons(reasons, model) {
  const lines = [
    model.pausedBecause && ["Paused: ", model.pausedBecause],
    model.cancelledBecause && ["Cancelled: ", model.cancelledBecause],
    ...model.degraded.map((what) => ["Done without: ", what]),
  ].filter(Boolean);
  swap(reasons, JSON.stringify(lines), () => lines.map(([what, why]) => h("p", { class: "reason" }, h("b", null, what), cut(why, 2000))));
}

function drawApprovals(box, model, list) {
  const steps = model.steps.filter((step) => step.counts.approving > 0);
  swap(box, steps.map((step) => `${step.id}:${step.counts.approving}`).join(), () =>
    steps.map((step) =>
      h("p", { class: "reason waits" }, h("b", null, `${counted(step.counts.approving, "task")} of ${step.id}`), step.counts.approving === 1 ? " waits for a person. " : " wait for a person. ",
        h("button", { type: "button", onclick: () => list.choose(step.id, "approving") }, "Look at them"))));
}

/** The list of tasks: filtered, sorted, and no longer than somebody asked for. */
function taskList(run) {
  const kept = new Map();
  const chips = new Map();
  const state = { status: null, step: null, sort: null, down: true, shown: SHOWN_FIRST };
  let model = null;
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter tasks by text", oninput: () => again() });
  const heads = COLUMNS.map((column) => (column.sort ? { ...column, node: h("button", { type: "button", class: "sort", onclick: () => sortBy(column) }, column.label) } : column));
  const list = table("tasks-table", "Tasks", heads);
  const row = h("div", { class: "row chips", role: "group", "aria-label": "Filter tasks by status" });
  const chosen = h("span");
  const more = h("button", { type: "button", onclick: () => { state.shown += SHOWN_MORE; again(); } });
  const rest = h("span", { class: "hint" });
  const nothing = h("div");
  const element = h("section", { "aria-label": "Tasks" }, h("div", { class: "row head" }, h("h2", null, "Tasks"), chosen, h("span", { class: "spring" }), filter), row, list.element, nothing, h("div", { class: "row foot" }, more, rest));

  const again = () => model && draw(model);

  function sortBy(column) {
    state.down = state.sort === column.label ? !state.down : true;
    state.sort = column.label;
    heads.forEach(({ label, node }) => node && mark(node.parentElement, "aria-sort", label === state.sort ? (state.down ? "descending" : "ascending") : null));
    again();
  }

  function choose(step, status = null) {
    state.step = state.step === step && status === null ? null : step;
    state.status = status;
    state.shown = SHOWN_FIRST;
    again();
    element.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  function wanted() {
    const text = filter.value.trim().toLowerCase();
    const some = [];
    for (const task of model.tasks.values()) {
      if (state.status && task.status !== state.status) continue;
      if (state.step && task.step !== state.step) continue;
      if (text && !`${task.step}[${task.index}] ${task.input ?? ""} ${task.failure?.message ?? ""}`.toLowerCase().includes(text)) continue;
      some.push(task);
    }
    const column = COLUMNS.find(({ label }) => label === state.sort);
    const by = column ? (a, b) => (state.down ? -1 : 1) * (column.sort(a) - column.sort(b)) : () => 0;
    return some.sort((a, b) => by(a, b) || a.place - b.place || a.index - b.index);
  }

  function draw(next) {
    model = next;
    drawChips();
    const some = wanted();
    const shown = some.slice(0, state.shown);
    const changed = model.dirty;
    sync(list.body, kept, shown, (task) => task.key, create, (tr, task) => (changed.has(task.key) || !tr.drawn_ || task.dueAt) && update(tr, task));
    changed.clear();
    list.element.hidden = shown.length === 0;
    more.hidden = some.length <= shown.length;
    say(more, `Show ${count(Math.min(SHOWN_MORE, some.length - shown.length))} more`);
    const waiting = model.total() - model.tasks.size;
    say(rest, [some.length > shown.length && `${count(shown.length)} of ${count(some.length)} shown`, waiting > 0 && !state.status && `${count(waiting)} not started yet`].filter(Boolean).join("; "));
    swap(nothing, shown.length ? "" : `${model.tasks.size > 0}`, () => {
      if (shown.length) return [];
      if (model.tasks.size > 0) return empty("No task fits the filter.", "Choose another status, or clear the filter.");
      return empty("No task has started yet.", "They appear here as soon as a worker is called.");
    });
  }

  function drawChips() {
    const counts = state.step ? { ...model.steps[model.places.get(state.step)]?.counts } : model.counts();
    const words = TASK_STATUSES.filter((status) => counts[status] > 0 || status === state.status);
    sync(row, chips, words, (status) => status, (status) => h("button", { type: "button", class: "chip", "data-status": status, onclick: () => { state.status = state.status === status ? null : status; again(); } }), (chip, status) => {
      mark(chip, "aria-pressed", String(state.status === status));
      say(chip, `${status.replaceAll("_", " ")} ${count(counts[status] ?? 0)}`);
    });
    swap(chosen, state.step ?? "", () => (state.step ? h("button", { type: "button", class: "chip", "aria-label": `Show tasks of all steps, not only of ${state.step}`, onclick: () => choose(state.step) }, "step ", state.step, " ×") : []));
  }

  function create(task) {
    const tr = list.row({ "data-testid": `task-row-${task.step}-${task.index}` });
    tr.badge_ = badge(task.status);
    tr.extra_ = h("span", { class: "why" });
    tr.link_ = h("a", { href: taskHash(run, task.step, task.index), "data-nav": true, class: "row-link" });
    tr.cells_[0].append(tr.badge_);
    tr.cells_[1].append(tr.link_, tr.extra_);
    return tr;
  }

  function update(tr, task) {
    tr.drawn_ = true;
    setBadge(tr.badge_, task.status);
    swap(tr.link_, task.input ?? "", () => [h("span", { class: "task-name" }, `${task.step}[${task.index}]`), task.input ? [" ", cut(task.input, 160)] : null]);
    say(tr.extra_, extra(task));
    const [, , attempts, revisions, findings, used, memory, took] = tr.cells_;
    say(attempts, count(task.attempts));
    say(revisions, count(task.revisions));
    mark(revisions, "data-tone", task.revisions ? "waits" : "none");
    say(findings, count(task.findings.length));
    mark(findings, "data-tone", task.findings.length ? "waits" : "none");
    say(used, fuel(task.usage.fuel));
    say(memory, bytes(task.usage.peak_memory_bytes));
    say(took, duration(task.usage.wall_time_ms));
  }

  return { element, filter, draw, choose };
}

/** What else is to say of a task, in a few words. */
function extra(task) {
  if (task.status === "retrying" && task.dueAt) return `again in ${duration(Math.max(0, instant(task.dueAt) - Date.now()))}`;
  if (task.status === "running" && task.progress) return `${Math.round((task.progress.fraction ?? 0) * 100)} % ${cut(task.progress.note ?? "", 80)}`;
  if (task.failure && task.status !== "completed") return cut(failureText(task.failure), 140);
  return "";
}
