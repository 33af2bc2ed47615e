import { describe, expect, it } from "vitest";

import { add } from "./calc";

interface Unused {
  field: string;
}

describe("add", () => {
  it("is wrong", () => {
    expect(add(1, 2)).toBe(4);
  });
  it("is right", () => {
    expect(add(1, 2)).toBe(3);
  });
  it("never ends", () => {
    while (true);
  });
  it("never settles", async () => {
    await new Promise(() => {});
  });
});
