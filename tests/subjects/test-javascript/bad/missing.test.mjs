import "no-such-package";

test("a", () => {});
