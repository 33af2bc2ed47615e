const assert = require("node:assert");

describe("old", function () {
  before(function () {
    throw new Error("no database");
  });
  it("fails before", function () {
    assert.ok(true);
  });
});
