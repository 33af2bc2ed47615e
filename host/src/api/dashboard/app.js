// The shell: pages by the location's hash, keys, theme, login, and the state of the connection.

import { complain, get, onUnauthorized, post, remove } from "./api.js";
import { dialog, h, say } from "./dom.js";
import * as live from "./live.js";
import * as story from "./story.js";
import { showActivity } from "./view_activity.js";
import { showLetters } from "./view_letters.js";
import { showPlugin, showPlugins } from "./view_plugins.js";
import { showRun } from "./view_run.js";
import { showRuns } from "./view_runs.js";
import { showTask } from "./view_task.js";

const main = document.getElementById("main");
const connection = document.getElementById("connection");

/**
 * Pages: the pattern of the hash, what shows it, and where Esc leads. A view returns `leave`, and optionally `filter` (the field that `/`
 * goes to) and `keys` (what other keys do).
 */
const PAGES = [
  { page: "runs", pattern: /^\/runs$/, show: showRuns, up: () => null },
  { page: "runs", pattern: /^\/runs\/([^/]+)$/, show: showRun, up: () => "#/runs", keepsStory: true },
  { page: "runs", pattern: /^\/runs\/([^/]+)\/tasks\/(.+)\/(\d+)$/, show: showTask, up: ([run]) => `#/runs/${encodeURIComponent(run)}`, keepsStory: true },
  { page: "plugins", pattern: /^\/plugins$/, show: showPlugins, up: () => null },
  { page: "plugins", pattern: /^\/plugins\/([^/]+)$/, show: showPlugin, up: () => "#/plugins" },
  { page: "dead-letters", pattern: /^\/dead-letters$/, show: showLetters, up: () => null },
  { page: "activity", pattern: /^\/activity$/, show: showActivity, up: () => null },
];

let shown = null;
let loginOpen = false;

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function route() {
  const [hash] = (location.hash.slice(1) || "/runs").split("?");
  for (const page of PAGES) {
    const match = page.pattern.exec(hash);
    if (match) return { ...page, params: match.slice(1).map(decoded) };
  }
  return null;
}

function render() {
  const next = route();
  if (!next) {
    location.replace("#/runs");
    return;
  }
  shown?.view.leave?.();
  if (!next.keepsStory) story.leave();
  main.replaceChildren();
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === next.page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = "sandhog";
  shown = { ...next, view: next.show(main, next.params) ?? {} };
  const title = main.querySelector("h1");
  if (title) document.title = `${title.textContent} · sandhog`;
  (title ?? main).focus({ preventScroll: true });
  scrollTo(0, 0);
}

addEventListener("hashchange", render);

// Keys.

const JUMPS = { r: "#/runs", p: "#/plugins", d: "#/dead-letters", a: "#/activity" };
const JUMP_MS = 1500;
let jumpUntil = 0;

const isWriting = (element) => element instanceof HTMLElement && (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName) || (element.tagName === "INPUT" && !/^(checkbox|radio|button)$/.test(element.type)));

/** The links and boxes that j and k move between: the first of each row of a list. */
const rows = () => [...main.querySelectorAll("[data-nav]")].filter((element) => element.offsetParent !== null);

function step(by) {
  const list = rows();
  if (list.length === 0) return false;
  const focused = document.activeElement;
  const row = focused?.closest?.("tr, li");
  const at = list.findIndex((element) => element === focused || (row && row.contains(element)));
  const next = at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(list.length - 1, Math.max(0, at + by));
  list[next].focus({ preventScroll: true });
  (list[next].closest("tr, li") ?? list[next]).scrollIntoView({ block: "nearest" });
  return true;
}

