const { send, kind } = require("./mail");
const { load } = require("./store");
module.exports = (to) => `${send(to)}: ${kind}, ${load()}`;
