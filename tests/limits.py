#!/usr/bin/env python3
"""Pushes apps whose builds break a limit, on both tiers: each is ended and named to its pusher, and nothing else notices.

Usage: tests/limits.py [root|bwrap...]
Needs: SHIPWAY_BIN (the binary), bwrap, perl; exits with 77 without them. The tier `root` takes root.
"""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import urllib.request

from load import Team, wait_until
from transcripts import Platform

LIMITS = {"memory": 512, "processes": 64, "seconds": 15, "output": 1, "disk": 64}
# What the buildpack does to the app ($1) and the cache ($2), and what the pusher reads.
FORKS = "perl -e 'for (1..200) { my $p = fork // last; if (!$p) { sleep 60; exit } }'"
BREAKS = {
    "memory": ("perl -e 'push @a, \"x\" x 1000000 while 1'; sleep 60", "used more than 512 MiB of memory. Build with less"),
    "processes": (f"{FORKS}; sleep 60", "wanted more than 64 processes and threads at once. Build with fewer"),
    "time": ("echo begun; sleep 60", "took longer than 15 s. Look at the last line"),
    "output": ("yes", "wrote more than 1 MiB of output. Look for a loop"),
    "disk of the app": ("head -c 200M /dev/zero >$1/full; sleep 60", "filled more than 64 MiB of disk. Remove large files"),
    "disk of the cache": ("head -c 200M /dev/zero >$2/full; sleep 60", "filled more than 64 MiB of disk."),
    "temporary files": ("head -c 200M /dev/zero >/tmp/full; sleep 60", "filled more than 64 MiB of disk."),
    "disk behind a closed directory": (
        "mkdir $1/closed; chmod 300 $1/closed; head -c 200M /dev/zero >$1/closed/full; sleep 60", "filled more than 64 MiB of disk."),
    # The buildpack's own failure; what it leaves cannot be looked at by its owner, nor reached by any path.
    "a tree that is hard to remove": (
        "mkdir -p $1/a/b; perl -e 'chdir $ARGV[0]; for (1..200) { mkdir \"deep-enough\"; chdir \"deep-enough\" }' $1; "
        "chmod 000 $1/a/b $1/a; exit 3", "exited with 3"),
}
APP = "acorn"
SERVE = """import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open("version", "rb").read()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"""


class Pusher(Team):
    """A team whose app is built by a buildpack that does what the app's file `compile` says."""

    def begin(self):
        pack = self.platform.buildpacks / "own/bin"
        pack.mkdir(parents=True)
        for name, script in [("detect", "echo Own"), ("compile", '. "$1/compile"')]:
            (pack / name).write_text(f"#!/bin/bash\n{script}\n")
            (pack / name).chmod(0o755)
        self.checkout.mkdir()
        (self.checkout / "serve.py").write_text(SERVE)
        (self.checkout / "Procfile").write_text("web: exec python3 serve.py\n")
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "heroku", self.api("POST", "/apps", {"name": APP})["git_url"])
        self.api("PUT", f"/apps/{APP}/buildpack-installations", {"updates": [{"buildpack": str(pack.parent)}]})

    def push(self, version, compile):
        """Whether it worked, and what git showed."""
        (self.checkout / "version").write_text(version)
        (self.checkout / "compile").write_text(compile)
        self.git("add", ".")
        self.git("commit", "-q", "-m", version)
        done = subprocess.run(["git", "-C", self.checkout, "push", "--force", "heroku", "main"], env=self.env,
                              capture_output=True, text=True, timeout=120)
        return done.returncode == 0, done.stderr

    def served(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.platform.router}/", headers={"Host": f"{APP}.localhost"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()

    def left(self):
        """What is left of builds: their directories, and their dynos."""
        dynos = {d["id"] for d in self.api("GET", f"/apps/{APP}/dynos")}
        records = {p.name for p in (self.platform.home / "run/dynos").iterdir()}
        return sorted(p.name for p in (self.platform.home / "work").iterdir()) + sorted(records - dynos)


def play(tier, binary):
    """Everything on one tier; what there is to print, and whether all was well."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"shipway-limits-{tier}-"))
    scratch.chmod(0o755)
    flags = [word for name, value in LIMITS.items() for word in (f"--build-{name}", str(value))]
    platform = Platform(binary, scratch, ["--tier", tier, *flags])
    said, good = [], False
    try:
        platform.up()
        pusher = Pusher(platform, scratch)
        pusher.begin()
        worked, shown = pusher.push("good", "echo compiled")
        assert worked, shown
        for name, (script, words) in BREAKS.items():
            worked, shown = pusher.push(name, script)
            lines = [line for line in shown.splitlines() if line.startswith("remote:") and words in line]
            assert not worked and lines, f"{name}: {words!r} is not in\n{shown}"
            assert pusher.served() == "good", name
            wait_until(f"{name}: nothing is left of the build", lambda: not pusher.left(), 20)
            said.append(f"  {tier}: {name}: {lines[0].removeprefix('remote:').strip(' !')}")
        # What could not be removed would be in the way of the next server.
        old = pusher.server()
        os.kill(old, signal.SIGKILL)
        wait_until("another server runs", lambda: pusher.server() not in (None, old))
        worked, shown = pusher.push("better", "echo compiled")
        assert worked and pusher.served() == "better", shown
        good = True
    except Exception:
        said += [f"  {tier}: {traceback.format_exc()}", platform.tail()]
        said.append((platform.home / "run/server.log").read_text(errors="replace")[-4000:])
    finally:
        platform.down()
        if good:
            shutil.rmtree(scratch, ignore_errors=True)
    return "\n".join(said), good


def main():
    binary = os.environ.get("SHIPWAY_BIN")
    if not binary or not shutil.which("bwrap") or not shutil.which("perl"):
        print("SHIPWAY_BIN, bwrap and perl are needed; skipped")
        return 77
    tiers = [t for t in ["root", "bwrap"] if t in (sys.argv[1:] or ["root", "bwrap"]) and (t == "bwrap" or os.geteuid() == 0)]
    with concurrent.futures.ThreadPoolExecutor(len(tiers)) as pool:
        results = list(pool.map(lambda tier: play(tier, str(pathlib.Path(binary).resolve())), tiers))
    for said, _ in results:
        print(said, flush=True)
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())
