test("the clocks move with the timers", async () => {
  const [date, performed] = [Date.now(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(Date.now() - date).toBeGreaterThanOrEqual(1000);
  expect(performance.now() - performed).toBeGreaterThanOrEqual(1000);
  expect(new Date() - new Date(date)).toBeGreaterThanOrEqual(1000);
  expect(new Date(0).constructor).toBe(Date);
  expect(new Date()).toBeInstanceOf(Date);
  expect(new Date(2020, 0, 2).getDate()).toBe(2);
});

test.each([["x"], ["y"]])("a row is all that is handed over: %s", (text, other = "default") => {
  expect(text).toMatch(/^[xy]$/);
  expect(other).toBe("default");
});

test("what cannot be looked into is itself alone", () => {
  const promise = Promise.resolve();
  expect({ promise }).toEqual({ promise });
  expect(promise).not.toEqual({});
  expect(new Error("x")).not.toEqual({});
  expect(new Error("x", { cause: 1 })).not.toEqual(new Error("x", { cause: 2 }));
  expect(new Uint8Array([1, 2])).not.toEqual(new Uint16Array([1, 2]));
  expect(new Uint8Array([1, 2])).not.toEqual({ 0: 1, 1: 2 });
  expect(new Uint8Array([1, 2])).toEqual(new Uint8Array([1, 2]));
});
