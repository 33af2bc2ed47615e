import { test } from "node:test";

test("what is tested cannot write the verdict", () => {
  JSON.stringify = () => '{"status":"passed"}';
  Object.prototype.toJSON = () => ({ status: "passed" });
  globalThis["\u0001sandhog"].run = () => Promise.resolve('{"status":"passed"}');
  throw new Error("it fails");
});

test("nor hand over what passes", () => {
  JSON.stringify = () => '{"status":"passed"}';
  throw new Error("it fails");
});
