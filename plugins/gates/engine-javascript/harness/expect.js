// `expect` and `chai` as Vitest has them, with its snapshots.
import * as chai from "chai";
import { ASYMMETRIC_MATCHERS_OBJECT, ChaiStyleAssertions, JestAsymmetricMatchers, JestChaiExpect, JestExtend, GLOBAL_EXPECT, addCustomEqualityTesters, customMatchers, equals, getState, iterableEquality, setState, subsetEquality } from "@vitest/expect";
import { SnapshotClient, SnapshotState, addSerializer, stripSnapshotIndentation } from "@vitest/snapshot";
import path from "path-browserify";
import { native } from "./native.js";

const client = new SnapshotClient({ isEqual: (received, expected) => equals(received, expected, [iterableEquality, subsetEquality]) });
// Where an inline snapshot would be written does not matter: none is.
let line = 0;
SnapshotState.prototype._inferInlineSnapshotStack = () => ({ file: "", line: ++line, column: 1 });
/** The snapshots of a file, which are compared and never written. */
class Environment {
  isOfJest = false;
  getVersion() { return "1"; }
  getHeader() { return "// Snapshot v1"; }
  async resolveRawPath(file, raw) { return path.resolve(path.dirname(file), raw); }
  async resolvePath(file) { return path.join(path.dirname(file), "__snapshots__", `${path.basename(file)}.snap`); }
  async readSnapshotFile(file) {
    const bytes = native.read(file);
    if (bytes === null) return null;
    const text = new TextDecoder().decode(bytes);
    if (file.endsWith(".snap")) this.isOfJest = text.startsWith("// Jest Snapshot");
    return text;
  }
  async saveSnapshotFile() {}
  async prepareDirectory() {}
  async removeSnapshotFile() {}
}
let at = { file: "", names: [], test: null };
let environment;
/** Before a test: where it is, and what counts its assertions. */
export const beginTest = async (file, names) => {
  environment = new Environment();
  await client.setup(file, { updateSnapshot: "none", snapshotEnvironment: environment });
  const test = { promises: [], onFinished: [], result: { state: "run", errors: [] }, context: {}, meta: {} };
  at = { file, names, test };
  setState({ assertionCalls: 0, isExpectingAssertions: false, isExpectingAssertionsError: null, expectedAssertionsNumber: null, expectedAssertionsNumberErrorGen: null, testPath: file, currentTestName: names.join(" "), snapshotState: client.getSnapshotState(file), environment: "node" }, expect);
};
/** After its body: promises of expectations that nobody has awaited, soft failures and counts. */
export const endTest = async () => {
  const { test } = at;
  for (const promise of [...test.promises]) await promise;
  if (test.result.errors?.length) throw Object.assign(new Error(test.result.errors.map((error) => error.message).join("\n")), { name: "AssertionError", stack: test.result.errors[0].stack });
  const { assertionCalls, expectedAssertionsNumber, expectedAssertionsNumberErrorGen, isExpectingAssertions, isExpectingAssertionsError } = getState(expect);
  if (expectedAssertionsNumber !== null && assertionCalls !== expectedAssertionsNumber) throw expectedAssertionsNumberErrorGen();
  if (isExpectingAssertions && assertionCalls === 0) throw isExpectingAssertionsError;
};
/** What node:test's `plan` asks for. */
export const plan = (count) => expect.assertions(count);

