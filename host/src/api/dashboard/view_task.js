// The page of a task: what was tried, what it cost, what gates found, what it made, what was written, and what a person may decide.

import { complain, get, notice, path, post, tell, text as textOf } from "./api.js";
import { ask as askFor, badge, cut, empty, h, heading, paced, pre, setBadge, swap, table } from "./dom.js";
import { bytes, count, counted, duration, fuel, instant, local, place, short, time } from "./format.js";
import { failureText, GIVEN_UP, reasonText, rounds } from "./model.js";
import { open } from "./story.js";

const TEXT_BYTES_MAX = 64 << 10;
const HISTORY_SHOWN = 200;
const FINDINGS_SHOWN = 200;
const LOG_CHARS_MAX = 64 << 10;
/** How often the task is asked for anew while records of it come. */
const REFRESH_MS = 700;

const ATTEMPTS = [
  { label: "Outcome" }, { label: "Who" }, { label: "Revision", class: "number" }, { label: "Attempt", class: "number" }, { label: "Started" },
  { label: "Took", class: "number" }, { label: "Fuel", class: "number" }, { label: "Peak memory", class: "number" }, { label: "In / out", class: "number" },
];

export function showTask(main, [run, stepId, indexText]) {
  const index = Number(indexText);
  const story = open(run);
  const title = heading(`${stepId}[${index}]`);
  const status = badge("…", "task-status");
  const buttons = h("div", { class: "row" });
  const input = h("span", { class: "hint" });
  const parts = { facts: h("dl", { class: "facts" }), why: h("div", { class: "reasons" }), rounds: h("div"), findings: h("div", { "data-testid": "findings" }), artifacts: h("div"), attempts: h("div"), logs: h("div"), history: h("div") };
  const section = (name, node) => h("section", { "aria-label": name }, h("h2", null, name), node);
  const reading = h("p", { class: "hint" }, "Reading the task…");
  const body = h("div", { hidden: true }, parts.why, parts.facts, section("Findings", h("div", null, parts.rounds, parts.findings)), section("Attempts", parts.attempts), section("Artifacts", parts.artifacts), section("Log", parts.logs), section("History", parts.history));
  main.append(
    h("p", { class: "crumbs" }, h("a", { href: "#/runs" }, "Runs"), " / ", h("a", { href: `#/runs/${encodeURIComponent(run)}` }, `run ${short(run)}`)),
    h("div", { class: "row head" }, title, status, input, h("span", { class: "spring" }), buttons), reading, body,
  );

  let detail = null;
  let timer = null;
  let gone = false;

  const task = () => {
    const at = story.model?.places.get(stepId);
    return at === undefined ? null : story.model.tasks.get(`${at}/${index}`) ?? null;
  };

  function draw() {
    const known = task();
    if (!known || gone) return;
    reading.hidden = true;
    body.hidden = false;
    setBadge(status, known.status);
    swap(input, known.input ?? "", () => (known.input ? cut(known.input, 300) : []));
    drawButtons(known);
    drawWhy(parts.why, known);
    drawFacts(parts.facts, known);
    drawFindings(parts, known);
    drawArtifacts(parts.artifacts, run, known, detail);
    if (detail) drawDetail(parts, detail);
  }

  function drawButtons(known) {
    const commands = path(["runs", run, "commands"]);
    swap(buttons, known.status, () => {
      if (known.status === "approving") {
        return [
          h("button", { type: "button", class: "primary", "data-testid": "approve", onclick: () => decide(true) }, "Approve…"),
          h("button", { type: "button", class: "danger", "data-testid": "reject", onclick: () => decide(false) }, "Reject…"),
        ];
      }
      if (known.status === "dead_lettered") {
        const letters = [`${run}/${stepId}/${index}`];
        return [
          h("button", { type: "button", class: "primary", "data-testid": "requeue", onclick: () => tell("/v1/dead-letters/commands", { command: "requeue", letters }, "The task will be run again.") }, "Requeue"),
          h("button", { type: "button", class: "danger", onclick: () => tell("/v1/dead-letters/commands", { command: "discard", letters }, "The dead letter is discarded.") }, "Discard"),
        ];
      }
      if (GIVEN_UP.has(known.status)) return h("button", { type: "button", onclick: () => tell(commands, { command: "retry", tasks: [{ step: stepId, index }] }, "The task will be run again.") }, "Retry");
      return [];
    });
  }

  function decide(approved) {
    askFor({
      title: approved ? "Let this result through?" : "Send this result back?",
      label: "Comment", action: approved ? "Approve" : "Reject", danger: !approved, required: !approved,
      help: approved ? "It stays in the history of the task." : "The worker gets it as feedback, and tries another revision if one is left.",
      submit: async (comment) => {
        await post(path(["runs", run, "commands"]), { command: "approve", step: stepId, index, approved, comment });
        notice(approved ? "Approved." : "Sent back.", "info");
      },
    });
  }

  async function refresh() {
    timer = null;
    try {
      detail = await get(path(["runs", run, "tasks", index], { step: stepId }));
      if (!gone) redraw();
    } catch (error) {
      if (!gone) complain(error);
    }
  }

  const concerns = (message) => {
    if (message.type === "gap") return true;
    if (message.type === "record") return message.record.task?.index === index && message.record.task.step === story.model.places.get(stepId);
    return message.type === "log" && message.step === stepId && message.index === index;
  };

  const redraw = paced(draw, 100);
  const unlisten = [
    story.onChange(redraw),
    story.onMessage((message) => {
      if (concerns(message)) timer ??= setTimeout(refresh, REFRESH_MS);
    }),
  ];
  story.ready.then(
    () => {
      if (!task()) reading.replaceChildren(`This task has not started. `, h("a", { href: `#/runs/${encodeURIComponent(run)}` }, "Its run"), " shows what it waits for.");
      else refresh();
      draw();
    },
    (error) => {
      complain(error);
      status.hidden = true;
      reading.replaceWith(empty("This task cannot be shown.", error.message, " ", h("a", { href: "#/runs" }, "All runs")));
    },
  );
  return {
    leave: () => {
      gone = true;
      clearTimeout(timer);
      redraw.stop();
      unlisten.forEach((end) => end());
    },
  };
}

