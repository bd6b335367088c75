const isNumber = require("is-number");
require("node:fs").writeFileSync("built.txt", `${isNumber("7")}\n`);
