// What is known of a run: begun by its report, then folded record by record. The rules are those of `host/src/report/run.rs`.

import { instant, place } from "./format.js";

/** How many findings of one task are kept. */
const FINDINGS_MAX = 500;
/** How many lanes, and calls in each, the timeline remembers: those with the latest calls stay. */
const LANES_MAX = 2000;
const CALLS_MAX = 80;

/** Statuses in which a task is given up, and can be run again. */
export const GIVEN_UP = new Set(["failed", "dead_lettered"]);
/** Statuses in which a task is in somebody's hands. */
export const UNDER_WAY = new Set(["running", "validating", "expanding"]);
export const TASK_STATUSES = [
  "running", "validating", "expanding", "approving", "retrying", "revising", "blocked", "paused", "pending",
  "failed", "dead_lettered", "cancelled", "completed",
];
export const RUN_ENDED = new Set(["completed", "failed", "cancelled"]);

export const keyOf = (step, index) => `${step}/${index}`;

const noUsage = () => ({ fuel: 0, peak_memory_bytes: 0, wall_time_ms: 0, bytes_in: 0, bytes_out: 0 });

function spend(usage, receipt) {
  if (!receipt) return;
  usage.fuel += receipt.fuel ?? 0;
  usage.peak_memory_bytes = Math.max(usage.peak_memory_bytes, receipt.peak_memory_bytes ?? 0);
  usage.wall_time_ms += receipt.wall_time_ms ?? 0;
  usage.bytes_in += receipt.bytes_in ?? 0;
  usage.bytes_out += receipt.bytes_out ?? 0;
}

const nameOfGate = (gate) => (typeof gate === "string" ? gate : gate.gate);

/** Why a task was given up, in a sentence. */
export function reasonText(reason) {
  switch (reason?.because) {
    case "failed":
      return failureText(reason.failure);
    case "gate_failed":
      return `a gate could not answer: ${failureText(reason.failure)}`;
    case "rejected":
      return `rejected with ${(reason.findings?.length ?? 0) + (reason.more ?? 0)} findings, and no revision is left`;
    case "rejected_again":
      return `rejected twice with the same ${(reason.findings?.length ?? 0) + (reason.more ?? 0)} findings`;
    case "lost":
      return `the host ended ${reason.times} times while it was executing`;
    default:
      return typeof reason === "string" ? reason : "";
  }
}

export const failureText = (failure) => (failure ? `${String(failure.kind ?? "failed").replaceAll("_", " ")}: ${failure.message ?? ""}` : "");

const identity = (finding) => JSON.stringify([finding.gate, finding.rule, finding.location?.path ?? "", finding.message]);

/** Of each revision: how many findings of the one before are solved, are still there, and are new. */
export function rounds(task) {
  const told = new Map((task.rounds ?? []).map((round) => [round.revision, round]));
  const of = (revision) => new Set(task.findings.filter((finding) => finding.revision === revision).map(identity));
  const judged = UNDER_WAY.has(task.status) || task.status === "retrying" || task.status === "revising" ? task.revisions - 1 : task.revisions;
  const list = [];
  for (let revision = 1; revision <= Math.max(judged, task.revisions - 1); revision += 1) {
    const [before, now] = [of(revision - 1), of(revision)];
    const still = [...now].filter((one) => before.has(one)).length;
    list.push(told.get(revision) ?? { revision, solved: before.size - still, still, new: now.size - still });
  }
  return list;
}

export class RunModel {
  constructor(report) {
    this.id = report.run;
    this.tasks = new Map();
    /** Tasks that changed since a view last asked, by key. */
    this.dirty = new Set();
    this.restart(report);
  }

  restart(report) {
    this.workflow = report.workflow;
    this.status = report.status;
    this.cancelledBecause = report.cancelled_because;
    this.pausedBecause = report.paused_because;
    this.degraded = report.degraded ?? [];
    this.version = report.version ?? 0;
    this.startedAt = report.started_at ?? null;
    this.tookMs = report.took_ms ?? null;
    this.usage = { ...noUsage(), ...report.usage };
    this.steps = report.steps.map((step) => this.stepOf(step));
    this.places = new Map(this.steps.map((step, at) => [step.id, at]));
    this.tasks.clear();
    for (const task of report.tasks) this.take(task);
  }

  stepOf(step) {
    return {
      id: step.id,
      worker: step.worker,
      needs: step.needs ?? [],
      gates: (step.gates ?? []).map(nameOfGate),
      foreach: Boolean(step.foreach),
      approval: Boolean(step.approval),
      optional: Boolean(step.optional),
      expand: Boolean(step.expand),
      fallback: step.fallback ?? null,
      status: step.status ?? "waiting",
      total: step.tasks ?? null,
      startedAt: step.started_at ?? null,
      tookMs: step.took_ms ?? null,
      counts: {},
      rejections: new Map(),
    };
  }

