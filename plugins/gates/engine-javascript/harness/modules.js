// CommonJS, and what both kinds of modules see of each other.
import { native } from "./native.js";
import { bound, mockFor } from "./mocks.js";
import { builtins } from "./node/index.js";
import { filePath } from "./node/fs.js";
import { fallbacks } from "./globals.js";

const loaded = new Map();
bound.clearRequired = () => loaded.clear();
const load = (path) => {
  if (path.startsWith("builtin:")) return builtins[path.slice(8)];
  if (path.startsWith("fallback:")) return fallbacks[path.slice(9)];
  const there = loaded.get(path);
  if (there) return there.exports;
  if (!native.isCommonjs(path)) return native.importSync(`actual:${path}`);
  const module = { exports: {}, id: path, filename: path, loaded: false, children: [], paths: [], parent: null, path: path.slice(0, path.lastIndexOf("/")) };
  module.require = requireFrom(path);
  loaded.set(path, module);
  try {
    if (path.endsWith(".json")) module.exports = JSON.parse(new TextDecoder().decode(native.read(path)));
    else native.compile(path).call(module.exports, module.exports, module.require, module, path, module.path);
  } catch (error) {
    loaded.delete(path);
    throw error;
  }
  module.loaded = true;
  return module.exports;
};
bound.requireActual = load;
export const requireFrom = (base) => {
  const require = (name) => {
    let path;
    try { path = native.resolve(base, String(name), true); } catch (error) {
      const mock = mockFor(`virtual:${name}`);
      if (mock) return mock.value;
      throw Object.assign(error, { code: "MODULE_NOT_FOUND" });
    }
    return mockFor(path)?.value ?? load(path);
  };
  require.resolve = (name) => { const path = native.resolve(base, name, true); return path.startsWith("builtin:") ? name : path; };
  require.resolve.paths = () => [];
  require.cache = new Proxy({}, { deleteProperty: (_, path) => { loaded.delete(path); return true; }, ownKeys: () => [...loaded.keys()], getOwnPropertyDescriptor: (_, path) => (loaded.has(path) ? { value: loaded.get(path), enumerable: true, configurable: true } : undefined), get: (_, path) => loaded.get(path) });
  require.main = undefined;
  require.extensions = {};
  return require;
};
builtins.module = { createRequire: (from) => requireFrom(filePath(from)), builtinModules: Object.keys(builtins), isBuiltin: (name) => Object.hasOwn(builtins, name.replace(/^node:/, "")), Module: class Module {}, register() {}, findSourceMap: () => undefined };
export const keysOf = (value) => (value && ["object", "function"].includes(typeof value) ? Object.keys(value) : []);
