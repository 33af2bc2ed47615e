const post = require("./post");
const { send } = require("./mail");
jest.mock("./mail", () => ({ ...jest.requireActual("./mail"), send: jest.fn(() => "sent") }));
jest.mock("./store");

beforeEach(() => {
  jest.clearAllMocks();
});

test("what is mocked stands above what requires it", () => {
  expect(post("me")).toBe("sent: letter, loaded");
  expect(send.mock.calls).toEqual([["me"]]);
});
test("modules are loaded anew", () => {
  jest.resetModules();
  jest.doMock("./mail", () => ({ send: () => "lost", kind: "parcel" }));
  expect(require("./post")("me")).toBe("lost: parcel, loaded");
});
test("a callback is waited for", (done) => {
  jest.useFakeTimers();
  setTimeout(() => done(), 5_000);
  jest.runAllTimers();
});
test("a snapshot of Jest", () => {
  expect({ a: [1] }).toMatchSnapshot();
});
test.each`
  a    | b    | sum
  ${1} | ${2} | ${3}
  ${2} | ${2} | ${4}
`("$a and $b are $sum", ({ a, b, sum }) => {
  expect(a + b).toBe(sum);
});
