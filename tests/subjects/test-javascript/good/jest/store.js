exports.load = () => "really loaded";
