// Opens pages in Chromium, wide and narrow, light and dark, and fails on any finding of axe-core, on a page that is
// wider than its window, on layout shift, on small targets, and on errors in the console, such as of the page's own policy.
//
//   node axe.mjs DIRECTORY [SHOTS]   the static pages of `cargo run -p shipway-dashboard --example static_pages`
//   node axe.mjs URL TOKEN           a live server: signs in with TOKEN and follows the dashboard's own links
import { createServer } from "node:http";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { NARROW, WIDE, launch, open, signIn, unreadable, wrong } from "./browser.mjs";

const [where, second] = process.argv.slice(2);
if (!where) {
  console.error("usage: node axe.mjs DIRECTORY [SHOTS] | URL TOKEN");
  process.exit(2);
}
const live = /^https?:/.test(where);

function serve(directory) {
  const headers = Object.fromEntries(readFileSync(join(directory, "headers.txt"), "utf8").split("\n").map((l) => l.split(/: (.*)/s)));
  const types = { css: "text/css", js: "text/javascript", svg: "image/svg+xml", html: headers["content-type"] };
  const server = createServer((request, response) => {
    const file = basename(new URL(request.url, "http://x").pathname);
    try {
      const body = readFileSync(join(directory, file));
      response.writeHead(200, { ...headers, "content-type": types[file.split(".").pop()] }).end(body);
    } catch {
      // 204 ends an event stream for good: these pages have no server behind them.
      response.writeHead(204).end();
    }
  });
  return new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server)));
}

const browser = await launch();
const server = live ? null : await serve(where);
const findings = [];
let checked = 0;

async function check(page, name) {
  findings.push(...(await wrong(page)).map((what) => `${name}: ${what}`));
  checked++;
}

// Follows the links of the dashboard from its first page.
async function follow(page, label) {
  const home = new URL("/dashboard", where).href;
  await page.goto(home, { waitUntil: "load" });
  await check(page, `sign-in (${label})`);
  await signIn(page, where, second ?? "");
  const todo = [home], seen = new Set(todo);
  while (todo.length && seen.size < 60) {
    const url = todo.shift();
    const answer = await page.goto(url, { waitUntil: "load" });
    if (!/html/.test(answer.headers()["content-type"] ?? "")) continue;
    await check(page, `${new URL(url).pathname} (${label})`);
    for (const link of await page.$$eval("a[href]", (all) => all.map((a) => a.href.split("#")[0])))
      if (link.startsWith(home) && !seen.has(link)) seen.add(link), todo.push(link);
  }
}

// Opens each of the static pages, and has each change its colours where it stands.
async function leaf(page, width) {
  const shot = async (file, scheme) => {
    if (!second) return;
    const directory = join(second, `${width}-${scheme}`);
    mkdirSync(directory, { recursive: true });
    await page.screenshot({ path: join(directory, file.replace(".html", ".png")), fullPage: true });
  };
  for (const file of readdirSync(where).filter((f) => f.endsWith(".html")).sort()) {
    await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
    await page.goto(`http://127.0.0.1:${server.address().port}/dashboard/${file}`, { waitUntil: "load" });
    await check(page, `${file} (${width} light)`);
    await shot(file, "light");
    findings.push(...(await unreadable(page, "dark")).map((what) => `${file} (${width} dark): ${what}`));
    await shot(file, "dark");
  }
}

// Colours are of the stylesheet, which the static pages show whole: of a live server one scheme each is enough.
for (const view of [{ ...WIDE, colorScheme: "light" }, { ...NARROW, colorScheme: live ? "dark" : "light" }]) {
  const { context, page } = await open(browser, view, (what) => findings.push(what));
  await (live ? follow(page, `${view.width} ${view.colorScheme}`) : leaf(page, view.width));
  await context.close();
}
await browser.close();
server?.close();
for (const finding of findings) console.log(finding);
console.log(`${checked} pages checked, ${findings.length} findings`);
process.exit(findings.length || !checked ? 1 : 0);
