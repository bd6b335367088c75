require("fs").writeFileSync("made.js", `module.exports = [require("ms")("2d"), ${require("has-flag")("x")}];\n`);
