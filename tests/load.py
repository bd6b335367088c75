#!/usr/bin/env python3
"""Changes an app under load and counts what its visitors saw of it.

Separate client processes (tests/load/client.py), which never try again, each with and without keep-alive: 150 short
requests a second, 40 answers of 0.2 to 5 s, 10 uploads of 1 MiB checked by hash, 20 WebSockets, 20 event streams; on an
app that boots for 3 s and stops for 2 s (tests/apps/load). Meanwhile, in rounds: push, config, scaling, restart, rollback,
kill -9 of the server in the middle of a release, a new server, an upgrade of everything with the router handed over, and
kill -9 of one of two web dynos.

A failure is a connection that breaks, a wrong body, an answer that is not 200, a stream that ends without the app's
goodbye. None is allowed, except what was under way in a killed dyno, as the router's log has it.

All the while the pipeline's board is open in Chromium (tests/pages/drive.mjs), from before the quiet time to the end, so that
it weighs on both of the times that are compared; it gets what processors the rest leaves. At the end it must show the last
release and follow one more change, on the page that was opened first, and have complained of nothing but connections that
ended with a server.

Usage: ROUNDS=20 tests/load.py [CHANGE...]     (2 rounds of all changes by default)
BOARD=1 wants the board, BOARD=0 leaves it out; otherwise it is there when its modules are (npm ci in tests/pages).
A round takes about 45 s, most of it the 3 s of each boot: 20 rounds are a quarter of an hour.
Needs: SHIPWAY_BIN (the binary), root for dynos that are apart; exits with 77 without the binary.
"""

import contextlib
import json
import os
import pathlib
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

from transcripts import Platform

HERE = pathlib.Path(__file__).resolve().parent
ROUNDS = int(os.environ.get("ROUNDS", "2"))
QUIET_SECONDS = 12
# Between two changes. What the last one left behind drains for longer, also while the next one is made.
PAUSE_SECONDS = 1
APP = "acorn"
# What is promoted to it comes from here.
STAGING = "acorn-staging"
# Kind, how many a second or at once, connection.
LOAD = [
    ("short", 75, "keep"), ("short", 75, "close"), ("slow", 20, "keep"), ("slow", 20, "close"),
    ("post", 5, "keep"), ("post", 5, "close"), ("socket", 20, "keep"), ("events", 20, "keep"),
]


def wait_until(what, condition, seconds=300):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return found


