// Numbers, sizes and times as people read them.

import { h } from "./dom.js";

const FUEL = ["", " k", " M", " G", " T", " P"];
const BYTES = [" B", " KiB", " MiB", " GiB", " TiB"];

function scaled(value, base, units) {
  let place = 0;
  let rest = value;
  while (rest >= base && place < units.length - 1) {
    rest /= base;
    place += 1;
  }
  const digits = place === 0 || rest >= 100 ? 0 : 1;
  return `${Number(rest.toFixed(digits))}${units[place]}`;
}

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Fuel, in powers of a thousand: `1.2 M`. */
export const fuel = (value) => (known(value) ? scaled(value, 1000, FUEL) : "–");

/** Bytes, in powers of 1024: `3.4 MiB`. */
export const bytes = (value) => (known(value) ? scaled(value, 1024, BYTES) : "–");

export const count = (value) => (known(value) ? value.toLocaleString("en").replaceAll(",", "\u2009") : "–");

/** A number a second: with a digit where it is small. */
export const rate = (value) => (known(value) ? (value < 10 ? String(Number(value.toFixed(1))) : scaled(value, 1000, FUEL)) : "–");

/** A time span in milliseconds: `0.6 ms`, `52 ms`, `1.2 s`, `3 m 12 s`, `2 h 5 m`, `4 d 3 h`. */
export function duration(ms) {
  if (!known(ms)) return "–";
  if (ms < 0) return "0 ms";
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 59.95) return Number.isInteger(seconds) ? `${seconds} s` : `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** A timestamp as milliseconds with their fraction: runs can take less than one, and `Date` has no more. */
export function instant(text) {
  if (!text) return NaN;
  const match = /^(.*?)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (!match) return Date.parse(text);
  return Date.parse(match[1] + match[3]) + Number(match[2] ?? 0) * 1000;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const OLD = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

/** A time on the local clock: short where it is today. */
export function local(ms) {
  const date = new Date(ms);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return CLOCK.format(date);
  return (date.getFullYear() === now.getFullYear() ? DAY : OLD).format(date);
}

export const clock = (ms) => CLOCK.format(new Date(ms));

/** A `<time>` on the local clock, with the full timestamp in its title. */
export function time(text) {
  if (!text) return h("span", null, "–");
  const ms = instant(text);
  return Number.isFinite(ms) ? h("time", { datetime: text, title: text }, local(ms)) : h("span", null, text);
}

export const short = (run) => String(run).slice(-8);

/** `1 finding`, `2 findings`. */
export const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/** The place of a finding: `path:line:column`. */
export function place(location) {
  if (!location) return "";
  const span = location.span;
  return span ? `${location.path}:${span.start_line}:${span.start_column}` : location.path;
}
