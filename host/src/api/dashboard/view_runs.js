// The page of runs: a live list, and the dialog that starts one.

import { complain, get, notice, path, post, Refused } from "./api.js";
import { badge, bar, clean, cut, dialog, empty, h, heading, mark, paced, say, setBadge, swap, sync, table } from "./dom.js";
import { count, counted, duration, instant, short, time } from "./format.js";
import * as live from "./live.js";
import { RUN_ENDED } from "./model.js";

const PAGE = 50;
/** How many rows are kept of a page that is left open: the newest. */
const ROWS_MAX = 2000;
/** How long a row waits that is asked for anew, since its counts do not follow from the records alone. */
const REFRESH_MS = 1000;

const COLUMNS = [
  { label: "Status" }, { label: "Workflow" }, { label: "Tasks", class: "wide" }, { label: "Failed", class: "number" }, { label: "Dead letters", class: "number" },
  { label: "To approve", class: "number" }, { label: "Started" }, { label: "Took", class: "number" },
];

const FILTERS = [["", "all"], ["open", "open"], ["completed", "completed"], ["failed", "failed"], ["cancelled", "cancelled"]];

const ended = (status) => (row, record) => Object.assign(row, { status, ended_at: record.at, degraded: record.degraded ?? [] });

/** What a record changes of a row: the rules of `host/src/journal/views.rs`. */
const FOLDS = {
  plan_accepted: (row, record) => row.steps.push(...(record.steps ?? []).map((step) => step.id)),
  step_started: (row, record) => (row.tasks += record.tasks),
  attempt_started: (row) => (row.attempts += 1),
  task_completed: (row) => (row.completed += 1),
  task_failed: (row) => (row.failed += 1),
  task_dead_lettered: (row) => {
    row.failed += 1;
    row.dead_letters += 1;
  },
  task_requeued: (row) => (row.failed = Math.max(0, row.failed - 1)),
  task_discarded: (row) => (row.dead_letters = Math.max(0, row.dead_letters - 1)),
  approval_requested: (row) => (row.approving += 1),
  approval_given: (row) => (row.approving = Math.max(0, row.approving - 1)),
  approval_refused: (row) => (row.approving = Math.max(0, row.approving - 1)),
  cancel_requested: (row) => Object.assign(row, { status: "cancelling", approving: 0 }),
  run_paused: (row) => (row.status = "paused"),
  run_resumed: (row) => (row.status = "running"),
  run_reopened: (row) => Object.assign(row, { status: "running", ended_at: null, degraded: [] }),
  run_completed: ended("completed"),
  run_failed: ended("failed"),
  run_cancelled: ended("cancelled"),
};

/** After these, the server is asked: whether a task was a dead letter before does not follow from the record. */
const ASKS = new Set(["task_requeued"]);

