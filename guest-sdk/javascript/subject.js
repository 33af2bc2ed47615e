/** Reading what a gate judges. Apart from the rest: only a gate has files. */

import { getDirectories } from "wasi:filesystem/preopens@0.2.0";
import { decode } from "./sandhog.js";

/** The bytes of one file of the subject. */
export const read = (path) => {
  const [folder] = getDirectories().find(([, at]) => at === "/subject");
  const file = folder.openAt({}, path, {}, { read: true });
  const parts = [];
  let length = 0;
  for (let end = false; !end; ) {
    const [bytes, last] = file.read(1 << 20, length);
    parts.push(bytes);
    length += bytes.length;
    end = last || bytes.length === 0;
  }
  const content = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    content.set(part, at);
    at += part.length;
  }
  return content;
};

/** The text of one file of the subject. */
export const readText = (path) => decode(read(path));
