import assert from "node:assert";
import test from "node:test";

test("a method that is mocked counts its calls, and is put back", (t) => {
  const object = { f: () => 1 };
  const mocked = t.mock.method(object, "f");
  assert.equal(object.f(), 1);
  assert.equal(mocked.mock.callCount(), 1);
  assert.equal(object.f.mock.calls.length, 1);
  mocked.mock.restore();
  object.f();
  assert.equal(mocked.mock.callCount(), 1);
});