function drawWhy(box, task) {
  const failure = task.status === "completed" ? null : task.failure;
  const lines = [
    failure && [`Failed${task.blame ? `, by fault of the ${task.blame}` : ""}: `, failureText(failure), "bad"],
    task.status === "retrying" && task.dueAt && ["Waits: ", `another attempt is due at ${local(instant(task.dueAt))}`, "waits"],
    task.status === "approving" && ["Waits: ", "its result passed the gates, and a person is to say so too", "waits"],
    task.status === "blocked" && ["Blocked: ", "the circuit breaker of its worker is open", "waits"],
    task.lost > 0 && ["Lost: ", `the host ended ${counted(task.lost, "time")} while it was executing`, "waits"],
  ].filter(Boolean);
  swap(box, JSON.stringify(lines), () => lines.map(([what, why, tone]) => h("p", { class: `reason ${tone}` }, h("b", null, what), cut(why, 4000))));
}

function drawFacts(facts, task) {
  const { usage } = task;
  const cells = [
    ["Attempts", count(task.attempts)], ["Revisions", count(task.revisions)], ["Findings", count(task.findings.length)], ["Fuel", fuel(usage.fuel)],
    ["Peak memory", bytes(usage.peak_memory_bytes)], ["Time", duration(usage.wall_time_ms)], ["In / out", `${bytes(usage.bytes_in)} / ${bytes(usage.bytes_out)}`],
  ];
  swap(facts, JSON.stringify(cells), () => cells.map(([label, value]) => h("div", null, h("dt", null, label), h("dd", null, value))));
}

