console.log(require("ms")("2d"));