export function showRuns(main) {
  const rows = new Map();
  const kept = new Map();
  const stale = new Set();
  let next = null;
  let loaded = false;
  let failed = false;
  let gone = false;
  let status = "";
  let refreshing = null;
  let unsubscribe = null;

  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter runs by text", oninput: () => ask(), "data-testid": "runs-filter" });
  const select = h("select", { "aria-label": "Filter runs by status", onchange: () => { status = select.value; ask(); } }, FILTERS.map(([value, word]) => h("option", { value }, word)));
  const list = table("runs-table", "Runs", COLUMNS);
  const older = h("button", { type: "button", onclick: () => page() }, "Older runs");
  const foot = h("div", { class: "row foot" }, older);
  const nothing = h("div");
  const summary = h("span", { class: "hint" });
  main.append(
    h("div", { class: "row head" }, heading("Runs"), summary, h("span", { class: "spring" }), filter, select,
      h("button", { type: "button", class: "primary", onclick: () => startRun(), "data-testid": "start-run" }, "Start a run")),
    list.element, nothing, foot,
  );

  const ask = paced(draw, 120);
  const ticking = setInterval(ask, 1000);

  function wanted(row) {
    if (status === "open" ? RUN_ENDED.has(row.status) : status && row.status !== status) return false;
    const text = filter.value.trim().toLowerCase();
    return !text || `${row.workflow} ${row.run} ${row.status} ${row.idempotency_key ?? ""} ${(row.steps ?? []).join(" ")}`.toLowerCase().includes(text);
  }

  function draw() {
    const all = [...rows.values()].sort((a, b) => instant(b.started_at) - instant(a.started_at) || (a.run < b.run ? 1 : -1));
    const some = all.filter(wanted);
    sync(list.body, kept, some, (row) => row.run, create, update);
    const open = all.filter((row) => !RUN_ENDED.has(row.status)).length;
    say(summary, loaded ? `${open} open of ${count(all.length)}${next ? "+" : ""}` : failed ? "" : "reading…");
    foot.hidden = !next;
    list.element.hidden = some.length === 0;
    swap(nothing, some.length || !loaded ? "" : all.length ? "filtered" : "none", () => {
      if (some.length || !loaded) return [];
      if (all.length) return empty("No run fits the filter.", "Press Esc in the filter to clear it", next ? ", or look for older runs." : ".");
      return empty("There are no runs yet.", "Start one with the button above, or with ", h("code", null, "sandhog run FILE"), " in a terminal.");
    });
  }

  function create(row) {
    const tr = list.row({ "data-testid": `run-row-${row.run}` });
    const [state, name, tasks, , , , started] = tr.cells_;
    tr.badge_ = badge(row.status);
    state.append(tr.badge_);
    const link = h("a", { href: `#/runs/${encodeURIComponent(row.run)}`, "data-nav": true, class: "row-link" }, cut(row.workflow, 80));
    name.append(link, " ", h("span", { class: "id", title: row.run }, short(row.run)));
    tr.meter_ = h("span", { class: "meter-holder" });
    tr.count_ = h("span", { class: "number" });
    tasks.append(tr.meter_, tr.count_);
    started.append(time(row.started_at));
    return tr;
  }

  function update(tr, row) {
    const [, , , bad, dead, approving, , took] = tr.cells_;
    setBadge(tr.badge_, row.degraded?.length && row.status === "completed" ? "completed (degraded)" : row.status);
    mark(tr.badge_, "data-status", row.status);
    mark(tr.badge_, "title", row.degraded?.length ? row.degraded.join("; ") : null);
    const total = Math.max(row.tasks, 1);
    const lost = Math.max(row.failed, row.dead_letters);
    say(tr.count_, `${count(row.completed)}/${count(row.tasks)}`);
    swap(tr.meter_, `${row.completed}/${lost}/${row.tasks}`, () => bar([["done", row.completed / total], ["bad", lost / total]], `${row.completed} of ${row.tasks} tasks completed`));
    number(bad, row.failed, "bad");
    number(dead, row.dead_letters, "bad");
    number(approving, row.approving, "waits");
    say(took, duration((row.ended_at ? instant(row.ended_at) : Date.now()) - instant(row.started_at)));
  }

  function number(cell, value, tone) {
    say(cell, count(value ?? 0));
    mark(cell, "data-tone", value > 0 ? tone : "none");
  }

  async function page(first = false) {
    older.disabled = true;
    try {
      const { runs, next: more } = await get(path(["runs"], { limit: PAGE, before: first ? null : next }));
      if (gone) return;
      for (const row of runs) rows.set(row.run, row);
      next = more;
      loaded = true;
    } catch (error) {
      failed = true;
      complain(error);
    } finally {
      older.disabled = false;
      ask();
    }
  }

  function receive(messages) {
    for (const message of messages) {
      if (message.type === "gap") begin();
      else if (message.type === "record") fold(message.record);
    }
    ask();
  }

  function fold(record) {
    const row = rows.get(record.run);
    if (record.event === "run_started" && !row) return add(record);
    if (!row || record.version <= row.version) return;
    if (record.version > row.version + 1) want(record.run);
    row.version = record.version;
    row.changed_at = record.at;
    FOLDS[record.event]?.(row, record);
    if (record.receipt) row.fuel += record.receipt.fuel ?? 0;
    if (ASKS.has(record.event)) want(record.run);
  }

  function add(record) {
    const { workflow } = record;
    rows.set(record.run, {
      run: record.run, workflow: workflow?.name ?? "", status: "running", degraded: [], started_at: record.at, ended_at: null, changed_at: record.at, version: record.version,
      steps: (workflow?.steps ?? []).map((step) => step.id), tasks: 0, completed: 0, failed: 0, dead_letters: 0, approving: 0, attempts: 0, fuel: 0,
    });
    while (rows.size > ROWS_MAX) {
      const oldest = [...rows.values()].reduce((a, b) => (instant(a.started_at) < instant(b.started_at) ? a : b));
      rows.delete(oldest.run);
    }
  }

  function want(run) {
    stale.add(run);
    refreshing ??= setTimeout(refresh, REFRESH_MS);
  }

  /** Asks for rows whose counts are not known; for the first page where they are many. */
  async function refresh() {
    const runs = [...stale];
    stale.clear();
    try {
      const told = runs.length > 8 ? (await get(path(["runs"], { limit: PAGE }))).runs : await Promise.all(runs.map((run) => get(path(["runs", run]))));
      for (const row of told) {
        const known = rows.get(row.run);
        if (!known || row.version >= known.version) rows.set(row.run, row);
        else want(row.run); // more came meanwhile
      }
    } catch (error) {
      complain(error);
    }
    refreshing = stale.size && !gone ? setTimeout(refresh, REFRESH_MS) : null;
    if (!gone) ask();
  }

  async function begin() {
    unsubscribe?.();
    try {
      const { head } = await get("/v1/status");
      if (gone) return;
      unsubscribe = live.subscribe("runs", { topics: ["runs", "steps", "tasks"], after: head }, receive);
      await page(true);
    } catch (error) {
      failed = true;
      complain(error);
      ask();
    }
  }

  begin();
  draw();
  return {
    filter,
    keys: { n: () => startRun() },
    leave: () => {
      gone = true;
      unsubscribe?.();
      clearInterval(ticking);
      clearTimeout(refreshing);
      ask.stop();
    },
  };
}

