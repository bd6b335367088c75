const http = require("node:http");
const mime = require("mime");
const page = require("./dist/page.js");

http
  .createServer((request, response) => {
    response.setHeader("content-type", mime.getType("html"));
    response.end(page.render(process.env.HEROKU_RELEASE_VERSION || "v0"));
  })
  .listen(process.env.PORT, () => console.log(`listening on ${process.env.PORT}`));

process.on("SIGTERM", () => process.exit(0));
