// Building elements. Every text goes through `clean` and becomes a text node or an attribute: there is no way from here to markup,
// whatever a guest wrote.

const SVG = "http://www.w3.org/2000/svg";

// Control characters, what turns the direction of a text, what is not seen, and halves of characters: each can make a text look like another.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|\p{Cs}/gu;
const BREAKS = /[\t\n]/g;

function escaped(char) {
  return `\\u{${char.codePointAt(0).toString(16)}}`;
}

/** A text of one line, with everything escaped that would not be seen as what it is. */
export function clean(text) {
  return cleanLines(text).replace(BREAKS, (char) => (char === "\n" ? "\\n" : "\\t"));
}

/** The same for a text of lines: newlines and tabs stay. */
export function cleanLines(text) {
  return String(text).replace(UNSEEN, escaped);
}

/** A text cut to so many characters, never within one. */
export function cut(text, most) {
  const chars = String(text);
  if (chars.length <= most) return chars;
  const end = /[\ud800-\udbff]/.test(chars[most - 1]) ? most - 1 : most;
  return `${chars.slice(0, end)}…`;
}

function give(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, name === "class" ? value : cleanLines(value));
  }
}

function fill(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) fill(element, child);
    else element.append(child instanceof Node ? child : clean(child));
  }
}

/** An HTML element. Props that are functions are listeners (`onclick`); children are nodes, lists of them, or texts. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  if (props) give(element, props);
  fill(element, children);
  return element;
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  if (props) give(element, props);
  fill(element, children);
  return element;
}

/** Lines of text as they stand, such as a log. */
export function pre(text, props) {
  const element = h("pre", props);
  element.textContent = cleanLines(text);
  return element;
}

/** Sets a text only where it changed: a write costs layout even if nothing is new. */
export function say(element, text) {
  const plain = clean(text);
  if (element.textContent !== plain) element.textContent = plain;
}

/** Sets an attribute only where it changed; null removes it. */
export function mark(element, name, value) {
  if (value === null || value === undefined) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const plain = cleanLines(value);
  if (element.getAttribute(name) !== plain) element.setAttribute(name, plain);
}

/** Replaces what is in an element, where the new content differs by `signature`: keeps focus and selection where nothing is new. */
export function swap(element, signature, make) {
  if (element.dataset.signature === signature) return;
  element.dataset.signature = signature;
  const children = make();
  element.replaceChildren();
  fill(element, [children]);
}

/**
 * Makes the children of `parent` those of `items`, in order, and keeps the element of each key, so that focus, hover and scrolling
 * survive an update.
 * @param {Map<string, Element>} kept the elements so far, by key
 */
export function sync(parent, kept, items, keyOf, create, update) {
  const wanted = new Set();
  let after = null;
  for (const item of items) {
    const key = keyOf(item);
    wanted.add(key);
    let element = kept.get(key);
    if (!element) {
      element = create(item);
      kept.set(key, element);
    }
    update?.(element, item);
    const place = after ? after.nextSibling : parent.firstChild;
    if (place !== element) parent.insertBefore(element, place);
    after = element;
  }
  if (kept.size === wanted.size) return;
  for (const [key, element] of kept) {
    if (wanted.has(key)) continue;
    element.remove();
    kept.delete(key);
  }
}

/**
 * A table that becomes stacked rows on a narrow screen. Roles are told again, since `display: block` takes them away.
 * @param {{label: string, class?: string, node?: Node}[]} columns
 */
export function table(testid, label, columns) {
  const heads = columns.map((column) => h("th", { scope: "col", role: "columnheader", class: column.class }, column.node ?? column.label));
  const body = h("tbody", { role: "rowgroup" });
  const element = h(
    "table",
    { "data-testid": testid, "aria-label": label, role: "table", class: "stacked" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
    body,
  );
  const row = (props) => {
    const cells = columns.map((column) => h("td", { role: "cell", class: column.class, "data-label": column.label }));
    const tr = h("tr", { role: "row", ...props }, cells);
    tr.cells_ = cells;
    return tr;
  };
  return { element: h("div", { class: "scroll" }, element), body, row };
}

/** A status as a mark and a word: colour is never the only cue. */
export function badge(status, testid) {
  const element = h("span", { class: "badge", "data-testid": testid });
  setBadge(element, status);
  return element;
}

export function setBadge(element, status) {
  mark(element, "data-status", status);
  say(element, String(status).replaceAll("_", " "));
}

/** A thin bar of parts: `[[class, share], …]` of a whole. */
export function bar(parts, label) {
  const element = h("span", { class: "meter", role: "img", "aria-label": label });
  for (const [name, share] of parts) {
    if (!(share > 0)) continue;
    const part = h("span", { class: name });
    part.style.width = `${Math.min(100, share * 100)}%`;
    element.append(part);
  }
  return element;
}

/** A box that says that nothing is here, and what to do next. */
export function empty(title, ...what) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", null, what));
}

/** A heading that takes the focus when its page is shown, so that a screen reader begins there. */
export function heading(...children) {
  return h("h1", { tabindex: "-1" }, children);
}

/** Runs `work` at most once an animation frame and no more often than `interval` ms; the last call is never lost. */
export function paced(work, interval = 0) {
  let waiting = false;
  let last = -Infinity;
  let stopped = false;
  const run = () => {
    waiting = false;
    last = performance.now();
    if (!stopped) work();
  };
  const ask = () => {
    if (waiting || stopped) return;
    waiting = true;
    const wait = last + interval - performance.now();
    if (wait > 16) setTimeout(() => requestAnimationFrame(run), wait);
    else requestAnimationFrame(run);
  };
  ask.stop = () => {
    stopped = true;
  };
  return ask;
}

/**
 * Opens a modal dialog, and resolves with what `submit` returned, or null when it was left.
 * `submit` may throw: the error is shown in the dialog, which stays open. One that only tells something (`isTold`) has one button.
 */
export function dialog({ title, body, action, danger, submit, testid, extra, isTold = false }) {
  return new Promise((resolve) => {
    let result = null;
    const problems = h("div", { class: "problems", role: "alert" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary", "data-testid": testid }, action);
    const close = () => element.close();
    const form = h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          go.disabled = true;
          problems.replaceChildren();
          try {
            result = (await submit()) ?? true;
            close();
          } catch (error) {
            problems.replaceChildren(error.node?.() ?? h("p", null, error.message));
          } finally {
            go.disabled = false;
          }
        },
      },
      h("h2", { id: "dialog-title" }, title),
      body,
      problems,
      h("div", { class: "actions" }, extra?.(problems), !isTold && h("button", { type: "button", onclick: close }, "Back"), go),
    );
    const element = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    element.addEventListener("close", () => {
      element.remove();
      resolve(result);
    });
    document.body.append(element);
    element.showModal();
    form.querySelector("[autofocus]")?.focus();
  });
}

/** Asks for a line of text, such as a reason. */
export function ask({ title, label, action, danger, required, submit, help }) {
  const field = h("textarea", { rows: "3", maxlength: "4000", required, autofocus: true });
  const body = h("label", { class: "field" }, label, field, help && h("span", { class: "hint" }, help));
  return dialog({ title, body, action, danger, submit: () => submit(field.value.trim()) });
}
