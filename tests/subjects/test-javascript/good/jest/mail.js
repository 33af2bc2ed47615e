exports.send = () => { throw new Error("it was really sent"); };
exports.kind = "letter";