function drawFindings(parts, task) {
  const list = rounds(task);
  swap(parts.rounds, JSON.stringify(list), () =>
    list.length === 0 ? [] : h("ul", { class: "rounds", "aria-label": "Rounds" }, list.map((round) =>
      h("li", null, `revision ${round.revision}: `, h("span", { class: "solved" }, `${round.solved} solved`), ", ", h("span", { class: "still" }, `${round.still} still there`), ", ", h("span", { class: "new" }, `${round.new} new`)))));
  swap(parts.findings, `${task.findings.length}/${task.revisions}/${task.status}`, () => {
    if (task.findings.length === 0) return empty("No findings.", task.attempts ? "Its gates found nothing so far." : "Gates judge it once it has a result.");
    const shown = task.findings.slice(-FINDINGS_SHOWN);
    const revisions = [...new Set(shown.map((finding) => finding.revision))].sort((a, b) => b - a);
    return [
      shown.length < task.findings.length && h("p", { class: "hint" }, `The last ${shown.length} of ${task.findings.length} findings.`),
      revisions.map((revision) => h("div", { class: "revision" }, h("h3", null, `Revision ${revision}`), h("ul", { class: "findings" }, shown.filter((finding) => finding.revision === revision).map(finding_)))),
    ];
  });
}

/** A guest's address leads out of this page: only such as a browser cannot run. */
function helpLink(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  return h("a", { href: url.href, rel: "noopener noreferrer", target: "_blank", title: url.href }, `about this rule (${cut(url.host, 60)})`);
}

function finding_(finding) {
  const where = place(finding.location);
  return h("li", { class: "finding", "data-testid": "finding", "data-severity": finding.severity },
    h("div", { class: "finding-head" }, h("span", { class: "severity" }, finding.severity), h("code", null, cut(finding.rule, 120)), h("span", { class: "hint" }, `gate ${finding.gate}`), where && h("code", { class: "where" }, cut(where, 300))),
    h("p", { class: "message" }, cut(finding.message, 4000)),
    finding.suggestion && h("p", { class: "suggestion" }, h("b", null, "Suggestion: "), cut(finding.suggestion, 4000)),
    finding.help_url && h("p", null, helpLink(finding.help_url)));
}

function drawArtifacts(box, run, task, detail) {
  const inputs = detail?.inputs ?? [];
  swap(box, JSON.stringify([task.artifacts.map(({ digest }) => digest), inputs.map(({ digest }) => digest)]), () => {
    if (task.artifacts.length === 0 && inputs.length === 0) return empty("It has made nothing yet.", "Artifacts appear once an attempt completes.");
    return [
      task.artifacts.length > 0 && h("ul", { class: "artifacts", "aria-label": "Artifacts" }, task.artifacts.map((one) => artifact(run, one))),
      inputs.length > 0 && h("details", null, h("summary", null, `${counted(inputs.length, "input")}`), h("ul", { class: "artifacts", "aria-label": "Inputs" }, inputs.slice(0, 200).map((one) => artifact(run, one)))),
    ];
  });
}

function artifact(run, { name, media_type: type, digest, size_bytes: size }) {
  const address = path(["runs", run, "artifacts", digest]);
  const shown = h("div", { hidden: true });
  const show = h("button", { type: "button", "aria-expanded": "false", onclick: () => toggle() }, "Show");
  async function toggle() {
    if (!shown.hidden) {
      shown.hidden = true;
      show.textContent = "Show";
      show.setAttribute("aria-expanded", "false");
      return;
    }
    show.disabled = true;
    try {
      if (!shown.firstChild) {
        const { text, whole } = await textOf(address, TEXT_BYTES_MAX);
        shown.append(pre(text, { class: "content", tabindex: "0", "aria-label": "Content" }));
        if (!whole) shown.append(h("p", { class: "hint" }, `The first ${bytes(TEXT_BYTES_MAX)} of ${bytes(size)}: download it for the rest.`));
      }
      shown.hidden = false;
      show.textContent = "Hide";
      show.setAttribute("aria-expanded", "true");
    } catch (error) {
      complain(error);
    } finally {
      show.disabled = false;
    }
  }
  return h("li", null, h("div", { class: "row" }, h("code", { class: "artifact-name" }, cut(name, 300)), h("span", { class: "hint" }, [type, bytes(size)].filter(Boolean).join(", ")), h("span", { class: "id", title: digest }, String(digest).slice(0, 19)), h("span", { class: "spring" }), show, h("a", { class: "button", href: address, download: "" }, "Download")), shown);
}

