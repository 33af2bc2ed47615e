import { bench } from "vitest";

const total = (count: number): number => {
  let sum = 0;
  for (let at = 0; at < count; at += 1) sum += at;
  return sum;
};

bench("is too dear", () => {
  total(1_000_000);
});

bench("has grown", () => {
  total(1_000);
});

bench("breaks", () => {
  throw new Error("no data");
});
