import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, createHmac, randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import test from "node:test";
import { inspect, parseArgs, promisify } from "node:util";
import { gunzipSync, gzipSync } from "node:zlib";

test("a folder of its own to write in", async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "own-"));
  const file = join(folder, "a/b.txt");
  await fs.promises.mkdir(join(folder, "a"));
  fs.writeFileSync(file, "one\n");
  fs.appendFileSync(file, "two\n");
  assert.equal(await fs.promises.readFile(file, "utf8"), "one\ntwo\n");
  assert.deepEqual(fs.readdirSync(folder, { withFileTypes: true }).map((entry) => [entry.name, entry.isDirectory()]), [["a", true]]);
  assert.equal(fs.statSync(file).size, 8);
  fs.rmSync(folder, { recursive: true });
  assert.equal(fs.existsSync(file), false);
  assert.throws(() => fs.readFileSync(file), { code: "ENOENT" });
  assert.throws(() => fs.writeFileSync("here", ""), { code: "EROFS" });
});
test("hashes", () => {
  assert.equal(createHash("sha256").update("a").digest("hex"), "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
  assert.equal(createHmac("md5", "key").update("a").digest("base64"), "gOpEzOoUzCJjiJVnz6zM1w==");
  assert.match(randomUUID(), /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab]/);
});
test("streams and compression", async () => {
  const parts = [];
  const louder = new Transform({ transform: (chunk, _, done) => done(null, String(chunk).toUpperCase()) });
  await pipeline(Readable.from(["a", "b"]), louder, async (source) => {
    for await (const part of source) parts.push(String(part));
  });
  assert.equal(parts.join(""), "AB");
  assert.equal(gunzipSync(gzipSync("again and again")).toString(), "again and again");
});
test("addresses, signals and events", async () => {
  const url = new URL("../b?x=1&y=%20#z", "https://user@example.org:8080/a/c");
  assert.equal(url.href, "https://user@example.org:8080/b?x=1&y=%20#z");
  assert.deepEqual([...url.searchParams], [["x", "1"], ["y", " "]]);
  const signal = AbortSignal.timeout(10);
  await new Promise((told) => signal.addEventListener("abort", told));
  assert.equal(signal.reason.name, "TimeoutError");
  const emitter = new EventEmitter();
  setTimeout(() => emitter.emit("told", 1), 5);
  assert.deepEqual(await once(emitter, "told"), [1]);
});
test("what util has", async () => {
  assert.equal(inspect({ a: [1, new Map([[1, "x"]])] }), "{ a: [ 1, Map(1) { 1 => 'x' } ] }");
  assert.deepEqual(parseArgs({ args: ["-v"], options: { v: { type: "boolean", short: "v" } } }).values.v, true);
  assert.equal(await promisify((value, done) => done(null, value + 1))(1), 2);
});