  /** Takes a task as the report tells it. */
  take(told) {
    const step = this.places.get(told.step);
    if (step === undefined) return;
    const task = this.at(step, told.index);
    this.turn(task, told.status);
    Object.assign(task, {
      input: told.input ?? null,
      attempts: told.attempts,
      revisions: told.revisions,
      rounds: told.rounds ?? [],
      lost: told.lost ?? 0,
      dueAt: told.due_at,
      failure: told.failure,
      blame: told.blame ?? null,
      findings: told.findings ?? [],
      artifacts: told.artifacts ?? [],
      usage: { ...noUsage(), ...told.usage },
    });
    for (const finding of task.findings) this.reject(step, finding.gate);
  }

  /** A gate said something: marked on its step. */
  reject(step, gate, by = 1) {
    const rejections = this.steps[step].rejections;
    rejections.set(gate, (rejections.get(gate) ?? 0) + by);
  }

  at(step, index) {
    const key = keyOf(step, index);
    let task = this.tasks.get(key);
    if (!task) {
      task = {
        key, place: step, step: this.steps[step]?.id ?? String(step), index, input: null, status: null, attempts: 0, revisions: 0, rounds: [], lost: 0,
        dueAt: null, failure: null, blame: null, findings: [], artifacts: [], usage: noUsage(), progress: null,
      };
      this.tasks.set(key, task);
      this.turn(task, "pending");
    }
    this.dirty.add(key);
    return task;
  }

  /** Changes a task's status, and the counts of its step with it. */
  turn(task, status) {
    const counts = this.steps[task.place]?.counts;
    if (!counts || task.status === status) return;
    if (task.status) counts[task.status] -= 1;
    counts[status] = (counts[status] ?? 0) + 1;
    task.status = status;
    if (status !== "running") task.progress = null;
  }

  /** Whether names of inputs are missing: records have them only as a blob, and the report has them. */
  isMissingNames() {
    for (const task of this.tasks.values()) if (task.input === null && this.steps[task.place]?.foreach) return true;
    return false;
  }

  takeNames(report) {
    for (const told of report.tasks) {
      const task = this.tasks.get(keyOf(this.places.get(told.step), told.index));
      if (!task || task.input !== null) continue;
      task.input = told.input ?? "";
      this.dirty.add(task.key);
    }
  }

  counts() {
    const sum = {};
    for (const step of this.steps) {
      for (const [status, n] of Object.entries(step.counts)) if (n > 0) sum[status] = (sum[status] ?? 0) + n;
    }
    return sum;
  }

  total() {
    return this.steps.reduce((sum, step) => sum + (step.total ?? 0), 0);
  }

  /**
   * Folds the next record.
   * @returns {boolean} whether it was the next: false means that some were missed
   */
  fold(record) {
    if (record.version <= this.version) return true;
    if (record.version !== this.version + 1) return false;
    this.version = record.version;
    if (this.startedAt && !RUN_ENDED.has(this.status)) this.tookMs = instant(record.at) - instant(this.startedAt);
    if (record.task) this.foldTask(record, this.at(record.task.step, record.task.index));
    else this.foldRun(record);
    return true;
  }

  foldTask(record, task) {
    switch (record.event) {
      case "attempt_started":
        task.attempts += 1;
        task.revisions = record.revision;
        task.dueAt = null;
        return this.turn(task, "running");
      case "attempt_completed":
        // The content is left out: a record may carry a lot of it, and thousands of records are kept.
        task.artifacts = record.artifacts.map(({ name, media_type, digest, size_bytes }) => ({ name, media_type, digest, size_bytes }));
        task.failure = null;
        this.pay(task, record.receipt);
        return this.turn(task, "validating");
      case "attempt_failed":
        task.failure = record.failure;
        return this.pay(task, record.receipt);
      case "attempt_lost":
        task.lost += record.executing ? 1 : 0;
        return this.turn(task, "pending");
      case "retry_scheduled":
        task.dueAt = record.due_at;
        return this.turn(task, "retrying");
      case "gate_answered":
        this.pay(task, record.receipt);
        return this.find(task, this.gateName(record), record.verdict?.findings);
      case "gate_failed":
        return this.pay(task, record.receipt);
      case "approval_requested":
        return this.turn(task, "approving");
      case "approval_refused":
        return this.find(task, "approval", [{ rule: "approval", severity: "high", message: record.comment || "refused, and not said why" }]);
      case "plan_submitted":
        return this.turn(task, "expanding");
      case "plan_accepted":
        return this.grow(record.steps);
      case "plan_rejected":
        return this.find(task, "plan", record.findings);
      case "revision_requested":
        return this.turn(task, "revising");
      case "task_completed":
        return this.turn(task, "completed");
      case "task_failed":
        return this.giveUp(task, record, "failed");
      case "task_dead_lettered":
        return this.giveUp(task, record, "dead_lettered");
      case "task_held":
        return this.giveUp(task, record, "paused");
      case "fallback_started":
        return this.giveUp(task, record, "revising");
      case "task_requeued":
        return this.turn(task, "pending");
      case "task_discarded":
        return this.turn(task, "failed");
      case "task_cancelled":
        return this.turn(task, "cancelled");
      default: // an event of a newer server changes nothing that this page knows of
    }
  }