/** A file as the API takes it: as text where it is some. */
async function input(file) {
  const content = new Uint8Array(await file.arrayBuffer());
  const name = file.webkitRelativePath || file.name;
  try {
    return { name, content: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content) };
  } catch {
    let binary = "";
    for (let at = 0; at < content.length; at += 0x8000) binary += String.fromCharCode(...content.subarray(at, at + 0x8000));
    return { name, content_base64: btoa(binary) };
  }
}

/** A key that makes a doubled click one run. `randomUUID` is there only on secure origins. */
const freshKey = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

async function startRun() {
  if (document.querySelector("dialog[open]")) return;
  const name = h("select", { "data-testid": "start-run-name", autofocus: true });
  const about = h("span", { class: "hint" }, "Reading…");
  const text = h("textarea", { rows: "14", spellcheck: "false", "data-testid": "start-run-text", class: "code", "aria-label": "Workflow (TOML)", placeholder: 'name = "contents"\n\n[[step]]\nid = "contents"\nworker = "contents"\ninputs = ["**/*.md"]\nforeach = true' });
  const files = h("input", { type: "file", multiple: true });
  const byName = h("label", { class: "field" }, "Workflow", name, about);
  const byText = h("div", { class: "field", hidden: true }, text, h("label", { class: "field" }, "Files that its globs are to match", files));
  const way = (value, word, checked) => h("label", { class: "choice" }, h("input", { type: "radio", name: "way", value, checked, onchange: () => turn(value), "data-testid": `start-run-by-${value}` }), word);
  let current = "name";
  const turn = (value) => {
    current = value;
    byName.hidden = value !== "name";
    byText.hidden = value !== "text";
    (value === "name" ? name : text).focus();
  };
  const body = h("div", null, h("div", { class: "row", role: "radiogroup", "aria-label": "How" }, way("name", "by name", true), way("text", "paste a workflow")), byName, byText);
  get("/v1/workflows").then(({ workflows }) => offer(workflows), complain);

  function offer(workflows) {
    if (workflows.length === 0) {
      say(about, "No workflow is offered by name: `workflows` in [serve] of sandhog.toml names folders of them. Paste one instead.");
      name.disabled = true;
      return;
    }
    name.append(...workflows.map((one) => h("option", { value: one.name }, one.workflow && one.workflow !== one.name ? `${one.name} (${one.workflow})` : one.name)));
    const tell = () => {
      const one = workflows.find((candidate) => candidate.name === name.value);
      say(about, one?.problem ?? one?.description ?? (one?.steps ? counted(one.steps, "step") : ""));
    };
    name.addEventListener("change", tell);
    tell();
  }

  async function submission() {
    if (current === "name") {
      if (!name.value) throw new Refused({ detail: "no workflow is chosen", help: "paste one instead" });
      return { name: name.value };
    }
    if (!text.value.trim()) throw new Refused({ detail: "the workflow is empty", help: "paste the text of a workflow file" });
    return { workflow: text.value, inputs: await Promise.all([...files.files].map(input)) };
  }

  const key = freshKey();
  const check = (problems) =>
    h("button", {
      type: "button", onclick: async () => {
        try {
          const plan = await post("/v1/plans", await submission());
          problems.replaceChildren(h("p", { class: "fine" }, clean(`Nothing is wrong with it: ${plan.workflow}, ${plan.shape}, ${counted(plan.steps?.length ?? 0, "step")} on ${counted(plan.levels, "level")}.`)));
        } catch (error) {
          problems.replaceChildren(error.node?.() ?? h("p", null, error.message));
        }
      },
    }, "Check");
  const submit = async () => post("/v1/runs", await submission(), { headers: { "idempotency-key": key } });
  const answer = await dialog({ title: "Start a run", body, action: "Start", submit, testid: "start-run-submit", extra: check });
  if (!answer?.run) return;
  notice("The run is accepted.", "info");
  location.hash = `#/runs/${encodeURIComponent(answer.run)}`;
}
