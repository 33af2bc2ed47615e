export { Money, price } from "./price.js";
