// What a page can do only while it is open: tick, follow, ask in place. Without this file everything else works.
// Nothing here parses HTML from text: pages are fetched as documents, lines are set as text.
"use strict";
(() => {
  const RETRY_MS = 3000;
  const all = (selector, root = document) => root.querySelectorAll(selector);
  const main = document.getElementById("main");

  // The server's clock, so that ages are right on a laptop whose clock is not.
  let skew = 0;
  const readClock = (doc) => {
    const now = Date.parse(doc.documentElement.dataset.now);
    if (now) skew = now - Date.now();
  };

  // The same words as `text::age` and `text::duration`.
  const age = (s) =>
    s < 5 ? "just now" : s < 60 ? `${s} s ago` : s < 3600 ? `${Math.floor(s / 60)} min ago`
      : s < 86400 ? `${Math.floor(s / 3600)} h ago` : s < 172800 ? "1 day ago" : `${Math.floor(s / 86400)} days ago`;
  const two = (n) => String(n).padStart(2, "0");
  const duration = (s) =>
    s < 1 ? "0 ms" : s < 10 ? `${s}.0 s` : s < 60 ? `${s} s`
      : s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const tick = () => {
    const seconds = (from) => Math.max(0, Math.floor((Date.now() + skew - Date.parse(from)) / 1000));
    for (const e of all("[data-age]")) say(e, age(seconds(e.dateTime)));
    for (const e of all("[data-since]")) say(e, duration(seconds(e.dataset.since)));
  };

  const load = (url) => new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = 15000;
    request.onload = () => (request.status === 200 && request.response ? done([request.response, request.responseURL]) : fail(request.status));
    request.onerror = request.ontimeout = () => fail(0);
    request.send();
  });

  // What tells a link or button of a region from the others, so that the focus stays on it.
  const sameAs = (e) => e.getAttribute("href") ?? `${e.form?.getAttribute("action")} ${e.value} ${e.textContent}`;

  // Fetches this page again and replaces the regions that differ; the rest does not move.
  let busy = false, again = false;
  const refresh = async () => {
    if (busy) return void (again = true);
    busy = true;
    try {
      const [page, url] = await load(location.href);
      if (new URL(url).pathname !== location.pathname) return location.assign(url);
      readClock(page);
      for (const region of all("[data-live]")) {
        const fresh = page.querySelector(`[data-live="${region.dataset.live}"]`);
        const focus = region.contains(document.activeElement) ? document.activeElement : null;
        if (!fresh || focus?.matches("input, select, textarea")) continue;
        const next = document.importNode(fresh, true);
        reveal(next);
        if (region.isEqualNode(next)) continue;
        region.replaceChildren(...next.childNodes);
        const mark = focus && sameAs(focus);
        if (mark) [...all("a[href], button", region)].find((e) => sameAs(e) === mark)?.focus({ preventScroll: true });
      }
      tick();
    } catch (status) {
      // Nothing may follow that would have it fetched again. A page that is gone stays as it was.
      if (status === 0 || status >= 500) setTimeout(() => document.hidden || refresh(), RETRY_MS);
    } finally {
      busy = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  };

  // Streams are open only while the page is looked at: a browser allows few per host.
  const streams = [];
  const follow = (url, listeners, last = "") => {
    const stream = { last, ended: false, lost: false, source: null };
    stream.open = () => {
      if (stream.source || stream.ended) return;
      // A new EventSource does not send the last id by itself.
      const at = new URL(url, location);
      if (stream.last) at.searchParams.set("after", stream.last);
      const source = (stream.source = new EventSource(at));
      for (const [name, listener] of Object.entries(listeners))
        source.addEventListener(name, (event) => {
          if (event.lastEventId) stream.last = event.lastEventId;
          listener(event);
        });
      source.addEventListener("end", () => {
        stream.ended = true;
        stream.close();
        refresh();
      });
      // What happened while the connection was away is on the page that is fetched now.
      let before = stream.lost;
      source.onopen = () => {
        if (before) refresh();
        before = true;
        stream.lost = false;
      };
      // A browser connects again by itself, but gives up when it is refused: by a server that is being replaced.
      source.onerror = () => {
        if (source.readyState !== EventSource.CLOSED) return;
        stream.close();
        stream.lost = true;
        setTimeout(() => document.hidden || stream.open(), RETRY_MS);
      };
    };
    stream.close = () => {
      stream.source?.close();
      stream.source = null;
    };
    streams.push(stream);
    stream.open();
  };
  const wake = () => {
    for (const s of streams) document.hidden ? s.close() : s.open();
    if (!document.hidden) refresh();
  };

  // A box that grows at its end: keeps to the end while it is there, drops the oldest beyond `most`.
  const growing = (box, most) => {
    const state = document.querySelector("[data-following]");
    let atEnd = true, pending = [];
    const show = () => state && !state.dataset.ended && say(state, atEnd ? "Following." : "Paused: scroll to the end to follow.");
    const toEnd = () => (box.scrollTop = box.scrollHeight);
    box.addEventListener("scroll", () => {
      const now = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
      if (now !== atEnd) {
        atEnd = now;
        show();
      }
    });
    toEnd();
    show();
    return (node) => {
      pending.push(node);
      if (pending.length > most) pending = pending.slice(-most);
      if (pending.length === 1)
        requestAnimationFrame(() => {
          box.querySelector("[data-none]")?.remove();
          const keep = atEnd;
          box.append(...pending);
          pending = [];
          for (let extra = box.childNodes.length - most; extra > 0; extra--) box.firstChild.remove();
          if (keep) toEnd();
        });
    };
  };

  const logLine = (line) => {
    const row = document.createElement("p"), head = document.createElement("i");
    if (line.source === "heroku") row.className = "platform";
    head.textContent = `${line.clock} ${line.dyno}`;
    head.title = line.at;
    row.append(head, ` ${line.text}`);
    return row;
  };

  // Opens a page that asks in a dialog over this one. When that fails it opens as a page.
  const ask = async (url) => {
    try {
      const [page] = await load(url);
      const card = page.querySelector("[data-confirm]");
      if (!card) return location.assign(url);
      const dialog = document.createElement("dialog");
      dialog.setAttribute("aria-labelledby", "confirm");
      dialog.append(document.importNode(card, true));
      dialog.addEventListener("close", () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
      dialog.querySelector("h2").focus();
    } catch {
      location.assign(url);
    }
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest("a[data-ask], a[data-close], button[data-copy]");
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const dialog = target.closest("dialog");
    if (target.matches("[data-ask]")) {
      event.preventDefault();
      ask(target.href);
    } else if (target.matches("[data-close]") && dialog) {
      event.preventDefault();
      dialog.close();
    } else if (target.matches("[data-copy]")) {
      navigator.clipboard.writeText(target.previousElementSibling.textContent.trim()).then(() => {
        say(target, "Copied");
        setTimeout(() => say(target, "Copy"), 2000);
      });
    }
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("form[data-ask]")) {
      event.preventDefault();
      ask(`${form.action}?${new URLSearchParams(new FormData(form))}`);
    } else if (form.method === "post") {
      // One press, one act.
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
    }
  });

  const reveal = (root) => {
    if (navigator.clipboard) for (const button of all("[data-copy]", root)) button.hidden = false;
  };

  const ended = () => {
    for (const state of all("[data-following]")) {
      state.dataset.ended = "";
      say(state, "Complete.");
    }
  };

  readClock(document);
  reveal(document);
  setInterval(tick, 1000);
  const log = document.querySelector("[data-log]"), text = document.querySelector("[data-text]");
  if (log) {
    const add = growing(log, 2000);
    follow(log.dataset.log, { line: (event) => add(logLine(JSON.parse(event.data))), changed: refresh });
  }
  if (text) {
    const add = growing(text, 5000);
    follow(text.dataset.text, { text: (event) => add(document.createTextNode(JSON.parse(event.data))), changed: refresh, end: ended });
  }
  if (main.dataset.events) follow(main.dataset.events, { changed: refresh }, document.documentElement.dataset.seen);
  document.addEventListener("visibilitychange", wake);
  addEventListener("pagehide", () => streams.forEach((s) => s.close()));
  addEventListener("pageshow", (event) => {
    for (const form of all("form[data-sent]")) delete form.dataset.sent;
    if (event.persisted) wake();
  });
})();
