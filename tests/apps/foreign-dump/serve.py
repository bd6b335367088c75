#!/usr/bin/env python3
"""Serves the files of a directory at a free port of the loopback; `/to/URL` leads to that URL.

Usage: serve.py DIRECTORY. Prints the port, then a line for each request.
"""

import functools
import http.server
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if not self.path.startswith("/to/"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", "0")
        self.end_headers()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1]))
print("port", server.server_port, flush=True)
server.serve_forever()
