// Hashes by @noble/hashes, and randomness that follows from what is tested.
import { Buffer } from "buffer";
import { Transform } from "readable-stream";
import { hmac } from "@noble/hashes/hmac.js";
import { md5, ripemd160, sha1 } from "@noble/hashes/legacy.js";
import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { scrypt } from "@noble/hashes/scrypt.js";
import { sha224, sha256, sha384, sha512, sha512_224, sha512_256 } from "@noble/hashes/sha2.js";
import { sha3_224, sha3_256, sha3_384, sha3_512 } from "@noble/hashes/sha3.js";
import { blake2b, blake2s } from "@noble/hashes/blake2.js";
import { define, native } from "../native.js";

const hashes = { md5, sha1, sha224, sha256, sha384, sha512, "sha512-224": sha512_224, "sha512-256": sha512_256, "sha3-224": sha3_224, "sha3-256": sha3_256, "sha3-384": sha3_384, "sha3-512": sha3_512, ripemd160, rmd160: ripemd160, blake2b512: blake2b, blake2s256: blake2s };
const hashOf = (name) => {
  const plain = String(name?.name ?? name).toLowerCase().replace(/^sha-(?=\d)/, "sha").replace(/^rsa-/, "");
  const hash = hashes[plain];
  if (!hash) throw Object.assign(new Error(`the hash ${name} is not in the sandbox`), { code: "ERR_OSSL_EVP_UNSUPPORTED" });
  return hash;
};
const bytesOf = (data, encoding) => (typeof data === "string" ? Buffer.from(data, encoding === "buffer" ? "utf8" : encoding) : ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data));
const inEncoding = (bytes, encoding) => { const buffer = Buffer.from(bytes); return encoding && encoding !== "buffer" ? buffer.toString(encoding) : buffer; };

class Hash extends Transform {
  #state; #ended = false;
  constructor(state) { super(); this.#state = state; }
  update(data, encoding) {
    if (this.#ended) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
    this.#state.update(bytesOf(data, encoding));
    return this;
  }
  digest(encoding) {
    if (this.#ended) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
    this.#ended = true;
    return inEncoding(this.#state.digest(), encoding);
  }
  copy() { return new Hash(this.#state.clone()); }
  _transform(chunk, encoding, done) { this.update(chunk, encoding); done(); }
  _flush(done) { this.push(this.digest()); done(); }
}
const randomBytes = (size, callback) => {
  const bytes = Buffer.alloc(size);
  for (let from = 0; from < size; from += 65536) bytes.set(native.random(Math.min(65536, size - from)), from);
  if (callback) setTimeout(() => callback(null, bytes), 0);
  return callback ? undefined : bytes;
};
const randomFillSync = (into, offset = 0, size = into.byteLength - offset) => { new Uint8Array(into.buffer ?? into, (into.byteOffset ?? 0) + offset, size).set(randomBytes(size)); return into; };
const randomInt = (low, high, callback) => {
  if (high === undefined || typeof high === "function") [low, high, callback] = [0, low, high];
  const value = low + Number(randomBytes(6).readUIntBE(0, 6) % (high - low));
  if (callback) setTimeout(() => callback(null, value), 0);
  return callback ? undefined : value;
};
const randomUUID = () => {
  const bytes = randomBytes(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
};
const timingSafeEqual = (a, b) => {
  const [x, y] = [bytesOf(a), bytesOf(b)];
  if (x.length !== y.length) throw Object.assign(new RangeError("Input buffers must have the same byte length"), { code: "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH" });
  return x.every((byte, at) => byte === y[at]);
};
const pbkdf2Sync = (password, salt, c, dkLen, digest) => Buffer.from(pbkdf2(hashOf(digest), bytesOf(password), bytesOf(salt), { c, dkLen }));
const scryptSync = (password, salt, dkLen, options = {}) => Buffer.from(scrypt(bytesOf(password), bytesOf(salt), { N: options.N ?? options.cost ?? 16384, r: options.r ?? options.blockSize ?? 8, p: options.p ?? options.parallelization ?? 1, dkLen }));
const hkdfSync = (digest, key, salt, info, length) => hkdf(hashOf(digest), bytesOf(key), bytesOf(salt), bytesOf(info), length).buffer;
const later = (body) => (...parameters) => {
  const callback = parameters.pop();
  let result;
  try { result = [null, body(...parameters)]; } catch (error) { result = [error]; }
  setTimeout(() => callback(...result), 0);
};
const subtle = {
  digest: async (name, data) => { const bytes = hashOf(name)(bytesOf(data)); return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength); },
};
const getRandomValues = (into) => randomFillSync(into);
export const webcrypto = { subtle, getRandomValues, randomUUID };
define("crypto", webcrypto);
const absent = (name) => () => { throw new Error(`crypto.${name}() is not in the sandbox`); };
export const crypto = {
  createHash: (name) => new Hash(hashOf(name).create()), createHmac: (name, key) => new Hash(hmac.create(hashOf(name), bytesOf(key))), Hash,
  hash: (name, data, encoding = "hex") => inEncoding(hashOf(name)(bytesOf(data)), encoding), getHashes: () => Object.keys(hashes), getCiphers: () => [], getCurves: () => [],
  randomBytes, pseudoRandomBytes: randomBytes, randomFillSync, randomFill: later(randomFillSync), randomInt, randomUUID, timingSafeEqual, pbkdf2Sync, pbkdf2: later(pbkdf2Sync), scryptSync, scrypt: later(scryptSync), hkdfSync, hkdf: later(hkdfSync),
  webcrypto, subtle, getRandomValues, constants: {},
  ...Object.fromEntries(["createCipheriv", "createDecipheriv", "createSign", "createVerify", "sign", "verify", "generateKeyPair", "generateKeyPairSync", "createPublicKey", "createPrivateKey", "createSecretKey", "createDiffieHellman", "createECDH", "publicEncrypt", "privateDecrypt"].map((name) => [name, absent(name)])),
};
