test("differs", () => {
  expect({ a: 2 }).toMatchSnapshot();
});
test("is new", () => {
  expect({ a: 2 }).toMatchSnapshot();
});
test("differs here", () => {
  expect({ a: 2 }).toMatchInlineSnapshot(`{ "a": 1 }`);
});
test("is new here", () => {
  expect({ a: 2 }).toMatchInlineSnapshot();
});
test("counts what it expects", () => {
  expect.assertions(2);
  expect(1).toBe(1);
});
test("does not wait", () => {
  expect(Promise.resolve(1)).resolves.toBe(2);
});
test("goes on softly", () => {
  expect.soft(1).toBe(2);
  expect.soft(1).toBe(1);
});
test("has the network", () => require("node:http").get("http://127.0.0.1"));
