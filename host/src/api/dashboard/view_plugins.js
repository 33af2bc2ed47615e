// The pages of plugins: what the folders hold and how it stands, and all about one. Nothing here grants anything.

import { complain, get, path } from "./api.js";
import { badge, cut, empty, h, heading, mark, paced, say, setBadge, swap, sync, table } from "./dom.js";
import { bytes, count, counted, duration, fuel, instant } from "./format.js";
import * as live from "./live.js";

const COLUMNS = [{ label: "State" }, { label: "Name" }, { label: "Kind" }, { label: "Version" }, { label: "Breaker" }, { label: "Size", class: "number" }, { label: "Description", class: "wide" }];
const REFRESH_MS = 500;

const GRANTS = () => h("p", { class: "hint" }, "Grants are made on the command line, with ", h("code", null, "sandhog plugins grant"), ": nothing on this page grants anything.");

/** The time that an open breaker has left, in words. */
function breakerText(breaker) {
  if (!breaker || breaker.state === "closed") return "";
  if (breaker.state === "half_open") return "half open: being probed";
  const left = breaker.until ? instant(breaker.until) - Date.now() : NaN;
  return left > 0 ? `open, ${duration(Math.ceil(left / 1000) * 1000)} left` : "open, a probe is due";
}

/** Follows what changes of plugins and breakers, and calls `load`, at once and after each change. */
function follow(load, plugins = []) {
  let timer = null;
  const again = () => {
    timer ??= setTimeout(() => {
      timer = null;
      load();
    }, REFRESH_MS);
  };
  const ends = [live.subscribe("plugins", { topics: ["plugins"] }, again), live.subscribe("breakers", { topics: ["breakers"], plugins }, again)];
  load();
  return () => {
    clearTimeout(timer);
    ends.forEach((end) => end());
  };
}

export function showPlugins(main) {
  const kept = new Map();
  let plugins = null;
  let bad = [];
  let breakers = new Map();
  let gone = false;
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter plugins by text", oninput: () => redraw() });
  const list = table("plugins-table", "Plugins", COLUMNS);
  const nothing = h("div");
  const files = h("div");
  const summary = h("span", { class: "hint" });
  main.append(h("div", { class: "row head" }, heading("Plugins"), summary, h("span", { class: "spring" }), filter), GRANTS(), list.element, nothing, files);
  const redraw = paced(draw, 100);

  async function load() {
    try {
      const [told, open] = await Promise.all([get("/v1/plugins"), get("/v1/breakers")]);
      [plugins, bad] = [told.plugins, told.bad ?? []];
      breakers = new Map(open.breakers.filter(({ state }) => state !== "closed").map((breaker) => [breaker.plugin, breaker]));
    } catch (error) {
      complain(error);
    }
    if (!gone) redraw();
  }

  function draw() {
    const text = filter.value.trim().toLowerCase();
    const all = plugins ?? [];
    const shown = all.filter((plugin) => !text || `${plugin.name} ${plugin.kind} ${plugin.state} ${plugin.description ?? ""}`.toLowerCase().includes(text));
    sync(list.body, kept, shown, ({ name, digest, state }) => `${name}/${digest}/${state}`, create, update);
    list.element.hidden = shown.length === 0;
    say(summary, plugins ? `${counted(all.length, "plugin")}, ${all.filter(({ state }) => state === "serves").length} serve` : "reading…");
    swap(nothing, shown.length || !plugins ? "" : String(all.length), () => {
      if (shown.length || !plugins) return [];
      if (all.length) return empty("No plugin fits the filter.", "Press Esc in the filter to clear it.");
      return empty("There are no plugins.", "Drop a component (", h("code", null, ".wasm"), ") into a plugin folder, or begin one with ", h("code", null, "sandhog new worker NAME"), ".");
    });
    swap(files, JSON.stringify(bad), () => (bad.length ? h("section", { "aria-label": "Files that are no plugins" }, h("h2", null, "Files that are no plugins"), h("ul", { class: "bad-files" }, bad.map(({ path: file, problem }) => h("li", null, h("code", null, file), h("p", null, cut(problem, 2000)))))) : []));
  }

  function create(plugin) {
    const tr = list.row({ "data-testid": `plugin-row-${plugin.name}` });
    tr.badge_ = badge(plugin.state);
    tr.why_ = h("span", { class: "why" });
    tr.cells_[0].append(tr.badge_);
    tr.cells_[1].append(h("a", { href: `#/plugins/${encodeURIComponent(plugin.name)}`, "data-nav": true, class: "row-link" }, plugin.name), plugin.standard ? h("span", { class: "hint" }, " standard") : "", tr.why_);
    tr.cells_[2].append(plugin.kind);
    tr.cells_[3].append(plugin.version ?? "–");
    tr.cells_[5].append(bytes(plugin.size_bytes));
    tr.cells_[6].append(h("span", { title: plugin.digest }, ""));
    tr.cells_[6].append(cut(plugin.description ?? "", 300));
    return tr;
  }

  function update(tr, plugin) {
    setBadge(tr.badge_, plugin.state);
    say(tr.why_, plugin.reason ? cut(plugin.reason, 300) : "");
    const text = breakerText(breakers.get(plugin.name));
    say(tr.cells_[4], text || "–");
    mark(tr.cells_[4], "data-tone", text ? "bad" : "none");
  }

  const end = follow(load);
  const ticking = setInterval(() => breakers.size && redraw(), 1000);
  draw();
  return {
    filter,
    leave: () => {
      gone = true;
      end();
      clearInterval(ticking);
      redraw.stop();
    },
  };
}

