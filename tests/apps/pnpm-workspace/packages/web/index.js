console.log(require("library").join(" "));
