// What the scripts here do with Chromium: start it, open pages as somebody sees them, and say what is wrong with one.
import { accessSync, constants, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const MOST_BYTES = 60 * 1024;
// What is waited for comes, only later where other tests want the processors. In ms.
const PATIENCE = 120_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 390, height: 844, hasTouch: true, isMobile: true };

function program() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const directory of (process.env.PATH ?? "").split(delimiter))
    for (const name of NAMES)
      try {
        accessSync(join(directory, name), constants.X_OK);
        return join(directory, name);
      } catch {
        // The next one may be there.
      }
  throw new Error(`None of ${NAMES.join(", ")} is on the path. Install one (apt-get install chromium), or name it in CHROMIUM.`);
}

export const launch = () => chromium.launch({ executablePath: program(), args: ["--no-sandbox"], timeout: PATIENCE });

// Opens an empty page that notes layout shifts, and tells `found` of errors and of what the pages' policy blocks.
export async function open(browser, { width, height, ...view }, found) {
  const context = await browser.newContext({ viewport: { width, height }, ignoreHTTPSErrors: true, reducedMotion: "reduce", ...view });
  await context.addInitScript(() => {
    // What moved by itself, and how much of the window that was.
    window.moved = [];
    new PerformanceObserver((list) => {
      for (const e of list.getEntries()) if (!e.hadRecentInput)
          for (const { node } of e.sources) window.moved.push(`${e.value.toFixed(5)} ${(node?.outerHTML ?? node?.textContent ?? "").slice(0, 120)}`);
    }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  // Of pages that are plain text a browser wants an icon at the root.
  const expected = (m) => m.location().url.endsWith("/favicon.ico");
  page.on("console", (m) => m.type() === "error" && !expected(m) && found(`${page.url()}: ${m.text()}`));
  page.on("pageerror", (e) => found(`${page.url()}: ${e}`));
  return { context, page };
}

// What axe-core finds: by all of its rules, or by those named.
async function axed(page, rules) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const options = { resultTypes: ["violations"], ...(rules && { runOnly: rules }) };
  const { violations } = await page.evaluate((options) => axe.run(document, options), options);
  return violations.map((v) => `${v.id}: ${v.help}\n    ${v.nodes.map((n) => n.html.slice(0, 160)).slice(0, 4).join("\n    ")}`);
}

// What of the page cannot be read in another colour scheme: nothing else of it depends on the scheme.
export async function unreadable(page, colorScheme) {
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  return axed(page, ["color-contrast"]);
}

// What is wrong with the page as it is now: findings of axe-core, what is wider than its window, what moved by itself since
// the page was opened, targets that are too small for a finger, more bytes than a page may take.
export async function wrong(page) {
  const findings = await axed(page);
  const { over, moved, small, weight } = await page.evaluate(() => ({
    weight: performance.getEntries().filter((e) => ["navigation", "link", "script", "css"].includes(e.initiatorType))
      .reduce((sum, e) => sum + e.decodedBodySize, 0),
    // Not `innerWidth`: a phone widens it to what does not fit.
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    moved: window.moved,
    small: matchMedia("(pointer: coarse)").matches
      ? [...document.querySelectorAll("button, .button, input:not([type=hidden], [type=checkbox]), select, nav a")]
          .map((e) => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()])
          .filter(([, box]) => box.height > 0 && box.height < 43.5).map(([html]) => html)
      : [],
  }));
  if (over > 0) findings.push(`is ${over} px wider than its window`);
  if (weight > MOST_BYTES) findings.push(`takes ${weight} bytes with its stylesheet and script`);
  for (const what of moved) findings.push(`moved after it was drawn: ${what}`);
  for (const html of small) findings.push(`target lower than 44 px: ${html}`);
  return findings;
}

// Signs in by the form that people use.
export async function signIn(page, base, token) {
  await page.goto(new URL("/dashboard", base).href, { waitUntil: "load" });
  await page.fill("#token", token);
  await page.click("form:has(#token) button");
  await page.waitForURL((url) => !url.pathname.endsWith("/sign-in"));
}
