// Requests to the API, and what is shown when one is refused.

import { clean, h } from "./dom.js";

/** Why something was not done, as the API tells it. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "the request failed");
    this.problem = problem;
  }

  /** The problem as an element: the sentence, each fault with its place, what to do, and the request's name for the log. */
  node() {
    const { help, problems = [], request_id: id } = this.problem;
    return h(
      "div",
      { class: "problem" },
      h("p", null, this.message),
      problems.length > 0 && h("ul", { class: "places" }, problems.map(fault)),
      help && h("p", { class: "help" }, "Help: ", help),
      id && h("p", { class: "request-id" }, "request ", h("code", null, id)),
    );
  }
}

function fault({ file, line, column, message, help }) {
  const where = [file, line, column].filter((part) => part !== null && part !== undefined && part !== "").join(":");
  return h("li", null, where && h("code", null, where), where && " ", message, help && h("span", { class: "help" }, " Help: ", help));
}

const listeners = new Set();

/** Calls back whenever a request is answered with 401. */
export function onUnauthorized(callback) {
  listeners.add(callback);
}

async function problemOf(response) {
  const fallback = {
    title: response.statusText,
    status: response.status,
    code: null,
    detail: `the server answered ${response.status} ${response.statusText}`,
    help: null,
    request_id: response.headers.get("x-request-id"),
  };
  const problem = await response.json().catch(() => null);
  const told = problem && typeof problem === "object" ? { ...fallback, ...problem } : fallback;
  if (response.status === 429) {
    const after = response.headers.get("retry-after");
    if (after && !told.help) told.help = `try again in ${after} s`;
  }
  return told;
}

async function request(method, path, body, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: options.signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused({ detail: "the server cannot be reached", help: "is `sandhog serve` running? This page goes on by itself once it is", code: "unreachable", status: 0 });
  }
  if (response.ok) return response;
  const refused = new Refused(await problemOf(response));
  if (response.status === 401 && !options.quiet) for (const callback of listeners) callback();
  throw refused;
}

export async function get(path, options) {
  return (await request("GET", path, undefined, options)).json();
}

export async function post(path, body, options) {
  const response = await request("POST", path, body, options);
  return response.status === 204 ? null : response.json();
}

export async function remove(path) {
  await request("DELETE", path);
}

/** The first bytes of a content, as text. Reading ends there: an artifact may be large. */
export async function text(path, most) {
  const response = await request("GET", path, undefined, { headers: { accept: "*/*" } });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let read = "";
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: read + decoder.decode(), whole: true };
    const room = most - size;
    read += decoder.decode(value.subarray(0, room), { stream: true });
    size += value.length;
    if (size > most) {
      reader.cancel().catch(() => {});
      return { text: read, whole: false };
    }
  }
}

/** A path with its parts escaped, and a query of what is set. */
export function path(parts, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) params.set(name, String(value));
  }
  const tail = params.toString();
  return `/v1/${parts.map((part) => encodeURIComponent(part)).join("/")}${tail ? `?${tail}` : ""}`;
}

const NOTICES_MAX = 5;

/** Shows a message until it is dismissed; one that says what it is only told of (`info`) goes by itself. */
export function notice(content, kind = "error") {
  const box = document.getElementById("notices");
  const same = [...box.children].find((child) => child.dataset.text === contentText(content));
  same?.remove();
  const element = h(
    "div",
    { class: `notice ${kind}`, "data-testid": "notice" },
    h("div", { class: "notice-body" }, content),
    h("button", { type: "button", class: "dismiss", "aria-label": "Dismiss", onclick: () => element.remove() }, "×"),
  );
  element.dataset.text = contentText(content);
  box.append(element);
  while (box.children.length > NOTICES_MAX) box.firstChild.remove();
  if (kind === "info") setTimeout(() => element.remove(), 6000);
}

const contentText = (content) => clean(content instanceof Node ? content.firstChild?.textContent ?? "" : content);

/** Shows why something failed. An abort is nobody's fault, and 401 has its own form. */
export function complain(error) {
  if (error.name === "AbortError" || error.problem?.status === 401) return;
  if (!error.problem) console.error(error);
  notice(error.node?.() ?? error.message);
}

/** Sends a command, and says so. Resolves to whether it was taken. */
export async function tell(path, body, said) {
  try {
    const answer = await post(path, body);
    if (said) notice(said, "info");
    return answer ?? true;
  } catch (error) {
    complain(error);
    return null;
  }
}
