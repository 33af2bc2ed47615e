// The page of activity: how much goes through, and what it takes of the machine.

import { complain, get } from "./api.js";
import { chart } from "./charts.js";
import { h, heading, paced, say } from "./dom.js";
import { bytes, count, duration, fuel, instant, rate } from "./format.js";
import * as live from "./live.js";

const STATUS_MS = 5000;
const WINDOW_MS = 600_000;
const SAMPLES_MAX = 3600;

const CHARTS = [
  { title: "Throughput, attempts", series: [{ field: "attempts_per_second", label: "attempts a second" }], format: rate },
  { title: "Throughput, events", series: [{ field: "events_per_second", label: "events a second" }], format: rate },
  { title: "Calls", series: [{ field: "executing", label: "executing" }, { field: "queued", label: "queued" }], format: (value) => count(Math.round(value)), whole: true },
  { title: "Instances", series: [{ field: "live_instances", label: "live instances" }], format: (value) => count(Math.round(value)), whole: true },
  { title: "Memory of guests", series: [{ field: "guest_memory_bytes", label: "guest memory" }], format: bytes, binary: true },
  { title: "Memory of the process", series: [{ field: "resident_bytes", label: "resident memory" }], format: bytes, binary: true },
  { title: "Fuel", series: [{ field: "fuel_per_second", label: "fuel a second" }], format: fuel },
];

const TOTALS = [
  ["Open runs", (status) => count(status.open_runs)],
  ["Executing", (status) => `${count(status.executing)} of ${count(status.concurrency)}`],
  ["Live instances", (status) => count(status.live_instances)],
  ["Records", (status) => count(status.head)],
  ["Resident memory", (status) => bytes(status.process?.resident_bytes)],
  ["Threads", (status) => count(status.process?.threads)],
  ["Open files", (status) => count(status.process?.open_files)],
  ["Up for", (status) => duration(Date.now() - instant(status.started_at))],
  ["Version", (status) => status.version],
];

export function showActivity(main) {
  const charts = CHARTS.map(chart);
  const values = TOTALS.map(() => h("dd", null, "–"));
  const waiting = h("p", { class: "hint" }, "The first figures come within a second.");
  let samples = [];
  let gone = false;
  main.append(
    h("div", { class: "row head" }, heading("Activity")),
    h("div", { "data-testid": "activity" }, h("dl", { class: "facts" }, TOTALS.map(([label], at) => h("div", null, h("dt", null, label), values[at]))), waiting, h("div", { class: "charts" }, charts.map(({ element }) => element))),
  );

  const draw = paced(() => {
    waiting.hidden = samples.length > 0;
    for (const { draw: one } of charts) one(samples);
  }, 250);

  function take(more) {
    const known = new Map([...samples, ...more].map((sample) => [sample.at, sample]));
    const sorted = [...known.values()].sort((a, b) => instant(a.at) - instant(b.at));
    const newest = sorted.length ? instant(sorted.at(-1).at) : 0;
    samples = sorted.filter((sample) => newest - instant(sample.at) <= WINDOW_MS).slice(-SAMPLES_MAX);
    draw();
  }

  async function loadSamples() {
    try {
      const told = await get("/v1/stats");
      if (!gone) take(told.samples);
    } catch (error) {
      complain(error);
    }
  }

  async function loadStatus(quiet) {
    try {
      const status = await get("/v1/status");
      if (gone) return;
      TOTALS.forEach(([, of], at) => say(values[at], of(status)));
    } catch (error) {
      // Said once: the state of the connection tells the rest.
      if (!quiet) complain(error);
    }
  }

  function receive(messages) {
    if (messages.some(({ type }) => type === "gap")) loadSamples();
    const fresh = messages.filter(({ type }) => type === "stats").map(({ sample }) => sample);
    // A hole after a sleep is filled from what the server remembers.
    if (fresh.length && samples.length && instant(fresh[0].at) - instant(samples.at(-1).at) > 5000) loadSamples();
    take(fresh);
  }

  const unsubscribe = live.subscribe("stats", { topics: ["stats"] }, receive);
  const polling = setInterval(() => document.visibilityState === "visible" && loadStatus(true), STATUS_MS);
  const resized = new ResizeObserver(draw);
  resized.observe(main);
  loadSamples();
  loadStatus(false);
  return {
    leave: () => {
      gone = true;
      unsubscribe();
      clearInterval(polling);
      resized.disconnect();
      draw.stop();
    },
  };
}
