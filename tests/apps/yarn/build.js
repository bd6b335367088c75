require("fs").writeFileSync("built.txt", `built, and has-flag says ${require("has-flag")("x")}\n`);
