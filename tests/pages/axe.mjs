// Opens pages in Chromium, wide and narrow, light and dark, and fails on any finding of axe-core, on a page that is
// wider than its window, on layout shift, and on anything that the page's own policy blocks.
//
//   node axe.mjs DIRECTORY [SHOTS]   the static pages of `cargo run -p shipway-dashboard --example static_pages`
//   node axe.mjs URL TOKEN           a live server: signs in with TOKEN and follows the dashboard's own links
import { createServer } from "node:http";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { chromium } from "playwright-core";

const [where, second] = process.argv.slice(2);
if (!where) {
  console.error("usage: node axe.mjs DIRECTORY [SHOTS] | URL TOKEN");
  process.exit(2);
}
const live = /^https?:/.test(where);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const views = [
  { width: 1440, height: 1000, colorScheme: "light" },
  { width: 1440, height: 1000, colorScheme: "dark" },
  { width: 420, height: 900, colorScheme: "light", hasTouch: true, isMobile: true },
  { width: 420, height: 900, colorScheme: "dark", hasTouch: true, isMobile: true },
];

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

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const server = live ? null : await serve(where);
const findings = [];
let checked = 0;

async function check(page, name) {
  const found = (what) => findings.push(`${name}: ${what}`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const v of violations) found(`${v.id}: ${v.help}\n    ${v.nodes.map((n) => n.html.slice(0, 160)).slice(0, 4).join("\n    ")}`);
  const { over, shift, small } = await page.evaluate(() => ({
    // Not `innerWidth`: a phone widens it to what does not fit.
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    shift: performance.getEntriesByType("layout-shift").reduce((sum, e) => sum + e.value, 0) + (window.shifted ?? 0),
    small: matchMedia("(pointer: coarse)").matches
      ? [...document.querySelectorAll("button, .button, input:not([type=hidden]), select, nav a")]
          .map((e) => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()])
          .filter(([, box]) => box.height > 0 && box.height < 43.5).map(([html]) => html)
      : [],
  }));
  if (over > 0) found(`is ${over} px wider than its window`);
  if (shift > 0) found(`moved after it was drawn (layout shift ${shift.toFixed(4)})`);
  for (const html of small) found(`target lower than 44 px: ${html}`);
  checked++;
}

async function open(view) {
  const { width, height, ...options } = view;
  // axe is put in by evaluation, which the pages' policy rightly forbids to everybody else.
  const context = await browser.newContext({ viewport: { width, height }, bypassCSP: false, ignoreHTTPSErrors: true, reducedMotion: "reduce", ...options });
  await context.addInitScript(() => {
    new PerformanceObserver((list) => {
      for (const e of list.getEntries()) if (!e.hadRecentInput) window.shifted = (window.shifted ?? 0) + e.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  page.on("console", (m) => /Content.Security.Policy|TrustedHTML/i.test(m.text()) && findings.push(`${page.url()}: ${m.text()}`));
  page.on("pageerror", (e) => findings.push(`${page.url()}: ${e}`));
  return { context, page };
}

for (const view of views) {
  const { context, page } = await open(view);
  const label = `${view.width} ${view.colorScheme}`;
  if (live) {
    const home = new URL("/dashboard", where).href;
    await page.goto(home, { waitUntil: "load" });
    await check(page, `sign-in (${label})`);
    await page.fill("#token", second ?? "");
    await page.click("form:has(#token) button");
    await page.waitForURL((url) => !url.pathname.endsWith("/sign-in"));
    const todo = [home], seen = new Set(todo);
    while (todo.length && seen.size < 60) {
      const url = todo.shift();
      const answer = await page.goto(url, { waitUntil: "load" });
      if (!/html/.test(answer.headers()["content-type"] ?? "")) continue;
      await check(page, `${new URL(url).pathname} (${label})`);
      for (const link of await page.$$eval("a[href]", (all) => all.map((a) => a.href.split("#")[0])))
        if (link.startsWith(home) && !seen.has(link)) seen.add(link), todo.push(link);
    }
  } else {
    const shots = second && join(second, label.replace(" ", "-"));
    if (shots) mkdirSync(shots, { recursive: true });
    for (const file of readdirSync(where).filter((f) => f.endsWith(".html")).sort()) {
      await page.goto(`http://127.0.0.1:${server.address().port}/dashboard/${file}`, { waitUntil: "load" });
      await check(page, `${file} (${label})`);
      if (shots) await page.screenshot({ path: join(shots, file.replace(".html", ".png")), fullPage: true });
    }
  }
  await context.close();
}
await browser.close();
server?.close();
for (const finding of findings) console.log(finding);
console.log(`${checked} pages checked, ${findings.length} findings`);
process.exit(findings.length || !checked ? 1 : 0);