const LIMITS = { fuel, timeout_ms: duration, handles: count };

/** A limit as people read it, by what its name ends with. */
function limit(name, value) {
  if (LIMITS[name]) return LIMITS[name](value);
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_ms")) return duration(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const word = (name) => name.replace(/_(ms|bytes)$/, "").replaceAll("_", " ");

export function showPlugin(main, [name]) {
  let gone = false;
  let plugin = null;
  let breaker = null;
  const state = badge("…");
  const body = h("div");
  const open = h("p", { class: "reason bad", hidden: true });
  main.append(h("p", { class: "crumbs" }, h("a", { href: "#/plugins" }, "Plugins")), h("div", { class: "row head" }, heading(name), state), open, body);

  async function load() {
    try {
      const [told, all] = await Promise.all([get(path(["plugins", name])), get("/v1/breakers")]);
      plugin = told;
      breaker = all.breakers.find((one) => one.plugin === name) ?? null;
    } catch (error) {
      complain(error);
      if (!plugin && !gone) body.replaceChildren(empty("This plugin cannot be shown.", error.message, " ", h("a", { href: "#/plugins" }, "All plugins")));
    }
    if (!gone && plugin) draw();
  }

  function draw() {
    setBadge(state, plugin.state);
    const text = breakerText(breaker);
    open.hidden = !text;
    say(open, text ? `The circuit breaker is ${text}.` : "");
    swap(body, JSON.stringify(plugin), () => about(plugin));
  }

  const end = follow(load, [name]);
  const ticking = setInterval(() => plugin && breaker && draw(), 1000);
  return {
    leave: () => {
      gone = true;
      end();
      clearInterval(ticking);
    },
  };
}

function about(plugin) {
  const held = plugin.held ?? plugin.reason;
  return [
    held && h("p", { class: "reason waits" }, h("b", null, "Held: "), typeof held === "string" ? held : JSON.stringify(held)),
    plugin.description && h("p", null, cut(plugin.description, 1000)),
    pairs([
      ["Kind", plugin.kind], ["Version", plugin.version], ["Size", bytes(plugin.size_bytes)], ["Deterministic", { true: "yes", false: "no" }[plugin.deterministic] ?? "unknown"],
      ["Licence", plugin.license], ["Source", plugin.source], ["Authors", plugin.authors?.length ? plugin.authors.join(", ") : null], ["Digest", plugin.digest],
    ]),
    section("Limits", plugin.limits ? pairs(Object.entries(plugin.limits).map(([key, value]) => [word(key), limit(key, value)])) : empty("No limits are known.", "They are those of the configuration once it serves.")),
    section("Requests", requests(plugin)),
    section("Exports", names(plugin.exports, "It exports nothing.")),
    section("Imports", names(plugin.imports, "It imports nothing: it touches nothing.")),
    plugin.params && section("Params", h("pre", { class: "content", tabindex: "0", "aria-label": "Schema of the params" }, JSON.stringify(plugin.params, null, 2).split("\n").map((line) => [line, document.createTextNode("\n")]))),
  ].filter(Boolean);
}

const section = (title, ...nodes) => h("section", { "aria-label": title }, h("h2", null, title), ...nodes);
const pairs = (list) => h("dl", { class: "facts" }, list.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([label, value]) => h("div", null, h("dt", null, label), h("dd", null, cut(value, 600)))));
const names = (list, none) => (list?.length ? h("ul", { class: "names" }, list.map((one) => h("li", null, h("code", null, typeof one === "string" ? one : JSON.stringify(one))))) : h("p", { class: "hint" }, none));

function requests(plugin) {
  const list = plugin.requests ?? [];
  const grants = plugin.grants ?? [];
  return h("div", null,
    list.length === 0 ? h("p", { class: "hint" }, "It asks for nothing beyond its input.")
      : h("ul", { class: "requests" }, list.map((request) => h("li", null, badge(request.granted ? "granted" : "not granted"), " ", h("b", null, String(request.capability)), request.what ? [" ", h("code", null, cut(request.what, 300))] : null, request.why && h("p", null, cut(request.why, 600))))),
    grants.length > 0 && [h("h3", null, "Granted"), names(grants, "")],
    GRANTS());
}
