// The story of one run, kept up to date: its report, its records, then what comes. It is shared by the pages of the run and of its tasks,
// so that going from one to the other fetches nothing twice.

import { complain, get, path } from "./api.js";
import { paced } from "./dom.js";
import * as live from "./live.js";
import { Lanes, RUN_ENDED, RunModel } from "./model.js";

const PAGE = 1000;
/** How many of a run's records the timeline is made of: the latest. */
export const RECORDS_MAX = 20_000;
/** How long names of inputs may be missing before they are asked for. */
const NAMES_MS = 1500;

let current = null;

/** The story of a run: the one at hand, where it is the same. */
export function open(id) {
  if (current?.id !== id) {
    current?.close();
    current = new Story(id);
  }
  return current;
}

/** Ends following the run at hand, when a page is shown that is none of its. */
export function leave() {
  current?.close();
  current = null;
}

class Story {
  constructor(id) {
    this.id = id;
    this.model = null;
    this.lanes = new Lanes();
    this.lanesReady = false;
    this.shortened = false;
    this.listeners = new Set();
    this.recordListeners = new Set();
    this.closed = false;
    this.namesDue = null;
    this.namesCost = 0;
    this.tell = paced(() => this.listeners.forEach((callback) => callback(this)), 80);
    this.ready = this.load();
    this.ready.catch(() => {});
  }

  close() {
    this.closed = true;
    this.unsubscribe?.();
    clearTimeout(this.namesDue);
    this.tell.stop();
  }

  /** Calls back when something changed, some times a second at most. */
  onChange(callback) {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  }

  /** Calls back with every record and log that comes. */
  onMessage(callback) {
    this.recordListeners.add(callback);
    return () => this.recordListeners.delete(callback);
  }

  async load() {
    // The head is asked for before the report: what is behind it comes live, what the report has already is known by its version.
    const { head } = await get("/v1/status");
    const report = await get(path(["runs", this.id, "report"]));
    if (this.closed) return;
    if (this.model) this.model.restart(report);
    else this.model = new RunModel(report);
    this.unsubscribe?.();
    this.unsubscribe = live.subscribe("run", { runs: [this.id], topics: ["runs", "steps", "tasks", "progress", "logs"], after: head }, (messages) => this.receive(messages));
    this.tell();
  }

  /** Reads the records for the timeline, the first time that somebody shows one. */
  async loadLanes() {
    await this.ready;
    if (this.loadingLanes || this.closed) return;
    this.loadingLanes = true;
    try {
      const begin = Math.max(0, this.model.version - RECORDS_MAX);
      this.shortened = begin > 0;
      let after = begin;
      while (after !== null && !this.closed) {
        after = await this.page(after);
        this.tell();
      }
      this.lanesReady = true;
      this.tell();
    } catch (error) {
      complain(error);
    } finally {
      this.loadingLanes = false;
    }
  }

  /** Reads one page of records into the timeline, and into the model what is new to it. */
  async page(after) {
    const { events, next } = await get(path(["runs", this.id, "events"], { after, limit: PAGE }));
    for (const record of events) {
      this.lanes.fold(record);
      this.model.fold(record);
    }
    // Records that came meanwhile went to the model only: another page has them.
    return next ?? (events.length > 0 && this.model.version > this.lanes.version ? this.lanes.version : null);
  }

  receive(messages) {
    if (this.closed || !this.model) return;
    for (const message of messages) {
      if (message.type === "gap") this.again();
      else if (message.type === "record") this.record(message.record);
      else if (message.type === "progress") this.progress(message);
      this.recordListeners.forEach((callback) => callback(message));
    }
    this.tell();
    this.wantNames();
  }

  record(record) {
    if (record.run !== this.id) return;
    const next = this.model.fold(record) && (!this.lanesReady || this.lanes.fold(record));
    if (!next) this.catchUp();
  }

  progress({ step, index, fraction, note }) {
    const place = this.model.places.get(step);
    if (place === undefined) return;
    const task = this.model.at(place, index);
    if (task.status === "running") task.progress = { fraction, note };
  }

  /** Some records were missed: they are read. */
  async catchUp() {
    if (this.catching) return;
    this.catching = true;
    try {
      let after = this.lanesReady ? Math.min(this.model.version, this.lanes.version) : this.model.version;
      while (after !== null && !this.closed) {
        const { events, next } = await get(path(["runs", this.id, "events"], { after, limit: PAGE }));
        for (const record of events) {
          this.model.fold(record);
          if (this.lanesReady) this.lanes.fold(record);
        }
        after = next;
      }
      this.tell();
    } catch (error) {
      complain(error);
    } finally {
      this.catching = false;
    }
  }

  /** Messages were dropped: everything is read anew. */
  async again() {
    if (this.reloading) return;
    this.reloading = true;
    try {
      const shown = this.lanesReady;
      await this.load();
      if (shown) {
        this.lanes = new Lanes();
        this.lanesReady = false;
        await this.loadLanes();
      }
    } catch (error) {
      complain(error);
    } finally {
      this.reloading = false;
    }
  }

  /** Asks for the names of inputs some time after they are missing: rarely where the report is large. */
  wantNames() {
    if (this.namesDue || !this.model.isMissingNames()) return;
    const wait = RUN_ENDED.has(this.model.status) ? 100 : Math.max(NAMES_MS, this.namesCost * 20);
    this.namesDue = setTimeout(async () => {
      const begun = performance.now();
      try {
        const report = await get(path(["runs", this.id, "report"]));
        if (!this.closed) this.model.takeNames(report);
      } catch {
        // Names are a convenience: they are asked for again at the next change.
      }
      this.namesCost = performance.now() - begun;
      this.namesDue = null;
      if (!this.closed) this.tell();
    }, wait);
  }
}
