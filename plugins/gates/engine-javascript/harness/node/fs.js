// Files: the subject, which is read only, and /tmp, which is not.
import path from "path-browserify";
import { Buffer } from "buffer";
import { Readable, Writable } from "readable-stream";
import { native } from "../native.js";

const words = { ENOENT: "no such file or directory", EROFS: "read-only file system", EEXIST: "file already exists", ENOTDIR: "not a directory", EISDIR: "illegal operation on a directory", ENOTEMPTY: "directory not empty", ENOSPC: "no space left on device", EPERM: "operation not permitted", EACCES: "permission denied", EINVAL: "invalid argument", ENOSYS: "function not implemented" };
const numbers = { ENOENT: -2, EROFS: -30, EEXIST: -17, ENOTDIR: -20, EISDIR: -21, ENOTEMPTY: -39, ENOSPC: -28, EPERM: -1, EACCES: -13, EINVAL: -22, ENOSYS: -38 };
const wrong = (code, syscall, at) => Object.assign(new Error(`${code}: ${words[code] ?? "failed"}, ${syscall} '${at}'`), { code, errno: numbers[code], syscall, path: at });
/** A path as text, from what Node takes for one. */
export const filePath = (of) => {
  if (of instanceof URL || (of && typeof of === "object" && of.protocol === "file:")) of = decodeURIComponent(of.pathname);
  else if (of instanceof Uint8Array) of = new TextDecoder().decode(of);
  if (typeof of !== "string") throw Object.assign(new TypeError("The \"path\" argument must be of type string or an instance of Buffer or URL."), { code: "ERR_INVALID_ARG_TYPE" });
  return path.resolve(native.root, of.startsWith("file://") ? decodeURIComponent(of.slice(7)) : of);
};
const encodingOf = (options) => { const encoding = typeof options === "string" ? options : options?.encoding; return encoding === "buffer" ? undefined : encoding; };
const bytesOf = (data, options) => (typeof data === "string" ? Buffer.from(data, encodingOf(options) ?? "utf8") : ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : Buffer.from(String(data)));
const done = (code, syscall, at) => { if (code) throw wrong(code, syscall, at); };

class Stats {
  constructor([kind, size, modified]) {
    Object.assign(this, { dev: 1, ino: 0, mode: kind === "folder" ? 0o40755 : 0o100644, nlink: 1, uid: 1000, gid: 1000, rdev: 0, size, blksize: 4096, blocks: Math.ceil(size / 512) });
    for (const name of ["atime", "mtime", "ctime", "birthtime"]) Object.assign(this, { [`${name}Ms`]: modified, [name]: new Date(modified) });
    Object.defineProperty(this, "kind", { value: kind, enumerable: false });
  }
  isFile() { return this.kind === "file"; }
  isDirectory() { return this.kind === "folder"; }
  isSymbolicLink() { return false; }
  isFIFO() { return false; }
  isSocket() { return false; }
  isBlockDevice() { return false; }
  isCharacterDevice() { return false; }
}
class Dirent {
  constructor(name, folder) { Object.assign(this, { name, parentPath: folder, path: folder }); Object.defineProperty(this, "kind", { value: native.kind(`${folder}/${name}`), enumerable: false }); }
}
for (const name of ["isFile", "isDirectory", "isSymbolicLink", "isFIFO", "isSocket", "isBlockDevice", "isCharacterDevice"]) Dirent.prototype[name] = Stats.prototype[name];