function drawDetail(parts, detail) {
  swap(parts.attempts, JSON.stringify(detail.attempts), () => attempts(detail.attempts));
  swap(parts.logs, `${detail.logs.length}/${detail.logs.at(-1)?.text.length}`, () => logs(detail.logs));
  swap(parts.history, String(detail.history.at(-1)?.version), () => history(detail.history));
}

function attempts(list) {
  if (list.length === 0) return empty("Nothing was tried yet.", "The first attempt starts as soon as there is a place for it.");
  const shown = table("attempts", "Attempts", ATTEMPTS);
  for (const call of [...list].reverse()) {
    const tr = shown.row();
    const usage = call.usage ?? {};
    const took = call.ended_at ? instant(call.ended_at) - instant(call.started_at) : Date.now() - instant(call.started_at);
    const cells = [
      [badge(call.outcome), call.failure && h("span", { class: "why" }, cut(failureText(call.failure), 400))],
      h("span", null, h("span", { class: "hint" }, call.gate ? "gate " : "worker "), call.who),
      String(call.revision), String(call.attempt), time(call.started_at), `${duration(took)}${call.ended_at ? "" : " so far"}`,
      fuel(usage.fuel), bytes(usage.peak_memory_bytes), `${bytes(usage.bytes_in)} / ${bytes(usage.bytes_out)}`,
    ];
    tr.cells_.forEach((cell, at) => cell.append(...[cells[at]].flat().filter(Boolean)));
    shown.body.append(tr);
  }
  return shown.element;
}

function logs(list) {
  if (list.length === 0) return empty("Nothing was written.", "What a plugin writes to standard error stands here, once its attempt ended.");
  return list.slice(-20).reverse().map((log, at) =>
    h("details", { open: at === 0 }, h("summary", null, `${log.who}, revision ${log.revision}, attempt ${log.attempt}`), pre(log.text.length > LOG_CHARS_MAX ? `…${log.text.slice(-LOG_CHARS_MAX)}` : log.text, { class: "content", tabindex: "0", "aria-label": "Log" })));
}

/** What a record says beside its event's name, in a line. */
function said(record) {
  switch (record.event) {
    case "attempt_started":
      return `attempt ${record.attempt}, revision ${record.revision}${record.provider ? `, by ${record.provider}` : ""}`;
    case "attempt_completed":
      return `attempt ${record.attempt}: ${counted(record.artifacts?.length ?? 0, "artifact")}, fuel ${fuel(record.receipt?.fuel)}`;
    case "attempt_failed":
    case "gate_failed":
      return failureText(record.failure);
    case "gate_answered":
      return `${record.passed ? "passed" : "rejected"}: ${record.verdict?.summary || counted(record.verdict?.findings?.length ?? 0, "finding")}`;
    case "retry_scheduled":
    case "gate_retry_scheduled":
      return `due at ${local(instant(record.due_at))}`;
    case "approval_given":
    case "approval_refused":
      return record.comment ?? "";
    case "revision_requested":
      return `revision ${record.revision}`;
    case "plan_accepted":
      return counted(record.steps?.length ?? 0, "step");
    case "plan_rejected":
      return counted(record.findings?.length ?? 0, "finding");
    case "attempt_lost":
    case "gate_lost":
      return record.executing ? "while it was executing" : "before its turn";
    default:
      return reasonText(record.reason);
  }
}

function history(list) {
  const shown = list.slice(-HISTORY_SHOWN);
  return [
    shown.length < list.length && h("p", { class: "hint" }, `The last ${shown.length} of ${list.length} records.`),
    h("ol", { class: "history" }, shown.map((record) => h("li", null, time(record.at), h("span", { class: "id", title: record.hash }, `#${record.version}`), h("b", null, String(record.event).replaceAll("_", " ")), h("span", null, cut(said(record), 400))))),
  ];
}
