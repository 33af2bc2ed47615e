const assert = require("node:assert");
const { expect } = require("chai");

describe("as Mocha has it", function () {
  this.timeout(500);
  before(function () {
    this.timeout(1000);
  });
  it("chai's sentences", () => {
    expect([1, 2, 3]).to.be.an("array").that.includes(2).and.has.lengthOf(3);
    expect({ a: { b: 1 } }).to.have.nested.property("a.b", 1);
    expect(() => {
      throw new RangeError("far");
    }).to.throw(RangeError, /far/);
  });
  it("skips by itself", function () {
    this.skip();
  });
  specify("where it lies", () => assert.match(__filename, /mocha\.test\.cjs$/));
});
