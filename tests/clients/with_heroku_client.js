// An app's life by heroku-client, the Node client of the Platform API. Arguments: API, token, a command that pushes.

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const Heroku = require("heroku-client");

const [api, token, push] = process.argv.slice(2);
const heroku = new Heroku({ host: api, token });

async function until(what, holds, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await new Promise((go) => setTimeout(go, 100))) {
    if (await holds()) return;
  }
  assert.fail(`not within ${seconds} s: ${what}`);
}

async function main() {
  const app = await heroku.post("/apps", { body: { name: "nodes", region: "eu", stack: "heroku-24" } });
  assert.equal(app.name, "nodes");
  assert.deepEqual((await heroku.get("/apps")).map((one) => one.name), ["nodes"]);

  await heroku.patch("/apps/nodes/config-vars", { body: { GREETING: "hello", GONE: "soon" } });
  await heroku.patch("/apps/nodes/config-vars", { body: { GONE: null } });
  assert.deepEqual(await heroku.get("/apps/nodes/config-vars"), { GREETING: "hello" });

  execFileSync(push, ["nodes"], { stdio: "inherit" });
  const up = async () => {
    const dynos = await heroku.get("/apps/nodes/dynos");
    return dynos.filter((dyno) => dyno.state === "up").map((dyno) => dyno.name).sort();
  };
  const two = await heroku.patch("/apps/nodes/formation/web", { body: { quantity: 2, size: "standard-1x" } });
  assert.deepEqual([two.quantity, two.size], [2, "Standard-1X"]);
  await until("two dynos are up", async () => (await up()).join() === "web.1,web.2");
  await heroku.patch("/apps/nodes/formation", { body: { updates: [{ type: "web", quantity: 1 }] } });
  await until("one dyno is up", async () => (await up()).join() === "web.1");

  // The newest release first, one of them, as its Range asks.
  const [newest] = await heroku.get("/apps/nodes/releases", { headers: { Range: "version ..; order=desc,max=1" }, partial: true });
  assert.equal(newest.version, 4);
  await assert.rejects(heroku.get("/apps/nobodys"), (error) => error.statusCode === 404 && error.body.id === "not_found");

  const session = await heroku.post("/apps/nodes/log-sessions", { body: { lines: 500, tail: false } });
  const lines = (await (await fetch(session.logplex_url)).text()).trimEnd().split("\n");
  assert(lines.some((line) => line.includes("heroku[web.2]: State changed from starting to up")), lines.join("\n"));
  assert(lines.every((line) => /^20.*\]: /.test(line)), "each line is one of the log");

  await heroku.delete("/apps/nodes");
  assert.deepEqual(await heroku.get("/apps"), []);
  console.log("heroku-client created, configured, scaled, read and destroyed nodes");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