class Team:
    """Those who change the app: the API and git, as `shipway env` sets them up."""

    def __init__(self, platform, scratch):
        self.platform, self.checkout = platform, scratch / "checkout"
        home = scratch / "home"
        home.mkdir()
        env = {"PATH": f"{pathlib.Path(platform.binary).parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8",
               "SHIPWAY_HOME": str(platform.home), "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{who}_NAME": "Ada", f"GIT_{who}_EMAIL": "ada@example.org"}
        script = 'set -e; settings=$("$0" env); eval "$settings"; env -0'
        said = subprocess.run(["bash", "-c", script, platform.binary], env=env, capture_output=True, check=True)
        self.env = dict(entry.split("=", 1) for entry in said.stdout.decode().split("\0") if entry)
        self.wanted, self.killed = 2, []

    def api(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.platform.listen}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/vnd.heroku+json; version=3", "Content-Type": "application/json",
                     "Authorization": f"Bearer {self.env['HEROKU_API_KEY']}"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def git(self, *words):
        done = subprocess.run(["git", "-C", self.checkout, *words], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"git {' '.join(words)}: {done.stderr}")

    def begin(self):
        shutil.copytree(HERE / "apps/load", self.checkout)
        remote = self.api("POST", "/apps", {"name": APP})["git_url"]
        self.git("init", "-q", "-b", "main")
        self.git("add", ".")
        self.git("commit", "-qm", "First")
        self.git("remote", "add", "heroku", remote)
        self.git("push", "-q", "heroku", "main")
        self.scale(2)
        self.git("remote", "add", "staging", self.api("POST", "/apps", {"name": STAGING})["git_url"])
        self.pipeline = self.api("POST", "/pipelines", {"name": "acorn"})["id"]
        for app, stage in [(STAGING, "staging"), (APP, "production")]:
            self.api("POST", "/pipeline-couplings", {"app": app, "pipeline": self.pipeline, "stage": stage})

    def dynos(self):
        return [d for d in self.api("GET", f"/apps/{APP}/dynos") if d["type"] == "web"]

    def settled(self):
        """Waits until the wanted dynos run the last release that worked, and nothing is under way."""
        def so():
            with contextlib.closing(sqlite3.connect(f"file:{self.platform.home}/shipway.db?mode=ro", uri=True)) as db:
                [[going]] = db.execute("SELECT count(*) FROM operations WHERE status NOT IN ('succeeded', 'failed')")
            current = max(r["version"] for r in self.api("GET", f"/apps/{APP}/releases") if r["status"] == "succeeded")
            dynos = self.dynos()
            return not going and len(dynos) == self.wanted and all(
                d["state"] == "up" and d["release"]["version"] == current for d in dynos)
        wait_until("the app runs as it should", so)

    def push(self):
        (self.checkout / "version.txt").write_text(f"{time.time()}\n")
        self.git("add", ".")
        self.git("commit", "-qm", "Change")
        # What ran was rolled back: main is elsewhere now.
        self.git("push", "-q", "--force", "heroku", "main")

    def config(self):
        self.api("PATCH", f"/apps/{APP}/config-vars", {"CHANGED_AT": str(time.time())})

    def scale(self, quantity):
        self.wanted = quantity
        self.api("PATCH", f"/apps/{APP}/formation/web", {"quantity": quantity})
        self.settled()

    def scaling(self):
        self.scale(3)
        self.scale(2)

    def restart(self):
        before = {d["id"] for d in self.dynos()}
        self.api("DELETE", f"/apps/{APP}/dynos")
        wait_until("other dynos run", lambda: not before & {d["id"] for d in self.dynos()})

    def rollback(self):
        worked = sorted((r["version"], r["id"]) for r in self.api("GET", f"/apps/{APP}/releases")
                        if r["status"] == "succeeded" and r["slug"])
        self.api("POST", f"/apps/{APP}/releases", {"release": worked[-2:][0][1]})

    def promote(self):
        """What staging runs goes live, byte for byte."""
        (self.checkout / "version.txt").write_text(f"{time.time()}\n")
        self.git("add", ".")
        self.git("commit", "-qm", "Change")
        self.git("push", "-q", "--force", "staging", "main")
        order = {"pipeline": self.pipeline, "source": {"app": STAGING}, "targets": [{"app": APP}]}
        targets = f"/pipeline-promotions/{self.api('POST', '/pipeline-promotions', order)['id']}/promotion-targets"
        wait_until("the promotion has ended", lambda: self.api("GET", targets)[0]["status"] != "pending")
        [target] = self.api("GET", targets)
        if target["status"] != "succeeded":
            raise RuntimeError(f"the promotion failed: {target['error_message']}")
        digests = {self.digest(app) for app in (STAGING, APP)}
        if len(digests) != 1:
            raise RuntimeError(f"production does not run what staging runs: {digests}")

    def digest(self, app):
        slug = self.api("GET", f"/apps/{app}/releases/current")["slug"]["id"]
        return self.api("GET", f"/apps/{app}/slugs/{slug}")["checksum"]

    def server(self):
        home = str(self.platform.home)
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[1:4] == ["server", "--home", home]:
                return int(entry.name)
        return None

    def another_server(self, number):
        old = wait_until("a server runs", self.server)
        os.kill(old, number)
        wait_until("another server runs", lambda: self.server() not in (None, old))

    def kill_server(self):
        self.config()
        time.sleep(random.uniform(0, 4))
        self.another_server(signal.SIGKILL)

    def new_server(self):
        self.another_server(signal.SIGTERM)

    def upgrade(self):
        self.platform.upgrade()

    def kill_dyno(self):
        """Kills what runs in web.2, and notes which requests the router had sent there."""
        said = pathlib.Path(self.env["HOME"]) / "router.log"
        url = self.api("POST", f"/apps/{APP}/log-sessions", {"dyno": "router", "source": "heroku", "tail": True})["logplex_url"]
        tail = subprocess.Popen(["curl", "-sSNk", "-o", said, url])
        try:
            wait_until("the log flows", lambda: said.exists() and said.stat().st_size)
            before = {d["id"] for d in self.dynos()}
            dying = [os.pidfd_open(pid) for pid in processes_of("web.2")]
            for process in dying:
                signal.pidfd_send_signal(process, signal.SIGKILL)
            # A killed process still takes connections until it is scheduled for its end: a few ms on a busy machine.
            for process in dying:
                select.select([process], [], [], 30)
                os.close(process)
            at = time.time()
            wait_until("it crashed", lambda: any(d["state"] != "up" or d["id"] not in before for d in self.dynos()))
            self.settled()
            # The router writes a stream's line when it ends.
            wait_until("the log has it all", lambda: said.stat().st_mtime > at + 3)
        finally:
            tail.kill()
            tail.wait()
        there = {part[11:] for line in said.read_text(errors="replace").splitlines() if " dyno=web.2 " in line
                 for part in line.split() if part.startswith("request_id=")}
        self.killed.append((at, there))


