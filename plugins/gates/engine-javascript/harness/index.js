// What the gate calls. Results go to it as text: whatever the code under test puts in the place of JSON later does not make it.
import { giveBack } from "./first.js";
import { native, isThenable } from "./native.js";
import { isWaiting, turn } from "./clock.js";
import { begin as beginFile, benchmarks, isVitest, named, settleSuites, tests } from "./registry.js";
import { builtins } from "./node/index.js";
import { hoisted, mockOf, replace, settle } from "./mocks.js";
import { fallbacks } from "./globals.js";
import { keysOf, requireFrom } from "./modules.js";
import { process } from "./node/process.js";
import { describeError, runTest, runToEnd } from "./run.js";

giveBack();
const { stringify } = JSON;
const { assign, create, freeze, hasOwn } = Object;
const told = (result) => stringify(assign(create(null), result));
const identifier = /^[A-Za-z_$][\w$]*$/;
const fuelOf = async (body) => {
  const before = native.fuel();
  const returned = body();
  if (isThenable(returned)) await returned;
  return native.fuel() - before;
};
export default freeze({
  begin() {
    // As the runners have it.
    if (isVitest()) process.env.VITEST = "true"; else process.env.JEST_WORKER_ID = "1";
    beginFile();
  },
  async loaded(file) {
    await settleSuites();
    for (const entry of [...tests, ...benchmarks]) entry.file ??= file;
  },
  units: () => stringify(named(tests)),
  benchmarks: () => stringify(named(benchmarks)),
  run(unit) {
    const found = tests[named(tests).indexOf(unit)];
    return found ? runTest(found).then(told) : null;
  },
  bench(unit) {
    const found = benchmarks[named(benchmarks).indexOf(unit)];
    if (!found) return null;
    // The first call compiles what the engine compiles lazily; the second one counts.
    return fuelOf(found.body).then(() => fuelOf(found.body)).then((fuel) => told({ status: "measured", fuel: String(fuel) }), (error) => told({ status: "failed", when: "", ...describeError(error) }));
  },
  end: runToEnd,
  turn,
  turnOnce: () => isWaiting() && turn(),
  hoisted,
  replace,
  settle,
  isBuiltin: (name) => hasOwn(builtins, name),
  isFallback: (name) => hasOwn(fallbacks, name),
  /** The value of what is no module of its own, with the names that it exports. */
  value(name) {
    const [, kind, rest] = /^(\w+):([^]*)$/.exec(name) ?? [];
    const value = kind === "builtin" ? builtins[rest] : kind === "fallback" ? fallbacks[rest] : kind === "mock" ? mockOf(Number.parseInt(rest, 10)) : requireFrom(name)(`actual:${name}`);
    return { value, keys: keysOf(value).filter((key) => identifier.test(key) && key !== "default") };
  },
  require: (path) => requireFrom(path)(path),
  requireFrom,
  environment: () => ({ MODE: "test", DEV: true, PROD: false, SSR: true, BASE_URL: "/", ...process.env }),
});
