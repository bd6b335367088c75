// A browser that does what it is told: a command a line on standard input, an answer a line on standard output, both JSON.
//
//   node drive.mjs URL [narrow]
//
// `["open", "/dashboard"]` is answered by `{"ok": …}`, or `{"error": "…"}` when it is not so. What waits, waits for 120 s.
// The end of standard input is the end of it.
import { createInterface } from "node:readline";
import { NARROW, WIDE, launch, open, signIn, wrong } from "./browser.mjs";

// More keys than any page has places for the focus.
const TABS = 200;
const [base, size] = process.argv.slice(2);
if (!base) {
  console.error("usage: node drive.mjs URL [narrow]");
  process.exit(2);
}
let complaints = [];
const browser = await launch();
const { page } = await open(browser, size === "narrow" ? NARROW : WIDE, (what) => complaints.push(what));

// What the focus is on, as a reader of the page would say it, and whether it can be seen there.
const focused = () => {
  const it = document.activeElement;
  const style = getComputedStyle(it), box = it.getBoundingClientRect();
  const label = it.labels?.[0]?.textContent ?? it.getAttribute("aria-label") ?? "";
  return {
    name: `${label} ${it.textContent}`.replace(/\s+/g, " ").trim(),
    seen: it !== document.body && box.width > 0 && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    html: it.outerHTML.slice(0, 120),
  };
};

const commands = {
  sign_in: (token) => signIn(page, base, token),
  // A page that is left or fetched anew forgets that it was opened here.
  async open(path) {
    await page.goto(new URL(path, base).href, { waitUntil: "load" });
    await page.evaluate(() => (window.stayed = true));
  },
  stayed: () => page.evaluate(() => window.stayed === true),
  at: () => new URL(page.url()).pathname,
  // Waits until something that `selector` finds says `text`.
  see: (selector, text) =>
    page.waitForFunction(([s, t]) => [...document.querySelectorAll(s)].some((e) => e.textContent.includes(t)), [selector, text]).then(() => null),
  text: (selector) => page.$$eval(selector, (all) => all.map((e) => e.textContent.replace(/\s+/g, " ").trim())),
  // The upper edge of the first that `selector` finds, in px of the page.
  top: (selector) => page.evaluate((s) => document.querySelector(s).getBoundingClientRect().top + scrollY, selector),
  // Presses Tab until the focus is on what is called `name`.
  async reach(name) {
    for (let i = 0; i < TABS; i++) {
      await page.keyboard.press("Tab");
      const on = await page.evaluate(focused);
      if (on.html.startsWith("<body")) continue;
      if (!on.seen) throw new Error(`the focus cannot be seen on ${on.html}`);
      if (on.name.includes(name)) return null;
    }
    throw new Error(`no key leads to “${name}”`);
  },
  focused: () => page.evaluate(focused),
  press: (key) => page.keyboard.press(key).then(() => null),
  // Into what has the focus.
  type: (text) => page.keyboard.type(text).then(() => null),
  click: (selector) => page.click(selector).then(() => null),
  wrong: () => wrong(page),
  shot: (path) => page.screenshot({ path, fullPage: true }).then(() => null),
  // What the console has said since the last time.
  complaints() {
    const said = complaints;
    complaints = [];
    return said;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[name](...words)) ?? null };
  } catch (error) {
    const shown = await page.evaluate(() => document.querySelector("main")?.innerText ?? "").catch(() => "");
    answer = { error: `${name} ${words.join(" ")}: ${error.message}\nat ${page.url()}:\n${shown.slice(0, 2000)}` };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
