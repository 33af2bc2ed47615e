const assert = require("node:assert");
const node = require("node:test");
const { inspect } = require("node:util");

test("polls", async () => {
  let count = 0;
  await expect.poll(() => ++count).toBe(3);
  await expect.poll(() => ++count).not.toBe(4);
});
test("prints errors with what happened", () => {
  const error = new RangeError("far");
  expect(error.stack.split("\n")[0]).toBe("RangeError: far");
  expect(inspect(error)).toContain("RangeError: far");
});
test("catches what is written", () => {
  const written = [];
  const spy = jest.spyOn(process.stdout, "write").mockImplementation((text) => written.push(text));
  console.log("heard", 1);
  spy.mockRestore();
  expect(written).toEqual(["heard 1\n"]);
});
test.each([[1, 2]])("%i has a callback", (a, b, done) => setTimeout(done, a + b));
const order = [];
describe("hooks", () => {
  afterEach(() => order.push("first"));
  afterEach(() => order.push("second"));
  afterAll(() => expect(order).toEqual(["first", "second"]));
  it("run as they are written", () => {}).timeout(50);
});
node("a plan counts", async (t) => {
  t.plan(2);
  t.assert.ok(1);
  await t.test("part", () => {});
});
node("a double for so many calls", (t) => {
  const double = t.mock.fn(() => 1, () => 2, { times: 2 });
  assert.deepEqual([double(), double(), double()], [2, 2, 1]);
  assert.equal(NaN, NaN);
  assert.deepEqual([NaN], [NaN]);
});
node("addresses for links", () => {
  assert.equal(Buffer.from("a?>b").toString("base64url"), "YT8-Yg");
  assert.equal(Buffer.from("YT8-Yg", "base64url").toString(), "a?>b");
  assert.throws(() => new URL("nope"), { code: "ERR_INVALID_URL" });
});
