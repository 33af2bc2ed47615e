import EventEmitter from "events";
import { native, define } from "../native.js";
import { elapsed, performance } from "../clock.js";

const stream = (level) => {
  let line = "";
  return Object.assign(new EventEmitter(), {
    isTTY: false, columns: 80, writable: true, fd: level === "log" ? 1 : 2,
    write(text, encoding, done) {
      line += typeof text === "string" ? text : new TextDecoder().decode(text);
      const cut = line.lastIndexOf("\n");
      if (cut >= 0) { native.print(level, line.slice(0, cut)); line = line.slice(cut + 1); }
      (typeof encoding === "function" ? encoding : done)?.();
      return true;
    },
    end() {}, getColorDepth: () => 1, hasColors: () => false,
  });
};
export const process = Object.assign(new EventEmitter(), {
  title: "node", env: { NODE_ENV: "test", HOME: "/home/sandbox", PATH: "/usr/bin" }, argv: ["/usr/bin/node", "/subject/test"], argv0: "node", execArgv: [], execPath: "/usr/bin/node", platform: "linux", arch: "wasm32",
  version: "v22.0.0", versions: { node: "22.0.0", v8: "0.0.0", uv: "0.0.0", modules: "127" }, release: { name: "node" }, config: { variables: {} }, features: {}, pid: 1, ppid: 0, exitCode: undefined, browser: false,
  cwd: () => native.root,
  chdir: () => { throw Object.assign(new Error("process.chdir() is not in the sandbox"), { code: "ERR_WORKER_UNSUPPORTED_OPERATION" }); },
  exit: (code) => { throw new Error(`process.exit(${code ?? ""}) was called`); },
  abort: () => { throw new Error("process.abort() was called"); },
  kill: () => { throw Object.assign(new Error("process.kill() is not in the sandbox"), { code: "EPERM" }); },
  nextTick: (body, ...parameters) => { Promise.resolve().then(() => body(...parameters)); },
  hrtime: Object.assign((before) => {
    const at = performance.now();
    const now = [Math.floor(at / 1000), Math.floor((at % 1000) * 1e6)];
    if (!before) return now;
    const [seconds, nanos] = [now[0] - before[0], now[1] - before[1]];
    return nanos < 0 ? [seconds - 1, nanos + 1e9] : [seconds, nanos];
  }, { bigint: () => BigInt(Math.floor(performance.now() * 1e6)) }),
  memoryUsage: Object.assign(() => ({ heapUsed: 0, heapTotal: 0, rss: 0, external: 0, arrayBuffers: 0 }), { rss: () => 0 }),
  cpuUsage: () => ({ user: 0, system: 0 }), resourceUsage: () => ({}), uptime: () => elapsed() / 1000, umask: () => 0o022,
  getuid: () => 1000, getgid: () => 1000, geteuid: () => 1000, getegid: () => 1000,
  emitWarning(warning) {
    const error = warning instanceof Error ? warning : Object.assign(new Error(String(warning)), { name: "Warning" });
    native.print("warn", `${error.name}: ${error.message}`);
    process.nextTick(() => process.emit("warning", error));
  },
  binding: () => { throw new Error("process.binding() is not in the sandbox"); },
  stdout: stream("log"), stderr: stream("error"), stdin: Object.assign(new EventEmitter(), { isTTY: false, fd: 0, setEncoding() {}, resume() {}, pause() {} }),
});
process.setMaxListeners(0);
define("process", process);
