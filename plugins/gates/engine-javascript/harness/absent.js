// What the bundled libraries import of Node for uses that the sandbox does not have.
const absent = () => { throw new Error("it is not in the sandbox"); };
export const readFileSync = absent;
export const existsSync = () => false;
export const pathToFileURL = absent;
export const fileURLToPath = absent;
export const isBuiltin = () => false;
export const createRequire = absent;
export const extname = absent;
export default {};
