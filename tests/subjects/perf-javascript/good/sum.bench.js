bench("adds", () => {
  let sum = 0;
  for (let at = 0; at < 1000; at += 1) sum += at;
  return sum;
});
