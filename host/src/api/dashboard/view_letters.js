// The page of dead letters: tasks that were given up and set aside, until a person deals with them.

import { complain, get, notice, path, post } from "./api.js";
import { cut, dialog, empty, h, heading, mark, paced, say, swap, sync, table } from "./dom.js";
import { count, counted, short, time } from "./format.js";
import * as live from "./live.js";
import { taskHash } from "./view_run.js";

const PAGE = 100;
const REFRESH_MS = 1000;
const FILTER_MS = 300;
const FIELDS = [["workflow", "Workflow"], ["step", "Step"], ["reason", "Reason"]];
const CHANGES = new Set(["task_dead_lettered", "task_requeued", "task_discarded"]);

export function showLetters(main) {
  const letters = new Map();
  const selected = new Set();
  const kept = new Map();
  let next = null;
  let loaded = false;
  let gone = false;
  let timer = null;
  let asked = 0;
  let reading = false;

  const fields = FIELDS.map(([name, label]) => h("input", { type: "search", placeholder: label, "aria-label": `Filter by ${name}`, name, oninput: () => later(FILTER_MS) }));
  const [, , reason] = fields;
  const all = h("input", { type: "checkbox", "aria-label": "Select all that are shown", onchange: () => selectAll(all.checked) });
  const list = table("dead-letters-table", "Dead letters", [{ label: "", class: "tick", node: all }, { label: "Task" }, { label: "Workflow" }, { label: "Run" }, { label: "Given up" }, { label: "Reason", class: "wide" }]);
  const requeue = h("button", { type: "button", "data-testid": "requeue", onclick: () => deal("requeue") });
  const discard = h("button", { type: "button", class: "danger", "data-testid": "discard", onclick: () => deal("discard") });
  const more = h("button", { type: "button", onclick: () => load(next) }, "More");
  const foot = h("div", { class: "row foot" }, more);
  const nothing = h("div");
  const summary = h("span", { class: "hint" });
  main.append(h("div", { class: "row head" }, heading("Dead letters"), summary, h("span", { class: "spring" }), ...fields), h("div", { class: "row head" }, requeue, discard), list.element, nothing, foot);

  const query = () => Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]).filter(([, value]) => value));
  const redraw = paced(draw, 60);

  function later(ms) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = null;
      if (reading) later(ms); // what is under way comes to its end first
      else load(null);
    }, ms);
  }

  async function load(after) {
    asked += 1;
    const mine = asked;
    reading = true;
    try {
      const wanted = after ? PAGE : Math.max(PAGE, letters.size);
      const read = [];
      let from = after;
      do {
        // Fewer come at once where they are long.
        const page = await get(path(["dead-letters"], { limit: Math.min(1000, wanted - read.length), after: from, ...query() }));
        if (gone || mine !== asked) return;
        read.push(...page.dead_letters);
        from = page.next;
      } while (from && read.length < wanted);
      if (!after) letters.clear();
      for (const letter of read) letters.set(letter.letter, letter);
      for (const name of selected) if (!letters.has(name)) selected.delete(name);
      next = from;
      loaded = true;
    } catch (error) {
      complain(error);
    } finally {
      if (mine === asked) reading = false;
    }
    redraw();
  }

  function draw() {
    const shown = [...letters.values()];
    sync(list.body, kept, shown, ({ letter }) => letter, create, update);
    list.element.hidden = shown.length === 0;
    foot.hidden = !next;
    all.checked = shown.length > 0 && selected.size === shown.length;
    all.indeterminate = selected.size > 0 && selected.size < shown.length;
    const what = selected.size ? counted(selected.size, "letter") : Object.keys(query()).length ? "all that fit the filter" : "all";
    say(requeue, `Requeue ${what}…`);
    say(discard, `Discard ${what}…`);
    mark(requeue, "class", selected.size ? "primary" : null);
    requeue.disabled = discard.disabled = shown.length === 0;
    say(summary, loaded ? `${count(shown.length)}${next ? "+" : ""}` : "reading…");
    const filtered = Object.keys(query()).length > 0;
    swap(nothing, shown.length || !loaded ? "" : String(filtered), () => {
      if (shown.length || !loaded) return [];
      if (filtered) return empty("No dead letter fits the filter.", "Clear the fields above to see all.");
      return empty("There are no dead letters.", "A task is set aside here when its attempts or revisions are used up, and its step says ", h("code", null, 'on_exhausted = "dead_letter"'), ".");
    });
  }

  function create(letter) {
    const tr = list.row({ "data-testid": `dead-letter-${letter.letter}` });
    const box = h("input", { type: "checkbox", "aria-label": `Select ${letter.step}[${letter.index}] of ${letter.workflow}`, onchange: () => choose(letter.letter, box.checked) });
    tr.box_ = box;
    const cells = [
      box, h("a", { href: taskHash(letter.run, letter.step, letter.index), "data-nav": true, class: "row-link" }, `${letter.step}[${letter.index}]`), cut(letter.workflow, 80),
      h("a", { href: `#/runs/${encodeURIComponent(letter.run)}`, title: letter.run, class: "id" }, short(letter.run)), time(letter.at), h("span", { class: "reason-text" }, cut(letter.reason, 600)),
    ];
    tr.cells_.forEach((cell, at) => cell.append(cells[at]));
    return tr;
  }

  function update(tr, letter) {
    tr.box_.checked = selected.has(letter.letter);
    mark(tr, "aria-selected", selected.has(letter.letter) ? "true" : null);
  }

  function choose(name, on) {
    if (on) selected.add(name);
    else selected.delete(name);
    redraw();
  }

  function selectAll(on) {
    selected.clear();
    if (on) for (const name of letters.keys()) selected.add(name);
    redraw();
  }

  function toggleFocused() {
    const box = document.activeElement?.closest("tr")?.box_;
    if (!box) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
  }

  async function deal(command) {
    const which = selected.size ? { letters: [...selected] } : Object.keys(query()).length ? query() : { all: true };
    const what = selected.size ? counted(selected.size, "dead letter") : Object.keys(query()).length ? "every dead letter that fits the filter" : "every dead letter";
    const isRequeue = command === "requeue";
    const body = h("p", null, isRequeue ? "These tasks are run again, with the same input, and the runs that they belong to go on." : "Nobody wants more of these tasks: they stay failed. What they were is still in the history of their runs.");
    const done = await dialog({ title: `${isRequeue ? "Requeue" : "Discard"} ${what}?`, body, action: isRequeue ? "Requeue" : "Discard", danger: !isRequeue, testid: `confirm-${command}`, submit: () => post("/v1/dead-letters/commands", { command, ...which }) });
    if (!done) return;
    const refused = (done.refused ?? []).map((run) => ` ${short(run.run)} refused: ${run.why}.`).join("");
    notice(`${counted(done.letters?.length ?? 0, "dead letter")} ${isRequeue ? "requeued" : "discarded"}.${refused}`, "info");
    selected.clear();
    load(null);
  }

  const unsubscribe = live.subscribe("letters", { topics: ["tasks"] }, (messages) => {
    const changed = messages.some((message) => message.type === "gap" || CHANGES.has(message.record?.event));
    if (changed && timer === null) later(REFRESH_MS);
  });
  draw();
  load(null);
  return {
    filter: reason,
    keys: { x: toggleFocused },
    leave: () => {
      gone = true;
      unsubscribe();
      clearTimeout(timer);
      redraw.stop();
    },
  };
}
