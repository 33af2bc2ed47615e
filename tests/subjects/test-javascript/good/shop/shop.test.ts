import { afterEach, describe, expect, it, test, vi } from "vitest";
import * as shop from "./index.js";
import { price } from "#price";
import { rate } from "./parts/rate";

const factor = vi.hoisted(() => 3);
vi.mock("./parts/rate", async (original) => ({ ...(await original<typeof import("./parts/rate")>()), rate: vi.fn(() => factor) }));
afterEach(() => {
  vi.useRealTimers();
});

describe("doubles", () => {
  it("stand for modules in what imports them", () => {
    expect(price(5)).toEqual({ cents: 15 });
    expect(rate).toHaveBeenCalledOnce();
    expect(Object.keys(shop)).toEqual(["price"]);
  });
  it("leave the module itself to be had", async () => {
    const actual = await vi.importActual<typeof import("./parts/rate")>("./parts/rate");
    expect(actual.rate()).toBe(1.2);
  });
  it("stand for timers and dates", async () => {
    vi.useFakeTimers({ now: new Date("2020-01-01T00:00:00Z") });
    const rings = vi.fn();
    setInterval(rings, 60_000);
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(rings).toHaveBeenCalledTimes(60);
    expect(new Date().toISOString()).toBe("2020-01-01T01:00:00.000Z");
  });
  it("stand for globals and the environment", () => {
    vi.stubGlobal("answer", 42).stubEnv("MODE", "shop");
    expect([(globalThis as { answer?: number }).answer, process.env.MODE]).toEqual([42, "shop"]);
    vi.unstubAllGlobals().unstubAllEnvs();
    expect(process.env.MODE).toBeUndefined();
  });
});

describe("snapshots", () => {
  it("lie in a file", () => {
    expect({ list: [1, "two"], when: new Date(0) }).toMatchSnapshot();
    expect(new Map([["a", new Set([1])]])).toMatchSnapshot("named");
  });
  it("lie in the test", () => {
    expect({ cents: 1 }).toMatchInlineSnapshot(`
      {
        "cents": 1,
      }
    `);
    expect(() => {
      throw new TypeError("no");
    }).toThrowErrorMatchingInlineSnapshot("[TypeError: no]");
  });
});

const withShop = test.extend<{ open: string[]; name: string }>({
  open: async ({}, use) => {
    const doors: string[] = ["front"];
    await use(doors);
    doors.length = 0;
  },
  name: "corner",
});
withShop("fixtures are made for who names them", ({ open, name }) => {
  expect([...open, name]).toEqual(["front", "corner"]);
});
describe("later", async () => {
  await Promise.resolve();
  it("is known, too", () => expect(1).to.be.above(0).and.not.equal(2));
});
let tries = 0;
it("is tried again", { retry: 2 }, () => expect(++tries).toBe(3));
it.fails("is known to be wrong", () => expect(1).toBe(2));
