"""The sample app: Python's standard library only, so a push is live in a moment."""

import html
import os
import signal
import socketserver
import sys

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{app} is live</title>
<style>
:root {{ --ink: #1d2433; --soft: #5a6478; --paper: #f7f8fb; --card: #fff; --line: #e1e5ee; --accent: #3b4cca; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8ebf4; --soft: #a3acc2; --paper: #12151d; --card: #1a1f2b; --line: #2b3242; --accent: #a3b1ff; }}
}}
* {{ box-sizing: border-box }}
body {{ margin: 0; padding: clamp(1.5rem, 6vw, 5rem) 1.25rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, sans-serif; }}
main {{ max-width: 40rem; margin: auto }}
.release {{ display: inline-block; margin: 0; padding: .15rem .7rem; border: 1px solid var(--line); border-radius: 99px;
  color: var(--soft); font-size: .9rem; }}
h1 {{ margin: 1rem 0 .25rem; font-size: clamp(2rem, 7vw, 3.25rem); line-height: 1.1; letter-spacing: -.02em; overflow-wrap: anywhere }}
.lead {{ margin: 0 0 2rem; color: var(--soft); font-size: 1.15rem }}
ol {{ margin: 0; padding: 0; list-style: none; border: 1px solid var(--line); border-radius: 14px; background: var(--card); }}
li {{ padding: 1.1rem 1.25rem; border-top: 1px solid var(--line) }}
li:first-child {{ border-top: 0 }}
h2 {{ margin: 0 0 .35rem; font-size: 1rem }}
code {{ display: block; overflow-x: auto; font: .92rem/1.7 ui-monospace, monospace; color: var(--accent); white-space: pre }}
footer {{ margin-top: 1.5rem; color: var(--soft); font-size: .9rem }}
</style>
</head>
<body>
<main>
<p class="release">{release}{commit} on {dyno}</p>
<h1>{app} is live.</h1>
<p class="lead">You pushed it, it was built once, and it answers here. Three things to try next:</p>
<ol>
<li><h2>Change it</h2><code>heroku git:clone -a {app} &amp;&amp; cd {app}
git commit -am "Say hello" &amp;&amp; git push heroku main</code></li>
<li><h2>Watch it</h2><code>heroku logs --tail -a {app}</code></li>
<li><h2>Scale it, and take the change back</h2><code>heroku ps:scale web=2 -a {app}
heroku rollback -a {app}</code></li>
</ol>
<footer>Reload while you push: no request is lost.</footer>
</main>
</body>
</html>
"""


def page():
    def env(name, default):
        return html.escape(os.environ.get(name, default))

    commit = env("HEROKU_SLUG_COMMIT", "")[:7]
    return PAGE.format(
        app=env("HEROKU_APP_NAME", "hello"),
        release=env("HEROKU_RELEASE_VERSION", "v0"),
        commit=f" &middot; {commit}" if commit else "",
        dyno=env("DYNO", "this machine"),
    ).encode()


class Handler(socketserver.StreamRequestHandler):
    """Just enough HTTP/1.1 for one page; `http.server` would triple the time to the first answer."""

    timeout = 90

    def handle(self):
        try:
            while self.answer():
                pass
        except OSError:
            # The client went away, or said nothing for as long as a connection is kept.
            return

    def answer(self):
        request = self.rfile.readline(8192).split()
        if len(request) != 3:
            return False
        length, keep = 0, request[2] == b"HTTP/1.1"
        while line := self.rfile.readline(8192).strip():
            name, _, value = line.partition(b":")
            value = value.strip().lower()
            if name.lower() == b"content-length" and value.isdigit():
                length = int(value)
            elif name.lower() == b"connection":
                keep = value != b"close"
            elif name.lower() == b"transfer-encoding":
                keep = False
        while length > 0 and (piece := self.rfile.read(min(length, 65536))):
            length -= len(piece)
        found = request[1].split(b"?")[0] == b"/"
        body = page() if found else b"Only / is here.\n"
        status = b"200 OK" if found else b"404 Not Found"
        kind = b"text/html" if found else b"text/plain"
        head = b"HTTP/1.1 %s\r\nContent-Type: %s; charset=utf-8\r\nContent-Length: %d\r\n" % (status, kind, len(body))
        head += b"\r\n" if keep else b"Connection: close\r\n\r\n"
        self.wfile.write(head + (b"" if request[0] == b"HEAD" else body))
        return keep


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    port = int(os.environ.get("PORT", "5001"))
    with Server(("0.0.0.0", port), Handler) as server:
        print(f"listening on port {port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.exit(0)
