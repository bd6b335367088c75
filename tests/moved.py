#!/usr/bin/env python3
"""Backs a platform with a database up as docs/operating.md says, and puts it back at another place.

Everything is stopped, copied and started elsewhere: releases, config vars, apps and what is in their databases are there,
apps find their databases at the new address, a backup from before can be restored. On both tiers; `bwrap` is played by an
ordinary user.

Usage: tests/moved.py [root|bwrap...]
Needs: SHIPWAY_BIN (the binary), root (to become somebody else), PostgreSQL, bwrap; exits with 77 without them.
"""

import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from load import Team, wait_until
from transcripts import Platform

HERE = pathlib.Path(__file__).resolve().parent
APP = "acorn"
# Somebody without rights whom every machine has.
NOBODY = "nobody"
SERVE = """import http.server, os, subprocess
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        words = ["psql", os.environ["DATABASE_URL"], "-Atc", "SELECT count(*) FROM kept"]
        done = subprocess.run(words, capture_output=True)
        body = (done.stdout or done.stderr).strip() + os.environ["GREETING"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"""


class Owner(Team):
    def begin(self):
        self.checkout.mkdir()
        (self.checkout / "serve.py").write_text(SERVE)
        (self.checkout / "Procfile").write_text("web: exec python3 serve.py\n")
        self.git("init", "-q", "-b", "main")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "First")
        self.git("remote", "add", "heroku", self.api("POST", "/apps", {"name": APP})["git_url"])
        self.api("PATCH", f"/apps/{APP}/config-vars", {"GREETING": " rows"})
        self.addon = self.api("POST", f"/apps/{APP}/addons", {"plan": "heroku-postgresql"})["id"]
        self.sql("CREATE TABLE kept AS SELECT generate_series(1, 3) AS id")
        self.git("push", "-q", "heroku", "main")

    def url(self):
        return self.api("GET", f"/apps/{APP}/config-vars")["DATABASE_URL"]

    def sql(self, text):
        done = subprocess.run(["psql", self.url(), "-v", "ON_ERROR_STOP=1", "-Atc", text], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def page(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.platform.router}/", headers={"Host": f"{APP}.localhost"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()

    def counts(self, rows):
        """Waits until the app says so many."""
        seen = set()
        try:
            wait_until("the app counts its rows", lambda: seen.add(self.page()) or f"{rows} rows" in seen, 30)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {seen}") from None

    def transferred(self, path, body):
        """Begins a transfer and waits for it."""
        which = f"/client/v11/apps/{APP}/transfers/{self.api('POST', path, body)['uuid']}"
        wait_until("the transfer is over", lambda: self.api("GET", which)["finished_at"])
        done = self.api("GET", which)
        assert done["succeeded"], self.api("GET", f"{which}?verbose=true")
        return done["to_url"]

    def releases(self):
        return [(r["version"], r["status"], r["description"]) for r in self.api("GET", f"/apps/{APP}/releases")]


def documented(block, programs):
    """The lines of a block of docs/operating.md that run these programs."""
    page = (HERE.parent / "docs/operating.md").read_text()
    [text] = re.findall(rf"<!-- {block} -->\n```sh\n(.*?)```", page, re.DOTALL)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.split()[0] in programs]
    assert lines, f"{block} has none of {programs}"
    return "\n".join(lines)


def shell(script, home, place):
    done = subprocess.run(["bash", "-euc", script], env={**os.environ, "SHIPWAY_HOME": str(home)}, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stderr}"


def play(tier, binary):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"shipway-moved-{tier}-", dir="/var/tmp"))
    scratch.chmod(0o755)
    places = [scratch / name for name in ("here", "there")]
    for place in places:
        place.mkdir()
    # Where this one's sign-in is kept, whoever they are.
    os.environ["HOME"] = str(scratch)
    here, there = (Platform(binary, place, ["--tier", tier]) for place in places)
    good = False
    try:
        here.up()
        owner = Owner(here, places[0])
        owner.begin()
        owner.counts(3)
        backup = owner.transferred(f"/client/v11/databases/{owner.addon}/backups", None)
        releases, before = owner.releases(), owner.url()
        here.down()
        shell(documented("backup", ["tar"]), here.home, scratch)
        # Nothing of the first place may be used at the second.
        shutil.rmtree(here.home)

        shell(documented("restore", ["mkdir", "tar"]), there.home, scratch)
        there.up()
        addon, owner = owner.addon, Owner(there, places[1])
        assert owner.releases() == releases, owner.releases()
        owner.counts(3)
        assert owner.sql("SELECT count(*) FROM kept") == "3"
        moved = owner.url()
        assert (moved != before) == (tier == "root"), f"{before} {moved}"
        owner.sql("INSERT INTO kept VALUES (4)")
        owner.transferred(f"/client/v11/databases/{addon}/restores", {"backup_url": backup})
        assert owner.page() == "3 rows", "the backup of before was not restored"
        good = True
        print(f"{tier}: stopped, copied, started elsewhere: releases, config vars, rows and backups are there", flush=True)
    finally:
        for platform in (here, there):
            platform.down()
            if not good:
                print(platform.tail())
                for log in glob.glob(f"{platform.home}/run/*.log"):
                    print(log, pathlib.Path(log).read_text(errors="replace")[-3000:], sep="\n")
        if good:
            shutil.rmtree(scratch, ignore_errors=True)


def main():
    binary = os.environ.get("SHIPWAY_BIN")
    tiers = sys.argv[1:] or ["root", "bwrap"]
    if not binary or not glob.glob("/usr/lib/postgresql/*/bin/initdb") or not shutil.which("bwrap"):
        print("SHIPWAY_BIN, PostgreSQL and bwrap are needed; skipped")
        return 77
    binary = str(pathlib.Path(binary).resolve())
    if os.geteuid() != 0:
        for tier in tiers:
            play(tier, binary)
        return 0
    # The other tier in a process that is somebody else's.
    running = []
    if "bwrap" in tiers:
        group = subprocess.run(["id", "-g", NOBODY], capture_output=True, text=True, check=True).stdout.strip()
        nobody = ["setpriv", "--reuid", NOBODY, "--regid", group, "--clear-groups"]
        if subprocess.run([*nobody, "test", "-r", __file__, "-a", "-x", binary]).returncode:
            print(f"bwrap: skipped: {NOBODY} may not look at {binary}", flush=True)
        else:
            words = [*nobody, sys.executable, __file__, "bwrap"]
            running.append(subprocess.Popen(words))
    if "root" in tiers:
        play("root", binary)
    return max((process.wait() for process in running), default=0)


if __name__ == "__main__":
    sys.exit(main())