const Snapshots = ({ Assertion }, utils) => {
  const name = () => at.names.join(environment.isOfJest ? " " : " > ");
  const isNot = (assertion, which) => { if (utils.flag(assertion, "negate")) throw new Error(`${which} cannot be used with "not"`); };
  const shared = (assertion) => {
    if (!at.file) throw new Error("a snapshot is of a test, and none runs");
    return { filepath: at.file, name: name(), received: utils.flag(assertion, "object"), errorMessage: utils.flag(assertion, "message") };
  };
  const method = (names, body) => { for (const which of names) utils.addMethod(Assertion.prototype, which, function (...parameters) { isNot(this, which); return body.call(this, ...parameters); }); };
  const messageOf = (error) => (error instanceof Error ? error.message : String(error));
  const caught = (assertion) => {
    const received = utils.flag(assertion, "object");
    if (utils.flag(assertion, "promise") === "rejects") return messageOf(received);
    if (typeof received !== "function") throw new TypeError(`expected a function that throws, found ${typeof received}`);
    try { received(); } catch (error) { return messageOf(error); }
    throw new Error("snapshot function did not throw");
  };
  const inline = (text) => (text === undefined ? undefined : stripSnapshotIndentation(text));
  const withoutSnapshot = (which) => Object.assign(new Error(`${which}() has no snapshot yet; sandhog writes none`), { name: "AssertionError" });
  const compare = (options) => {
    const { pass, message, actual, expected } = client.match(options);
    if (pass) return;
    if (expected === undefined) throw withoutSnapshot("toMatchSnapshot");
    throw Object.assign(new Error(message()), { name: "AssertionError", actual, expected });
  };
  method(["matchSnapshot", "toMatchSnapshot"], function (properties, message) {
    if (typeof properties === "string") [properties, message] = [undefined, properties];
    compare({ ...shared(this), properties, message, isInline: false });
  });
  method(["toMatchInlineSnapshot"], function (properties, snapshot, message) {
    if (typeof properties === "string") [properties, snapshot, message] = [undefined, properties, snapshot];
    if (snapshot === undefined) throw withoutSnapshot("toMatchInlineSnapshot");
    client.assert({ ...shared(this), properties, message, isInline: true, inlineSnapshot: inline(snapshot) });
  });
  method(["toThrowErrorMatchingSnapshot"], function (message) { compare({ ...shared(this), received: caught(this), message, isInline: false }); });
  method(["toThrowErrorMatchingInlineSnapshot"], function (snapshot, message) {
    if (snapshot === undefined) throw withoutSnapshot("toThrowErrorMatchingInlineSnapshot");
    // Jest keeps the message alone; Vitest the error as it prints it.
    const text = caught(this);
    const wanted = inline(snapshot);
    const received = /^\s*\[\w*Error: /.test(wanted) ? utils.flag(this, "promise") === "rejects" ? utils.flag(this, "object") : thrownBy(utils.flag(this, "object")) : text;
    client.assert({ ...shared(this), received, message, isInline: true, inlineSnapshot: wanted });
  });
  method(["toMatchFileSnapshot"], function (file, message) {
    const own = shared(this);
    return client.assertRaw({ ...own, received: own.received, message, isInline: false, rawSnapshot: { file } });
  });
  const thrownBy = (body) => { try { body(); } catch (error) { return error; } return undefined; };
  utils.addMethod(chai.expect, "addSnapshotSerializer", addSerializer);
};

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(ChaiStyleAssertions);
chai.use(Snapshots);
chai.use(JestAsymmetricMatchers);

export const expect = (value, message) => {
  const { assertionCalls } = getState(expect);
  setState({ assertionCalls: assertionCalls + 1 }, expect);
  const assertion = chai.expect(value, message);
  return at.test ? assertion.withTest(at.test) : assertion;
};
Object.assign(expect, chai.expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT], {
  getState: () => getState(expect),
  setState: (state) => setState(state, expect),
  assert: chai.assert,
  extend: (matchers) => chai.expect.extend(expect, matchers),
  addEqualityTesters: addCustomEqualityTesters,
  addSnapshotSerializer: addSerializer,
  soft: (...parameters) => expect(...parameters).withContext({ soft: true }),
  unreachable: (message) => chai.assert.fail(`expected${message ? ` "${message}" ` : " "}not to be reached`),
  assertions: (expected) => {
    const { stack } = new Error();
    const gen = () => Object.assign(new Error(`expected ${expected} assertions, and ${getState(expect).assertionCalls} were made`), { name: "AssertionError", stack });
    setState({ expectedAssertionsNumber: expected, expectedAssertionsNumberErrorGen: gen }, expect);
  },
  hasAssertions: () => setState({ isExpectingAssertions: true, isExpectingAssertionsError: Object.assign(new Error("expected at least one assertion, and none was made"), { name: "AssertionError" }) }, expect),
  poll: (body, { timeout = 1000, interval = 50 } = {}) => {
    const attempt = (steps) => async (...parameters) => {
      for (const end = Date.now() + timeout; ;) {
        try { return await steps.slice(0, -1).reduce((assertion, step) => assertion[step], expect(await body()))[steps.at(-1)](...parameters); } catch (error) { if (Date.now() >= end) throw error; }
        await new Promise((resolve) => { setTimeout(resolve, interval); });
      }
    };
    const chained = (steps) => new Proxy(attempt(steps), { get: (_, step) => (step === "then" ? undefined : chained([...steps, step])) });
    return chained([]);
  },
});
setState({ assertionCalls: 0, isExpectingAssertions: false, isExpectingAssertionsError: null, expectedAssertionsNumber: null, expectedAssertionsNumberErrorGen: null }, expect);
Object.defineProperty(globalThis, GLOBAL_EXPECT, { value: expect, writable: true, configurable: true });
expect.extend(customMatchers);
export { chai };
