// Doubles of modules: which are replaced, and by what. `require` and `import` ask here before they load.
import { hoistMocks } from "@vitest/mocker/transforms";
import { Parser } from "acorn";
import { isThenable, native } from "./native.js";

const entries = new Map();
const numbered = [];
let generation = 0;
/** Is told by the others what it cannot import from them without a circle. */
export const bound = { automock: null, clearRequired: null, requireActual: null };

const caller = () => {
  const place = new Error().stack.split("\n").map((line) => /\((.*?)(?:\?[^:]*)?:\d+(?::\d+)?\)/.exec(line)?.[1]).find((path) => path?.startsWith(native.root));
  return place ?? `${native.root}/test`;
};
/** The paths that a name means, for `import` and for `require`; or the name itself where there is no such module. */
const pathsOf = (base, name) => {
  const paths = [];
  let error;
  for (const require of [false, true]) try { paths.push(native.resolve(base, name, require)); } catch (caught) { error = caught; }
  return { paths: paths.length ? [...new Set(paths)] : [`virtual:${name}`], error };
};
const register = (name, factory) => {
  const base = caller();
  const { paths } = pathsOf(base, name);
  const entry = { number: numbered.length, name, base, path: paths[0], factory: typeof factory === "function" ? factory : undefined, spy: Boolean(factory?.spy), started: false };
  numbered.push(entry);
  for (const path of paths) entries.set(path, entry);
};
const actual = async (path) => import(`actual:${path}`);
/** A file that stands for another by its place: `__mocks__` beside it, or at the root for a package. */
const beside = ({ path, name }) => {
  if (path.startsWith("builtin:") || path.startsWith("virtual:") || path.includes("/node_modules/")) return native.find(`${native.root}/__mocks__/${name}`);
  const cut = path.lastIndexOf("/");
  return native.find(`${path.slice(0, cut)}/__mocks__${path.slice(cut).replace(/\.\w+$/, "")}`);
};
const start = (entry) => {
  if (entry.started) return;
  entry.started = true;
  const original = () => actual(entry.path);
  const own = entry.factory ? undefined : beside(entry);
  const made = entry.factory ? entry.factory(original) : own && !entry.spy ? native.importSync(`actual:${own}`) : bound.automock(bound.requireActual(entry.path), entry.spy ? "autospy" : "automock");
  if (!isThenable(made)) { entry.value = made; return; }
  entry.waiting = made.then((value) => { entry.value = value; delete entry.waiting; });
};
/** What stands for a module now. */
const valueOf = (entry) => {
  start(entry);
  if (entry.waiting) throw new Error(`the mock of ${entry.name} is made by an asynchronous factory, and it is not done yet`);
  if (entry.value === undefined || entry.value === null || typeof entry.value !== "object" && typeof entry.value !== "function") throw new Error(`the factory of the mock of ${entry.name} has to return an object`);
  return entry.value;
};

/** The name under which a module is loaded: its own, or that of what stands for it. */
export const replace = (path) => {
  const entry = entries.get(path);
  if (entry) return `mock:${entry.number}:${path}`;
  if (path.startsWith("virtual:")) return "";
  return generation > 0 && path.startsWith("/") && !path.includes("?") ? `${path}?${generation}` : path;
};
export const mockOf = (number) => valueOf(numbered[number]);
export const mockFor = (path) => (entries.has(path) ? { value: valueOf(entries.get(path)) } : null);
/** Makes what is to stand for modules, in the order in which it was asked for. */
export const settle = async () => {
  for (const entry of entries.values()) { start(entry); await entry.waiting; }
};

export const modules = {
  mock(name, factory) { register(name, factory); },
  unmock(name) { for (const path of pathsOf(caller(), name).paths) entries.delete(path); },
  reset() {
    generation += 1;
    bound.clearRequired();
    for (const entry of entries.values()) { entry.started = false; delete entry.value; delete entry.waiting; entry.number = numbered.length; numbered.push(entry); }
  },
  importActual: (name) => actual(native.resolve(caller(), name, false)),
  async importMock(name) {
    const { paths } = pathsOf(caller(), name);
    const entry = entries.get(paths[0]);
    if (entry) { start(entry); await entry.waiting; return entry.value; }
    return bound.automock(await actual(paths[0]));
  },
  requireActual: (name) => bound.requireActual(name.startsWith("/") || name.startsWith("builtin:") ? name : native.resolve(caller(), name, true)),
  requireMock(name) {
    const { paths, error } = pathsOf(caller(), name);
    const entry = paths.map((path) => entries.get(path)).find(Boolean);
    if (entry) return valueOf(entry);
    if (error) throw error;
    return bound.automock(bound.requireActual(paths.at(-1)));
  },
};

/** A file whose calls of `vi.mock` and `jest.mock` come before what it imports, as Vitest and Jest have it. */
export const hoisted = (text, path, isModule) => {
  const hoistedModule = /from\s*["']@jest\/globals["']/.test(text) ? "@jest/globals" : "vitest";
  const parse = (code) => Parser.parse(code, { sourceType: isModule ? "module" : "script", ecmaVersion: "latest", locations: true, allowReturnOutsideFunction: true, allowAwaitOutsideFunction: isModule });
  const imported = /(?:import|const|let|var)\s*\{[^}]*\b(?:vi|vitest|jest)\b[^}]*\}/.test(text);
  if (!isModule) {
    const program = parse(text);
    const isMock = ({ type, expression }) => {
      for (let call = expression; type === "ExpressionStatement" && call?.type === "CallExpression" && call.callee.type === "MemberExpression"; call = call.callee.object) {
        const { object, property } = call.callee;
        if (object.type === "Identifier" && ["jest", "vi"].includes(object.name) && ["mock", "unmock"].includes(property.name)) return true;
      }
      return false;
    };
    const calls = program.body.filter(isMock);
    if (!calls.length || imported) return text;
    const first = calls.map((call) => text.slice(call.start, call.end)).join(";").replace(/\n/g, " ");
    let rest = text;
    for (const call of [...calls].reverse()) rest = rest.slice(0, call.start) + text.slice(call.start, call.end).replace(/[^\n]/g, " ") + rest.slice(call.end);
    return `${first};${rest}`;
  }
  const changed = hoistMocks(text, path, parse, { hoistedModule, utilsObjectNames: ["vi", "vitest", "jest"], regexpHoistable: /\b(?:vi|vitest|jest)\s*\.\s*(?:mock|unmock|hoisted|doMock|doUnmock)\s*\(/, root: native.root });
  if (!changed) return text;
  return changed.toString().replace(/const __vi_import_0__ = await /, "await import.meta.mocks(); const __vi_import_0__ = await ");
};