function escape(event) {
  const { target } = event;
  if (isWriting(target)) {
    if (target.value && target.type === "search") {
      target.value = "";
      target.dispatchEvent(new Event("input", { bubbles: true }));
    } else target.blur();
    return;
  }
  const up = shown?.up(shown.params);
  if (up) location.hash = up;
}

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") return escape(event);
  if (isWriting(event.target)) return;
  const { key } = event;
  if (performance.now() < jumpUntil && JUMPS[key]) {
    jumpUntil = 0;
    location.hash = JUMPS[key];
  } else if (key === "g") jumpUntil = performance.now() + JUMP_MS;
  else if (key === "j" || key === "ArrowDown") {
    if (!step(1)) return;
  } else if (key === "k" || key === "ArrowUp") {
    if (!step(-1)) return;
  } else if (key === "/") {
    if (!shown?.view.filter) return;
    shown.view.filter.focus();
    shown.view.filter.select();
  } else if (key === "?") showHelp();
  else if (shown?.view.keys?.[key]) shown.view.keys[key](event);
  else return;
  event.preventDefault();
}

addEventListener("keydown", pressed);

const HELP = [
  ["j  k  ↓  ↑", "next and previous in a list"],
  ["Enter", "open"],
  ["Esc", "leave a field; back to the page above"],
  ["/", "filter"],
  ["g then r", "runs"],
  ["g then p", "plugins"],
  ["g then d", "dead letters"],
  ["g then a", "activity"],
  ["n", "start a run (on the page of runs)"],
  ["x", "select (on the page of dead letters)"],
  ["← → ↑ ↓", "between bars of a timeline, once one has the focus"],
  ["?", "this help"],
];

function showHelp() {
  const body = h("dl", { class: "keys" }, HELP.map(([keys, what]) => [h("dt", null, h("kbd", null, keys)), h("dd", null, what)]));
  dialog({ title: "Keys", body, action: "Close", isTold: true, submit: async () => true });
}

document.getElementById("help").addEventListener("click", showHelp);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the page's
  (main.querySelector("h1") ?? main).focus();
});

// Theme: as the system, dark, light.

const THEMES = ["system", "dark", "light"];

function keepTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("sandhog.theme");
    else localStorage.setItem("sandhog.theme", theme);
  } catch {
    // It holds for this page, then.
  }
  nameTheme(theme);
}

function nameTheme(theme) {
  const button = document.getElementById("theme");
  button.textContent = { system: "◐", dark: "●", light: "○" }[theme];
  button.setAttribute("aria-label", `Theme: ${theme}`);
  button.title = `Theme: ${theme}`;
}

const themeNow = () => document.documentElement.dataset.theme ?? "system";
document.getElementById("theme").addEventListener("click", () => keepTheme(THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length]));
nameTheme(themeNow());

// Login.

async function login() {
  if (loginOpen) return;
  loginOpen = true;
  live.pause();
  const field = h("input", { type: "password", autocomplete: "current-password", required: true, autofocus: true, "data-testid": "token" });
  const body = h("label", { class: "field" }, "Token", field, h("span", { class: "hint" }, "The token that the server was started with. It is sent once, and kept as a cookie that scripts cannot read."));
  const entered = await dialog({ title: "This server asks for a token", body, action: "Log in", submit: () => post("/v1/session", { token: field.value }, { quiet: true }) });
  loginOpen = false;
  if (entered === null) {
    main.replaceChildren(h("div", { class: "empty" }, h("p", { class: "empty-title" }, "Not logged in"), h("button", { type: "button", class: "primary", onclick: login }, "Log in")));
    return;
  }
  begin();
}

onUnauthorized(login);

const logout = document.getElementById("logout");
logout.addEventListener("click", async () => {
  try {
    await remove("/v1/session");
    login();
  } catch (error) {
    complain(error);
  }
});

async function begin() {
  story.leave();
  live.reconnect();
  render();
  const status = await get("/v1/status").catch(() => null);
  logout.hidden = !status?.auth;
}

/** Whether the server takes this page's requests: asked before the socket is tried again. */
async function isAllowed() {
  try {
    await get("/v1/status");
    return true;
  } catch (error) {
    return error.problem?.status !== 401;
  }
}

live.watch((state) => {
  connection.dataset.state = state;
  say(connection, { live: "live", connecting: "connecting…", reconnecting: "reconnecting…", paused: "not connected" }[state]);
});

addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  complain(event.reason);
});

live.start(isAllowed);
render();
get("/v1/status").then((status) => {
  logout.hidden = !status.auth;
}, () => {});
