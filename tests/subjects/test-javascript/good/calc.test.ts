import { describe, expect, it } from "vitest";

import { add } from "./calc";

describe("add", () => {
  it.each([
    [1, 2, 3],
    [0, 0, 0],
  ])("%i and %i are %i", (a, b, sum) => {
    expect(add(a, b)).toBe(sum);
  });
  it("waits", async () => {
    await expect(Promise.resolve(add(1, 1))).resolves.toBe(2);
  });
  it.skip("later", () => {
    throw new Error("not yet");
  });
});
