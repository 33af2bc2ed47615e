import assert from "node:assert/strict";
import test from "node:test";

test("deep", async (t) => {
  await t.test("inner", () => assert.deepEqual({ a: [1] }, { a: [1] }));
  assert.throws(() => JSON.parse("{"), SyntaxError);
});
