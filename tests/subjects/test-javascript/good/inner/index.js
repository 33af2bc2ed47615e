/*
import is the first word of this line, and the file is no module
export is that of this one
*/
module.exports = { answer: 42 };
