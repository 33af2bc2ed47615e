/** The bytes of one file of the subject. */
export function read(path: string): Uint8Array;
/** The text of one file of the subject; throws where it is not UTF-8. */
export function readText(path: string): string;