  foldRun(record) {
    const step = this.steps[record.step];
    switch (record.event) {
      case "run_started":
        this.startedAt ??= record.at;
        return;
      case "step_started":
        if (step) Object.assign(step, { status: "active", total: record.tasks, startedAt: record.at });
        return;
      case "step_completed":
        return this.close(step, "completed", record.at);
      case "step_failed":
        return this.close(step, "failed", record.at);
      case "step_skipped":
        return this.close(step, "skipped", record.at);
      case "step_cancelled":
        return this.close(step, "cancelled", record.at);
      case "cancel_requested":
        this.cancelledBecause = record.reason;
        this.status = "cancelling";
        return;
      case "run_paused":
        this.pausedBecause = record.reason;
        this.status = "paused";
        return;
      case "run_resumed":
        for (const task of this.tasks.values()) if (task.status === "paused") this.turn(task, "pending");
        this.goOn();
        return;
      case "run_reopened":
        this.goOn();
        return;
      case "run_completed":
        this.status = "completed";
        this.degraded = record.degraded ?? [];
        return;
      case "run_failed":
        this.status = "failed";
        return;
      case "run_cancelled":
        this.status = "cancelled";
        return;
      default:
    }
  }

  goOn() {
    this.status = "running";
    this.pausedBecause = null;
  }

  close(step, status, at) {
    if (!step) return;
    step.status = status;
    if (step.startedAt) step.tookMs = instant(at) - instant(step.startedAt);
  }

  pay(task, receipt) {
    spend(task.usage, receipt);
    spend(this.usage, receipt);
  }

  gateName(record) {
    return this.steps[record.task.step]?.gates[record.gate] ?? `gate ${record.gate}`;
  }

  find(task, gate, findings = []) {
    for (const finding of findings) task.findings.push({ ...finding, gate, revision: task.revisions });
    if (task.findings.length > FINDINGS_MAX) task.findings.splice(0, task.findings.length - FINDINGS_MAX);
    if (findings.length > 0) this.reject(task.place, gate, findings.length);
  }

  giveUp(task, { reason }, status) {
    if (reason?.failure) task.failure = reason.failure;
    else if (reason?.because === "lost") task.failure = { kind: "lost", message: reasonText(reason) };
    else if (reason?.because) task.failure = null;
    this.turn(task, status);
  }

  /** A plan was accepted: its steps are the run's, behind those that it has. */
  grow(steps) {
    for (const step of steps ?? []) {
      const known = this.stepOf({ ...step, status: "waiting", tasks: null });
      this.places.set(known.id, this.steps.length);
      this.steps.push(known);
    }
  }
}

/** Calls of workers and gates, and what tasks waited for, by lane: one for each task. Fed with records in the order of versions. */
export class Lanes {
  constructor() {
    /** By key, the lane with the latest call last. */
    this.lanes = new Map();
    this.version = 0;
    this.dropped = 0;
    this.from = Infinity;
    this.to = -Infinity;
  }

  lane({ step, index }) {
    const key = keyOf(step, index);
    const lane = this.lanes.get(key) ?? { key, place: step, index, calls: [], open: new Map(), next: 0, first: Infinity };
    this.lanes.delete(key);
    this.lanes.set(key, lane);
    if (this.lanes.size > LANES_MAX) {
      this.lanes.delete(this.lanes.keys().next().value);
      this.dropped += 1;
    }
    return lane;
  }

  begin(lane, slot, call) {
    call.id = `${lane.key}:${lane.next}`;
    lane.next += 1;
    lane.first = Math.min(lane.first, call.start);
    lane.calls.push(call);
    if (lane.calls.length > CALLS_MAX) lane.calls.shift();
    if (slot) lane.open.set(slot, call);
    return call;
  }

  end(lane, slot, at, changes) {
    const call = lane.open.get(slot);
    if (!call) return;
    lane.open.delete(slot);
    Object.assign(call, changes, { end: at });
  }

