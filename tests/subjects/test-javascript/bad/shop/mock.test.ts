import { expect, it, vi } from "vitest";
import { rate } from "./rate";

interface Unused {
  field: string;
}
vi.mock("./rate", () => ({ rate: () => 3 }));

it("is doubled", () => {
  expect(rate()).toBe(1.2);
});