def processes_of(dyno):
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"DYNO={dyno}".encode() in environment and f"HEROKU_APP_NAME={APP}".encode() in environment:
            yield int(entry.name)


class Board:
    """The pipeline's board in headless Chromium, as a team has it open."""

    # What Chromium says of connections that end with a server. A page that is fetched meanwhile may be refused as well.
    EXPECTED = ("net::ERR_", "status of 502", "status of 503")

    def __init__(self, platform, team):
        self.team, self.path = team, "/dashboard/pipelines/acorn"
        script = pathlib.Path(os.environ.get("SHIPWAY_TEST_PAGES", HERE / "pages")) / "drive.mjs"
        self.browser = subprocess.Popen(
            ["nice", "-n", "19", "node", script, f"http://127.0.0.1:{platform.listen}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tell("sign_in", team.env["HEROKU_API_KEY"])
        self.tell("open", self.path)

    @staticmethod
    def wanted():
        if "BOARD" in os.environ:
            return os.environ["BOARD"] == "1"
        return "SHIPWAY_TEST_PAGES" in os.environ or (HERE / "pages" / "node_modules").is_dir()

    def tell(self, *command):
        self.browser.stdin.write(json.dumps(command) + "\n")
        self.browser.stdin.flush()
        line = self.browser.stdout.readline()
        if not line:
            raise RuntimeError(f"the browser ended before it had done {command}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the board: {answer['error']}")
        return answer["ok"]

    def followed(self):
        """Returns what is wrong with the board, as it was left and after one more change. Empty when it followed."""
        def shows(version):
            self.tell("see", ".production .card .mono", f"v{version}")
        def version():
            return max(r["version"] for r in self.team.api("GET", f"/apps/{APP}/releases") if r["status"] == "succeeded")
        shows(version())
        self.team.config()
        self.team.settled()
        shows(version())
        complaints = self.tell("complaints")
        wrong = [c for c in complaints if not any(e in c for e in self.EXPECTED)] + self.tell("wrong")
        if not self.tell("stayed"):
            wrong.append("it was loaded again")
        print(f"the board followed to v{version()}, through {len(complaints)} connections that ended; {len(wrong)} findings")
        return wrong

    def end(self):
        self.browser.stdin.close()
        try:
            self.browser.wait(20)
        except subprocess.TimeoutExpired:
            self.browser.kill()
            self.browser.wait()


class Upgradable(Platform):
    """A platform that can be replaced by another file of the same binary: every role is a new process."""

    def __init__(self, binary, scratch):
        super().__init__(binary, scratch)
        self.files = [scratch / name / "shipway" for name in ("one", "two")]
        for file in self.files:
            file.parent.mkdir(mode=0o755)
            shutil.copy(binary, file)
        self.binary = str(self.files[0])

    def upgrade(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.files.reverse()
        self.binary = str(self.files[0])
        self.up()


class Load:
    """The client processes."""

    def __init__(self, platform, scratch):
        self.files, self.processes = [], []
        for i, (kind, rate, connection) in enumerate(LOAD):
            self.files.append(scratch / f"client-{i}.jsonl")
            self.processes.append(subprocess.Popen(
                [sys.executable, HERE / "load/client.py", kind, str(rate), connection, f"127.0.0.1:{platform.router}",
                 f"{APP}.localhost", self.files[-1]], stdin=subprocess.PIPE))

    def end(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait(90)
        return [json.loads(line) for file in self.files for line in file.read_text().splitlines()]


def p99(records):
    times = sorted(r["end"] - r["start"] for r in records if not r["why"])
    return times[int(len(times) * 0.99)] * 1000 if times else float("nan")


def report(records, team, since, until, switches):
    """Prints what was seen. Returns how many failures there are."""
    def excused(record):
        return any(record["start"] <= at and record["id"] in there for at, there in team.killed)
    failures = [r for r in records if r["why"] and not excused(r)]
    forgiven = sum(1 for r in records if r["why"]) - len(failures)
    for kind in dict.fromkeys(kind for kind, _, _ in LOAD):
        for keep in (True, False):
            mine = [r for r in records if r["kind"] == kind and r["keep"] == keep]
            if mine:
                bad = sum(1 for r in failures if r["kind"] == kind and r["keep"] == keep)
                print(f"{kind:7} {'keep ' if keep else 'close'}  {len(mine):6} sent  {bad} failed")
    short = [r for r in records if r["kind"] == "short"]
    quiet, changing = p99([r for r in short if r["end"] < since]), p99([r for r in short if since <= r["start"] < until])
    print(f"p99 of short requests: {quiet:.1f} ms quiet, {changing:.1f} ms under changes ({changing / quiet:.2f} x)")
    overlapping = sum(1 for r in records if any(r["start"] < at < r["end"] for at in switches))
    print(f"{len(switches)} switches, overlapped by {overlapping} requests and streams; "
          f"{len({r['boot'] for r in records if r['boot']})} processes of the app answered")
    print(f"{len(records)} in all: {len(failures)} failed; {forgiven} were in the {len(team.killed)} killed dynos")
    for r in failures[:30]:
        print(f"  {r['kind']} {'keep' if r['keep'] else 'close'} {r['id']} from {r['start']:.2f} to {r['end']:.2f}: {r['why']}")
    if not overlapping:
        print("no request overlapped a switch: this proved nothing")
    return len(failures) + (not overlapping)


def main():
    binary = os.environ.get("SHIPWAY_BIN")
    if not binary or os.geteuid() != 0:
        print("SHIPWAY_BIN and root are needed; skipped")
        return 77
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-load-"))
    scratch.chmod(0o755)
    platform = Upgradable(str(pathlib.Path(binary).resolve()), scratch)
    failed, board = 1, None
    try:
        platform.up()
        team = Team(platform, scratch)
        team.begin()
        changes = [team.push, team.config, team.scaling, team.restart, team.rollback, team.promote, team.kill_server,
                   team.new_server, team.upgrade, team.kill_dyno]
        changes = [c for c in changes if not sys.argv[1:] or c.__name__ in sys.argv[1:]]
        board = Board(platform, team) if Board.wanted() else None
        load = Load(platform, scratch)
        try:
            time.sleep(QUIET_SECONDS)
            since = time.time()
            for number in range(ROUNDS):
                for change in changes:
                    begun = time.time()
                    change()
                    team.settled()
                    print(f"{begun:.2f} round {number + 1}: {change.__name__} ({time.time() - begun:.1f} s)", flush=True)
                    time.sleep(PAUSE_SECONDS)
                left = (time.time() - since) / (number + 1) * (ROUNDS - number - 1)
                print(f"round {number + 1} of {ROUNDS} is done; the rest takes about {left / 60:.0f} minutes", flush=True)
        finally:
            until = time.time()
            records = load.end()
        with sqlite3.connect(f"file:{platform.home}/shipway.db?mode=ro", uri=True) as db:
            rows = db.execute("SELECT at FROM journal WHERE step = 'switch' AND event = 'succeeded'").fetchall()
        switches = [at / 1e6 for at, in rows if at / 1e6 > since]
        failed = report(records, team, since, until, switches)
        wrong = board.followed() if board else []
        for finding in wrong:
            print(f"the board: {finding}")
        failed += len(wrong)
        if not board:
            print("the board was not open: BOARD is 0, or npm ci was not run in tests/pages")
    finally:
        if board:
            board.end()
        platform.down()
        if failed:
            print(platform.tail(), f"everything is in {scratch}", sep="\n")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
