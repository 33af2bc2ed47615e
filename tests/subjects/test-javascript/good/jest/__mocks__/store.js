exports.load = () => "loaded";