  /** @returns {boolean} whether the record was the next */
  fold(record) {
    if (record.version <= this.version) return true;
    if (this.version !== 0 && record.version !== this.version + 1) return false;
    this.version = record.version;
    const at = instant(record.at);
    this.from = Math.min(this.from, at);
    this.to = Math.max(this.to, at);
    if (record.task) this.foldTask(record, this.lane(record.task), at);
    else if (["run_cancelled", "run_completed", "run_failed"].includes(record.event)) this.closeAll(at);
    return true;
  }

  closeAll(at) {
    for (const lane of this.lanes.values()) for (const slot of [...lane.open.keys()]) this.end(lane, slot, at, { outcome: "ended" });
  }

  foldTask(record, lane, at) {
    const gate = `g${record.gate}`;
    const { attempt, revision } = record;
    switch (record.event) {
      case "attempt_started":
        this.end(lane, "wait", at, {});
        lane.revision = revision;
        this.begin(lane, "w", { kind: "attempt", attempt, revision, start: at, end: null, outcome: "running" });
        return;
      case "attempt_completed":
        return this.end(lane, "w", at, { outcome: "completed", receipt: record.receipt });
      case "attempt_failed":
        return this.end(lane, "w", at, { outcome: "failed", note: failureText(record.failure), receipt: record.receipt });
      case "attempt_lost":
        return this.end(lane, "w", at, { outcome: "lost", note: record.executing ? "the host ended while it was executing" : "taken back before its turn" });
      case "retry_scheduled":
        this.begin(lane, "wait", { kind: "wait", start: at, end: null, outcome: "retrying", note: "waits for another attempt", due: instant(record.due_at) });
        return;
      case "gate_started":
        this.end(lane, `wait${gate}`, at, {});
        this.begin(lane, gate, { kind: "gate", gate: record.gate, attempt, revision: lane.revision ?? 0, start: at, end: null, outcome: "running" });
        return;
      case "gate_answered":
        return this.end(lane, gate, at, { outcome: record.passed ? "passed" : "rejected", note: verdictText(record.verdict), receipt: record.receipt });
      case "gate_failed":
        return this.end(lane, gate, at, { outcome: "failed", note: failureText(record.failure), receipt: record.receipt });
      case "gate_lost":
        return this.end(lane, gate, at, { outcome: "lost" });
      case "gate_retry_scheduled":
        this.begin(lane, `wait${gate}`, { kind: "wait", start: at, end: null, outcome: "retrying", note: "waits to ask the gate again", due: instant(record.due_at) });
        return;
      case "approval_requested":
        this.begin(lane, "person", { kind: "wait", start: at, end: null, outcome: "approving", note: "waits for a person" });
        return;
      case "approval_given":
      case "approval_refused":
        return this.end(lane, "person", at, { note: `${record.event === "approval_given" ? "approved" : "refused"}${record.comment ? `: ${record.comment}` : ""}` });
      case "plan_rejected":
        lane.why = (record.findings ?? []).map((finding) => finding.message).join("; ");
        return;
      case "revision_requested":
        this.begin(lane, null, { kind: "mark", start: at, end: at, outcome: "sent back", revision, note: this.why(lane) });
        return;
      case "task_dead_lettered":
      case "task_failed":
      case "task_held":
      case "fallback_started":
        for (const slot of [...lane.open.keys()]) this.end(lane, slot, at, {});
        this.begin(lane, null, { kind: "mark", start: at, end: at, outcome: record.event === "task_held" ? "held" : record.event === "fallback_started" ? "fallback" : "given up", note: reasonText(record.reason) });
        return;
      case "task_cancelled":
        for (const slot of [...lane.open.keys()]) this.end(lane, slot, at, { outcome: "cancelled" });
        return;
      default:
    }
  }

  /** Why a task was sent back: what the last calls that did not pass said. */
  why(lane) {
    if (lane.why) {
      const why = lane.why;
      lane.why = null;
      return why;
    }
    const last = [...lane.calls].reverse();
    const current = last.filter((call) => call.revision === lane.revision && call.outcome === "rejected");
    const refused = last.find((call) => call.outcome === "approving");
    return current.map((call) => call.note).join("; ") || refused?.note || "";
  }
}

function verdictText(verdict) {
  const findings = verdict?.findings ?? [];
  if (findings.length === 0) return verdict?.summary ?? "";
  const told = findings.slice(0, 3).map((finding) => `${finding.severity} ${finding.rule}: ${finding.message}${finding.location ? ` (${place(finding.location)})` : ""}`);
  return told.join("; ") + (findings.length > 3 ? `; and ${findings.length - 3} more` : "");
}
