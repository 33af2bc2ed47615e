// A program that registers no test tells by its exit code.
process.on("exit", () => {
  process.exitCode = 1;
});