const open = new Map();
let handles = 2;
const read = (at, options) => {
  const bytes = native.read(at);
  if (bytes === null) throw wrong(native.kind(at) === "folder" ? "EISDIR" : "ENOENT", native.kind(at) === "folder" ? "read" : "open", at);
  const [buffer, encoding] = [Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), encodingOf(options)];
  return encoding ? buffer.toString(encoding) : buffer;
};
const stat = (syscall) => (of, options) => {
  const found = native.stat(filePath(of));
  if (found) return new Stats(found);
  if (options?.throwIfNoEntry === false) return undefined;
  throw wrong("ENOENT", syscall, filePath(of));
};
const plain = {
  access: (of) => { if (!native.kind(filePath(of))) throw wrong("ENOENT", "access", filePath(of)); },
  stat: stat("stat"), lstat: stat("lstat"),
  readFile: (of, options) => (typeof of === "number" ? read(handle(of).path, options) : read(filePath(of), options)),
  writeFile: (of, data, options) => {
    const at = typeof of === "number" ? handle(of).path : filePath(of);
    const flag = options?.flag ?? "w";
    if (flag.includes("x") && native.kind(at)) throw wrong("EEXIST", "open", at);
    done(native.write(at, bytesOf(data, options), flag.startsWith("a")), "open", at);
  },
  appendFile: (of, data, options) => { const at = filePath(of); done(native.write(at, bytesOf(data, options), true), "open", at); },
  mkdir: (of, options) => {
    const [at, recursive] = [filePath(of), Boolean(options?.recursive)];
    if (recursive && native.kind(at) === "folder") return undefined;
    let first = at;
    while (recursive && !native.kind(path.dirname(first))) first = path.dirname(first);
    done(native.makeFolder(at, recursive), "mkdir", at);
    return recursive ? first : undefined;
  },
  mkdtemp: (prefix) => {
    for (let number = 0; ; number += 1) {
      const at = filePath(`${prefix}${number.toString(36).padStart(6, "0")}`);
      if (!native.kind(at)) { done(native.makeFolder(at, false), "mkdtemp", at); return at; }
    }
  },
  readdir: (of, options) => {
    const folder = filePath(of);
    if (native.kind(folder) !== "folder") throw wrong(native.kind(folder) ? "ENOTDIR" : "ENOENT", "scandir", folder);
    const names = native.list(folder).sort();
    const own = names.map((name) => (options?.withFileTypes ? new Dirent(name, folder) : name));
    if (!options?.recursive) return own;
    const within = names.filter((name) => native.kind(`${folder}/${name}`) === "folder");
    return [...own, ...within.flatMap((name) => plain.readdir(`${folder}/${name}`, options).map((inner) => (typeof inner === "string" ? `${name}/${inner}` : inner)))];
  },
  rm: (of, options) => {
    const at = filePath(of);
    const kind = native.kind(at);
    if (!kind) { if (options?.force) return; throw wrong("ENOENT", "rm", at); }
    if (kind === "folder" && !options?.recursive) throw Object.assign(wrong("EISDIR", "rm", at), { code: "ERR_FS_EISDIR" });
    done(native.remove(at, kind, true), "rm", at);
  },
  rmdir: (of, options) => { const at = filePath(of); done(native.remove(at, "folder", Boolean(options?.recursive)), "rmdir", at); },
  unlink: (of) => { const at = filePath(of); done(native.remove(at, "file", false), "unlink", at); },
  rename: (from, to) => done(native.rename(filePath(from), filePath(to)), "rename", filePath(from)),
  copyFile: (from, to) => { const at = filePath(to); done(native.write(at, read(filePath(from)), false), "copyfile", at); },
  cp: (from, to, options) => {
    const [a, b] = [filePath(from), filePath(to)];
    if (native.kind(a) !== "folder") return plain.copyFile(a, b);
    if (!options?.recursive) throw Object.assign(wrong("EISDIR", "cp", a), { code: "ERR_FS_EISDIR" });
    plain.mkdir(b, { recursive: true });
    for (const name of native.list(a)) plain.cp(`${a}/${name}`, `${b}/${name}`, options);
  },
  realpath: (of) => { const at = filePath(of); if (!native.kind(at)) throw wrong("ENOENT", "realpath", at); return at; },
  chmod: (of) => { plain.access(of); }, chown: (of) => { plain.access(of); }, utimes: (of) => { plain.access(of); },
  readlink: (of) => { throw wrong(native.kind(filePath(of)) ? "EINVAL" : "ENOENT", "readlink", filePath(of)); },
  symlink: (to, of) => { throw wrong("EPERM", "symlink", filePath(of)); },
  link: (to, of) => { throw wrong("EPERM", "link", filePath(of)); },
  truncate: (of, length = 0) => { const at = filePath(of); done(native.write(at, read(at).subarray(0, length), false), "open", at); },
  open: (of, flags = "r") => {
    const at = filePath(of);
    if (flags.startsWith("r") && !native.kind(at)) throw wrong("ENOENT", "open", at);
    if (flags.startsWith("w") || (flags.startsWith("a") && !native.kind(at))) plain.writeFile(at, "", { flag: flags });
    open.set(++handles, { path: at, at: 0 });
    return handles;
  },
  close: (number) => { handle(number); open.delete(number); },
  fstat: (number) => plain.stat(handle(number).path),
  write: (number, data, ...rest) => { const bytes = bytesOf(data, rest.at(-1)); done(native.write(handle(number).path, bytes, true), "write", handle(number).path); return bytes.length; },
  read: (number, buffer, offset = 0, length = buffer.length - offset, position = null) => {
    const file = handle(number);
    const from = position ?? file.at;
    const part = read(file.path).subarray(from, from + length);
    buffer.set(part, offset);
    if (position === null) file.at += part.length;
    return part.length;
  },
};
const handle = (number) => { const file = open.get(number); if (!file) throw wrong("EINVAL", "read", String(number)); return file; };

