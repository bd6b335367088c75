#!/usr/bin/env python3
"""Pushes and clones an app of 500 MB in 100,000 files, and asks the kernel how much memory the server ever had meanwhile.

Usage: python3 tests/large.py        (not part of bin/test: it takes minutes)
Needs: SHIPWAY_BIN (the binary), 4 GB of free disk; exits with 77 without them.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from load import Team
from transcripts import Platform

APP = "acorn"
FILES, BYTES = 100_000, 500_000_000
LARGE = 5
MOST_MEMORY = 64 << 20
DISK = 4_000_000_000
SERVE = """import glob, http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = [n for d in ("small", "large") for n in glob.glob(d + "/**", recursive=True) if os.path.isfile(n)]
        body = f"{len(names)} files, {sum(map(os.path.getsize, names))} bytes".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"""


class Pusher(Team):
    def begin(self):
        self.checkout.mkdir()
        (self.checkout / "serve.py").write_text(SERVE)
        (self.checkout / "Procfile").write_text("web: exec python3 serve.py\n")
        small = FILES - LARGE
        for number in range(small):
            directory = self.checkout / "small" / str(number // 1000)
            if number % 1000 == 0:
                directory.mkdir(parents=True)
            (directory / str(number)).write_text(f"{number:010}")
        (self.checkout / "large").mkdir()
        for number in range(LARGE):
            (self.checkout / "large" / str(number)).write_bytes(os.urandom((BYTES - 10 * small) // LARGE))
        self.git("init", "-q", "-b", "main")
        # What is random does not get smaller: no time for trying.
        self.git("config", "core.compression", "0")
        self.git("remote", "add", "heroku", self.api("POST", "/apps", {"name": APP})["git_url"])
        self.git("add", ".")
        self.git("commit", "-q", "-m", "All")

    def memory(self):
        """The most that the server ever had, in bytes."""
        status = pathlib.Path(f"/proc/{self.server()}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))

    def served(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.platform.router}/", headers={"Host": f"{APP}.localhost"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def check(self, act, work):
        server = self.server()
        work()
        most = self.memory()
        assert self.server() == server, "it is another server"
        assert most <= MOST_MEMORY, f"after the {act} the server had had {most >> 20} MiB; {MOST_MEMORY >> 20} are allowed"
        print(f"  {act}: the server never had more than {most >> 20} MiB", flush=True)


def main():
    binary = os.environ.get("SHIPWAY_BIN")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-large-"))
    if not binary or shutil.disk_usage(scratch).free < DISK:
        scratch.rmdir()
        print("SHIPWAY_BIN and 4 GB of free disk are needed; skipped")
        return 77
    scratch.chmod(0o755)
    platform = Platform(str(pathlib.Path(binary).resolve()), scratch)
    good = False
    try:
        platform.up()
        pusher = Pusher(platform, scratch)
        pusher.begin()
        pusher.check("push", lambda: pusher.git("push", "-q", "heroku", "main"))
        said = pusher.served()
        assert said == f"{FILES} files, {BYTES} bytes", said
        remote = pusher.api("GET", f"/apps/{APP}")["git_url"]
        words = ["git", "clone", "-q", "--no-checkout", remote, scratch / "clone"]
        pusher.check("clone", lambda: subprocess.run(words, env=pusher.env, check=True))
        good = True
    finally:
        if not good:
            print(platform.tail(), (platform.home / "run/server.log").read_text(errors="replace")[-4000:], sep="\n")
        platform.down()
        if good:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
