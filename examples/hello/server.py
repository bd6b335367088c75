"""A page that says which release answers. Python's standard library, nothing to install."""

import html
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hello from Shipway</title>
<style>
  :root {{ color-scheme: light dark; font: 17px/1.5 system-ui, sans-serif }}
  body {{ max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem }}
  h1 {{ font-size: 1.6rem; font-weight: 600 }}
  code {{ font-family: ui-monospace, monospace }}
</style>
<main>
  <h1>Hello from Shipway</h1>
  <p>Release <code>{release}</code> of <code>{app}</code>, dyno <code>{dyno}</code>.</p>
  <p>Change <code>server.py</code>, commit, <code>git push heroku main</code>: this page changes and nobody sees an error.</p>
</main>
</html>
"""


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        names = {"release": "HEROKU_RELEASE_VERSION", "app": "HEROKU_APP_NAME", "dyno": "DYNO"}
        values = {key: html.escape(os.environ.get(name, "?")) for key, name in names.items()}
        body = PAGE.format(**values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format, *args):
        print(format % args, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # The listening address "" is every address: the router does not come from loopback.
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8000"))), Hello).serve_forever()