const constants = { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1, COPYFILE_EXCL: 1, O_RDONLY: 0, O_WRONLY: 1, O_RDWR: 2, O_CREAT: 64, O_EXCL: 128, O_TRUNC: 512, O_APPEND: 1024 };
const promises = { constants };
export const fs = { constants, promises, Stats, Dirent };
for (const [name, body] of Object.entries(plain)) {
  fs[`${name}Sync`] = (...parameters) => body(...parameters);
  fs[name] = (...parameters) => {
    const callback = parameters.pop();
    if (typeof callback !== "function") throw Object.assign(new TypeError("The \"cb\" argument must be of type function."), { code: "ERR_INVALID_ARG_TYPE" });
    let result;
    try { result = [null, body(...parameters)]; } catch (error) { result = [error]; }
    setTimeout(() => callback(...result), 0);
  };
  promises[name] = async (...parameters) => body(...parameters);
}
fs.exists = (of, callback) => { setTimeout(() => callback(fs.existsSync(of)), 0); };
fs.existsSync = (of) => { try { return native.kind(filePath(of)) !== ""; } catch { return false; } };
fs.realpathSync.native = fs.realpathSync;
promises.open = async (of, flags) => {
  const number = plain.open(of, flags);
  const at = handle(number).path;
  return { fd: number, readFile: async (options) => read(at, options), writeFile: async (data, options) => plain.writeFile(at, data, options), appendFile: async (data) => plain.appendFile(at, data), stat: async () => plain.stat(at), close: async () => plain.close(number) };
};
fs.createReadStream = (of, options) => {
  const at = filePath(of);
  const stream = Readable.from((function* () {
    const bytes = read(at).subarray(options?.start ?? 0, options?.end === undefined ? undefined : options.end + 1);
    for (let from = 0; from < bytes.length; from += 65536) yield bytes.subarray(from, from + 65536);
  })(), { objectMode: false });
  stream.path = at;
  const encoding = encodingOf(options);
  if (encoding) stream.setEncoding(encoding);
  return stream;
};
fs.createWriteStream = (of, options) => {
  const at = filePath(of);
  const stream = new Writable({
    construct(callback) { try { plain.writeFile(at, "", { flag: options?.flags ?? "w" }); callback(); } catch (error) { callback(error); } },
    write(chunk, encoding, callback) { try { plain.appendFile(at, chunk, encoding); callback(); } catch (error) { callback(error); } },
  });
  stream.path = at;
  return stream;
};
const unwatched = (name) => () => { throw new Error(`fs.${name}() is not in the sandbox: nothing changes there but by the test itself`); };
for (const name of ["watch", "watchFile", "unwatchFile"]) fs[name] = unwatched(name);
