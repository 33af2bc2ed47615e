// Small line charts over time, with their axes and the value under the pointer.

import { clean, h, mark, s, say, sync } from "./dom.js";
import { clock, instant } from "./format.js";

const HEIGHT = 120;
const LEFT = 58;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 18;

/** The next round number: 1, 2, 2.5 or 5 times a power of the base. */
function roundUp(value, binary) {
  if (!(value > 0)) return 1;
  const unit = binary ? 1024 ** Math.floor(Math.log(value) / Math.log(1024)) : 1;
  const rest = value / unit;
  const power = 10 ** Math.floor(Math.log10(rest));
  const step = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= rest * 0.9999);
  return step * power * unit;
}

/**
 * @param {{title: string, series: {field: string, label: string}[], format: (value: number) => string, binary?: boolean, whole?: boolean}} options
 * `binary` means that the axis has powers of 1024; `whole` that there are no halves of what is counted
 */
export function chart({ title, series, format, binary, whole }) {
  const grid = s("g", { class: "grid" });
  const lines = series.map((_, at) => s("path", { class: `line line-${at}` }));
  const cursor = s("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const svg = s("svg", { height: HEIGHT, role: "img", class: "plot" }, grid, ...lines, cursor);
  const values = series.map(() => h("b"));
  const when = h("span", { class: "hint" });
  const legend = h("div", { class: "chart-legend" }, series.map(({ label }, at) => h("span", { class: `series series-${at}` }, label, " ", values[at])), when);
  const element = h("section", { class: "chart", "aria-label": title }, h("h2", null, title), legend, svg);
  const keptX = new Map();
  let samples = [];
  let times = [];
  let at = null;

  const geometry = () => {
    const width = Math.max(200, element.clientWidth - 18);
    const [from, to] = [times[0], Math.max(times.at(-1), times[0] + 1000)];
    return { width, from, to, x: (time) => LEFT + ((time - from) / (to - from)) * (width - LEFT - RIGHT) };
  };

  svg.addEventListener("pointermove", (event) => {
    if (samples.length === 0) return;
    const { x } = geometry();
    const pointer = event.clientX - svg.getBoundingClientRect().left;
    at = times.reduce((best, time, place) => (Math.abs(x(time) - pointer) < Math.abs(x(times[best]) - pointer) ? place : best), 0);
    read();
  });
  svg.addEventListener("pointerleave", () => {
    at = null;
    read();
  });

  /** Says the values under the pointer, or the last ones. */
  function read() {
    const shown = at === null || at >= samples.length ? samples.length - 1 : at;
    const sample = samples[shown];
    series.forEach(({ field }, place) => say(values[place], sample ? format(sample[field]) : "–"));
    say(when, at === null || !sample ? "" : clock(times[shown]));
    mark(cursor, "visibility", at === null ? "hidden" : "visible");
    if (at !== null && sample) {
      const { x } = geometry();
      mark(cursor, "x1", x(times[shown]));
      mark(cursor, "x2", x(times[shown]));
    }
    mark(svg, "aria-label", clean(`${title}: ${series.map(({ field, label }) => `${label} ${sample ? format(sample[field]) : "unknown"}`).join(", ")}`));
  }

  function draw(next) {
    samples = next;
    times = samples.map((sample) => instant(sample.at));
    read();
    if (samples.length === 0) return;
    const { width, from, to, x } = geometry();
    mark(svg, "width", width);
    const highest = Math.max(...samples.flatMap((sample) => series.map(({ field }) => sample[field] ?? 0)));
    const most = Math.max(whole ? Math.max(4, Math.ceil(highest / 4) * 4) : 0, whole && highest <= 8 ? 0 : roundUp(highest, binary));
    const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
    series.forEach(({ field }, place) => {
      mark(lines[place], "d", samples.map((sample, one) => `${one ? "L" : "M"}${x(times[one]).toFixed(1)} ${y(sample[field] ?? 0).toFixed(1)}`).join(""));
    });
    const marks = [0, 0.5, 1].map((share) => ({ key: `y${share}`, line: y(most * share), text: format(most * share), width }));
    const spans = [0, 0.5, 1].map((share) => ({ key: `x${share}`, share, text: clock(from + (to - from) * share), at: x(from + (to - from) * share) }));
    sync(grid, keptX, [...marks, ...spans], ({ key }) => key, ({ line }) => s("g", null, line === undefined ? null : s("line"), s("text")), axis);
  }

  function axis(g, item) {
    const text = g.lastChild;
    if (item.line === undefined) {
      mark(text, "x", item.at);
      mark(text, "y", HEIGHT - 4);
      mark(text, "text-anchor", item.share === 0 ? "start" : item.share === 1 ? "end" : "middle");
    } else {
      const line = g.firstChild;
      for (const [name, value] of [["x1", LEFT], ["x2", item.width - RIGHT], ["y1", item.line], ["y2", item.line]]) mark(line, name, value);
      mark(text, "x", LEFT - 6);
      mark(text, "y", item.line + 3.5);
      mark(text, "text-anchor", "end");
    }
    say(text, item.text);
  }

  return { element, draw };
}
