#!/usr/bin/env python3
"""Changes an app under load and counts what its visitors saw of it.

Separate client processes (tests/load/client.py), which never try again, each with and without keep-alive: 150 short
requests a second, 40 answers of 0.2 to 5 s, 10 uploads of 1 MiB checked by hash, 20 WebSockets, 20 event streams; on an
app that boots for 3 s and stops for 2 s (tests/apps/load). Meanwhile, in rounds: push, config, scaling, restart, rollback,
kill -9 of the server in the middle of a release, a new server, an upgrade of everything with the router handed over, and
kill -9 of one of two web dynos.

A failure is a connection that breaks, a wrong body, an answer that is not 200, a stream that ends without the app's
goodbye. None is allowed, except what was under way in a killed dyno, as the router's log has it. tests/verdicts.py shows
the clients and the verdict each of them.

All the while the pipeline's board is open in Chromium (tests/pages/drive.mjs), from before the quiet time to the end. It
stands for somebody's laptop, so under load it has no processor but what the rest leaves (a control group with cpu.idle). At
the end it must show the last release and follow one more change, on the page that was opened first, and have complained of
nothing but connections that ended with a server.

Usage: ROUNDS=20 tests/load.py [CHANGE...]     (2 rounds of all changes by default)
BOARD=1 wants the board, BOARD=0 leaves it out; otherwise it is there when its modules are (npm ci in tests/pages).
A round takes about 45 s, most of it the 3 s of each boot: 20 rounds are a quarter of an hour.
Needs: SHIPWAY_BIN (the binary), root for dynos that are apart; exits with 77 without the binary.
"""

import bisect
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
            before, begun = {d["id"] for d in self.dynos()}, time.time()
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
        self.killed.append((begun, at, there))


def processes_of(dyno):
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"DYNO={dyno}".encode() in environment and f"HEROKU_APP_NAME={APP}".encode() in environment:
            yield int(entry.name)


def idle_group():
    """A control group whose processes can be left what nobody else wants; none where the machine has no such thing.

    Niceness alone weighs within one session only (sched(7), "The autogroup feature"), and a browser makes its own.
    """
    for root in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"):
        group = pathlib.Path(root, f"load-board-{os.getpid()}")
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / "cpu.idle").write_text("0")
                return group
            except OSError:
                group.rmdir()
    return None


class Board:
    """The pipeline's board in headless Chromium, as a team has it open."""

    # What Chromium says of connections that end with a server. A page that is fetched meanwhile may be refused as well.
    EXPECTED = ("net::ERR_", "status of 502", "status of 503")

    def __init__(self, platform, team):
        self.team, self.path = team, "/dashboard/pipelines/acorn"
        script = pathlib.Path(os.environ.get("SHIPWAY_TEST_PAGES", HERE / "pages")) / "drive.mjs"
        self.group = idle_group()
        self.browser = subprocess.Popen(
            ["node", script, f"http://127.0.0.1:{platform.listen}"], preexec_fn=self.join,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tell("sign_in", team.env["HEROKU_API_KEY"])
        self.tell("open", self.path)

    def join(self):
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        if self.group:
            (self.group / "cgroup.procs").write_text("0")

    def give_way(self, gives_way):
        """Whether it has only what the rest leaves. Without a control group it always does, within its session."""
        if self.group:
            (self.group / "cpu.idle").write_text(str(int(gives_way)))

    def weight(self):
        """What the report says of it."""
        return f"a board in Chromium that has what the rest leaves ({'cpu.idle' if self.group else 'SCHED_IDLE'}, nice 19)"

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
        if self.group:
            wait_until("its last process is gone", lambda: not (self.group / "cgroup.procs").read_text(), 20)
            self.group.rmdir()


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
        """Returns all that was sent, and the clients that did not last: what they would have seen is not there."""
        lost = [line for line, process in zip(LOAD, self.processes) if process.poll() is not None]
        for process in self.processes:
            process.stdin.close()
        lost += [line for line, process in zip(LOAD, self.processes) if process.wait(90) and line not in lost]
        return self.records(), lost

    def records(self):
        return [json.loads(line) for file in self.files for line in file.read_text().splitlines()]


def p99(records):
    times = sorted(r["end"] - r["start"] for r in records if not r["why"])
    return times[int(len(times) * 0.99)] * 1000 if times else float("nan")


def overlap(records, switches):
    """Those of the records that were under way at one of the switches, which are in order."""
    def next_switch(time):
        at = bisect.bisect_right(switches, time)
        return switches[at] if at < len(switches) else float("inf")
    return [r for r in records if next_switch(r["start"]) < r["end"]]


def report(records, lost, killed, since, until, switches, beside):
    """Prints what was seen. Returns how many failures there are.

    killed: when a kill began and when it was over, and the ids of the requests that the router had sent there.
    """
    def excused(record):
        return any(record["start"] <= at and begun <= record["end"] and record["id"] in there for begun, at, there in killed)
    failures = [r for r in records if r["why"] and not excused(r)]
    forgiven = sum(1 for r in records if r["why"]) - len(failures)
    wrong = [f"the client {' '.join(map(str, line))} did not last" for line in lost]
    for kind, keep in dict.fromkeys((kind, connection == "keep") for kind, _, connection in LOAD):
        mine = [r for r in records if r["kind"] == kind and r["keep"] == keep]
        bad = sum(1 for r in failures if r["kind"] == kind and r["keep"] == keep)
        print(f"{kind:7} {'keep ' if keep else 'close'}  {len(mine):6} sent  {bad} failed")
        if not any(not r["why"] for r in mine):
            wrong.append(f"nothing of {kind} went well")
    short = [r for r in records if r["kind"] == "short"]
    quiet, changing = p99([r for r in short if r["end"] < since]), p99([r for r in short if since <= r["start"] < until])
    print(f"p99 of short requests: {quiet:.1f} ms quiet, {changing:.1f} ms under changes ({changing / quiet:.2f} x), beside {beside}")
    over = overlap(records, sorted(switches))
    requests = sum(1 for r in over if r["kind"] not in ("socket", "events"))
    print(f"{len(switches)} switches, overlapped by {requests} requests and {len(over) - requests} streams; "
          f"{len({r['boot'] for r in records if r['boot']})} processes of the app answered")
    if not requests:
        wrong.append("no request overlapped a switch: this proved nothing")
    print(f"{len(records)} in all: {len(failures)} failed; {forgiven} were in the {len(killed)} killed dynos")
    for r in failures[:30]:
        print(f"  {r['kind']} {'keep' if r['keep'] else 'close'} {r['id']} from {r['start']:.2f} to {r['end']:.2f}: {r['why']}")
    for finding in wrong:
        print(finding)
    return len(failures) + len(wrong)


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
        if Board.wanted():
            board = Board(platform, team)
            board.give_way(True)
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
            records, lost = load.end()
            if board:
                board.give_way(False)
        with sqlite3.connect(f"file:{platform.home}/shipway.db?mode=ro", uri=True) as db:
            rows = db.execute("SELECT at FROM journal WHERE step = 'switch' AND event = 'succeeded'").fetchall()
        switches = [at / 1e6 for at, in rows if at / 1e6 > since]
        failed = report(records, lost, team.killed, since, until, switches, board.weight() if board else "no board")
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
