const assert = require("node:assert");
const node = require("node:test");

test("throws after it is done", (done) => {
  done();
  throw new Error("after");
});
test("is done twice", (done) => {
  done();
  setTimeout(() => done(new Error("late")), 5);
});
test("takes a callback and returns a promise", (done) => {
  setTimeout(done, 2);
  return Promise.resolve();
});
test("is a generator", function* () {
  yield 1;
});
test("has a hook inside", () => beforeEach(() => {}));
describe("slow", { timeout: 20 }, () => {
  test("takes longer than its suite allows", () => new Promise((resolve) => setTimeout(resolve, 50)));
});
describe("known to be wrong", { fails: true }, () => {
  test("is right", () => {});
});
describe("cleans up", () => {
  beforeEach(() => () => {
    throw new Error("not clean");
  });
  test("nothing", () => {});
});
node("leaves a part behind", (t) => {
  t.test("slow", () => new Promise((resolve) => setTimeout(resolve, 20)));
});
node("keeps to its plan", (t) => {
  t.plan(2);
  t.assert.ok(1);
});
node("regular expressions have a state", () => {
  const sticky = /a/g;
  sticky.lastIndex = 1;
  assert.deepStrictEqual(sticky, /a/g);
});
node("a promise is itself alone", () => assert.deepStrictEqual(Promise.resolve(1), Promise.resolve(2)));
