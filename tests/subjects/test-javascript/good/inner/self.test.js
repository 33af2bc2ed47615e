const { answer } = require("inner-package");

test("a package imports itself by its name", () => {
  expect(answer).toBe(42);
  expect(require("inner-package/index").answer).toBe(42);
});
