#!/usr/bin/env python3
"""Kills the server at every moment of every step of a release, with real dynos and visitors.

The moments are those of the journal: a step is written down as started, has worked, is written down as succeeded; its
undo has worked, is written down. A development build kills itself with SIGKILL where `run/die-at` says. Then `up` is
killed too and started again, and the app must be all old or all new: the release, its dynos, what visitors get, what
git fetch shows. The next round's push is "the next command works". A visitor asks all the time and never tries again:
nothing may fail but nothing either may wait for the server.

Promotions are killed likewise, of one app and of a product of two; and the server is killed while pg_dump and while
pg_restore run, and while webhooks are on their way.

Usage: tests/crashes.py [deploy|failing|config|rollback|promotion|product|transfers|webhooks|destroy...]
Needs: root, git, PostgreSQL and a development build: SHIPWAY_DEBUG_BIN or target/debug/shipway; else exits with 77.
"""

import concurrent.futures
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error

from load import Team, wait_until
from transcripts import Platform

HERE = pathlib.Path(__file__).resolve().parent
APP = "acorn"
SERVE = """import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (open("version").read().strip() + " " + os.environ.get("COLOUR", "-")).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"""
PROCFILE = "web: exec python3 serve.py\nworker: exec sleep 100000\nrelease: echo migrated\n"


class Visitor(threading.Thread):
    """Asks for the page all the time, each time with a connection of its own, and notes every failure."""

    def __init__(self, platform):
        super().__init__(daemon=True)
        self.platform, self.asked, self.failed, self.going = platform, 0, [], True

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.platform.router, timeout=20)
        try:
            connection.request("GET", "/", headers={"Host": f"{APP}.localhost"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def run(self):
        while self.going:
            self.asked += 1
            try:
                status, body = self.ask()
                if status != 200:
                    self.failed.append(f"{time.time():.2f} {status} {body[:200]}")
            except (OSError, http.client.HTTPException) as e:
                self.failed.append(f"{time.time():.2f} {e!r}")
            time.sleep(0.03)


class Receiver(http.server.ThreadingHTTPServer):
    """Takes webhooks. While it is silent, it reads what it is told and does not answer."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.speaks, self.asked, self.answered = threading.Event(), [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """The other side was killed: that is what is played here."""


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(told)
        if not self.server.speaks.is_set():
            self.server.speaks.wait()
            return
        self.server.answered.append(told)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass


class Session(Team):
    """The team, on an app with two web dynos and a worker."""

    def __init__(self, platform, scratch):
        super().__init__(platform, scratch)
        self.version, self.colour = 0, "-"

    def begin(self):
        self.checkout.mkdir()
        (self.checkout / "serve.py").write_text(SERVE)
        self.git("init", "-q", "-b", "main")
        self.create()

    def create(self):
        remote = self.api("POST", "/apps", {"name": APP})["git_url"]
        self.git_says("remote", "remove", "heroku")
        self.git("remote", "add", "heroku", remote)
        self.colour = "-"
        self.push()
        self.api("PATCH", f"/apps/{APP}/formation", {"updates": [{"type": "web", "quantity": 2}, {"type": "worker", "quantity": 1}]})
        self.settled()

    def git_says(self, *words):
        done = subprocess.run(["git", "-C", self.checkout, *words], env=self.env, capture_output=True, text=True)
        return done.returncode == 0, done.stdout + done.stderr

    def commit(self, procfile=PROCFILE):
        (self.checkout / "Procfile").write_text(procfile)
        (self.checkout / "version").write_text(f"{self.version + 1}\n")
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", f"Version {self.version + 1}")

    def push(self):
        self.commit()
        worked, said = self.git_says("push", "--force", "heroku", "main")
        assert worked, said
        self.version += 1

    def quiet(self):
        def so():
            with contextlib.closing(sqlite3.connect(f"file:{self.platform.home}/shipway.db?mode=ro", uri=True)) as db:
                [[going]] = db.execute("SELECT count(*) FROM operations WHERE status NOT IN ('succeeded', 'failed')")
                [[wanted]] = db.execute("SELECT coalesce(sum(quantity), 0) FROM formation")
                dynos = db.execute("SELECT state, operation_id FROM dynos").fetchall()
            return not going and dynos == [("up", None)] * wanted
        wait_until("nothing is under way", so)

    def check(self, visitor, what):
        """All old or all new, and what that is, by every way to look at it."""
        self.quiet()
        expected = f"{self.version} {self.colour}"
        dynos = self.api("GET", f"/apps/{APP}/dynos")
        names = sorted(d["name"] for d in dynos)
        assert names == ["web.1", "web.2", "worker.1"], f"{what}: {names}"
        current = max(r["version"] for r in self.api("GET", f"/apps/{APP}/releases") if r["status"] == "succeeded")
        assert {d["release"]["version"] for d in dynos} == {current}, f"{what}: {dynos}"
        records = sorted(p.name for p in (self.platform.home / "run/dynos").iterdir())
        everybodys = [d["id"] for app in self.api("GET", "/apps") for d in self.api("GET", f"/apps/{app['name']}/dynos")]
        assert records == sorted(everybodys), f"{what}: the runtime has {records}"
        served = {visitor.ask() for _ in range(10)}
        assert served == {(200, expected)}, f"{what}: {served}, not {expected}"
        self.git("fetch", "-q", "heroku")
        worked, version = self.git_says("show", "heroku/main:version")
        assert worked and version.strip() == str(self.version), f"{what}: main is {version}"

    def killed_at(self, point, act, what):
        """Does something while the server dies at a moment; then a new `up` stands."""
        trap = self.platform.home / "run/die-at"
        trap.write_text(point)
        os.chown(trap, *os.stat(trap.parent)[4:6])
        acting = threading.Thread(target=act)
        with self.another_platform():
            acting.start()
            wait_until(f"{what}: the server dies", lambda: not trap.exists())
        acting.join(60)
        assert not acting.is_alive(), f"{what}: the client hangs"

    @contextlib.contextmanager
    def another_platform(self):
        """Ends `up` after something that kills the server, and starts it again."""
        # Else it would start another server in the moment before it is killed too.
        self.platform.process.send_signal(signal.SIGSTOP)
        yield
        self.platform.process.kill()
        self.platform.process.wait()
        self.platform.up()

    def staged(self, live, pipeline):
        """An app in front of another, in a pipeline: it runs nothing, what counts is its release."""
        staging = f"{live}-staging"
        self.git("remote", "add", staging, self.api("POST", "/apps", {"name": staging})["git_url"])
        self.commit()
        self.git("push", "-q", "--force", staging, "main")
        self.api("PATCH", f"/apps/{staging}/formation", {"updates": [{"type": t, "quantity": 0} for t in ("web", "worker")]})
        made = self.api("POST", "/pipelines", {"name": pipeline})["id"]
        for app, stage in [(staging, "staging"), (live, "production")]:
            self.api("POST", "/pipeline-couplings", {"app": app, "pipeline": made, "stage": stage})
        return made

    def stage(self, *lives):
        """The next version, in front of each of them."""
        self.commit()
        for live in lives:
            self.git("push", "-q", "--force", f"{live}-staging", "main")
        self.quiet()

    def end(self, *apps):
        for app in apps:
            self.api("DELETE", f"/apps/{app}")
            self.git_says("remote", "remove", app)

    def tolerant(self, *request):
        """The API, by a client whose connection breaks."""
        try:
            self.api(*request)
        except (OSError, http.client.HTTPException, urllib.error.URLError):
            pass


def moments(session):
    """What the newest operation's journal went through, as moments to die at."""
    with contextlib.closing(sqlite3.connect(f"file:{session.platform.home}/shipway.db?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT step, event FROM journal WHERE operation_id = (SELECT operation_id FROM journal "
                          "ORDER BY sequence DESC LIMIT 1) ORDER BY sequence").fetchall()
    names = {"started": ["Started"], "succeeded": ["Worked", "Succeeded"], "undone": ["TakenBack", "Undone"]}
    return [f"{step} {moment}" for step, event in rows for moment in names[event]]


def deploy(session, visitor):
    session.push()
    session.check(visitor, "a deploy")
    for point in moments(session):
        session.commit()
        session.killed_at(point, lambda: session.git_says("push", "--force", "heroku", "main"), point)
        session.version += 1
        yield point


def failing(session, visitor):
    broken = "web: exit 3\nworker: exec sleep 100000\nrelease: echo migrated\n"
    def push():
        session.commit(broken)
        return session.git_says("push", "--force", "heroku", "main")
    worked, said = push()
    assert not worked and "H10" in said, said
    session.check(visitor, "a deploy that fails")
    for point in moments(session):
        session.killed_at(point, push, point)
        yield point


def config(session, visitor):
    def change():
        session.tolerant("PATCH", f"/apps/{APP}/config-vars", {"COLOUR": session.next})
    session.next = "red"
    change()
    session.quiet()
    session.colour = "red"
    session.check(visitor, "a config change")
    for i, point in enumerate(moments(session)):
        session.next = f"colour-{i}"
        session.killed_at(point, change, point)
        session.colour = session.next
        yield point


def rollback(session, visitor):
    def back():
        worked = [r for r in session.api("GET", f"/apps/{APP}/releases") if r["status"] == "succeeded" and r["slug"]]
        session.target = max(worked, key=lambda r: r["version"])["version"] - 1
        session.tolerant("POST", f"/apps/{APP}/releases", {"release": str(session.target)})
    session.push()
    session.quiet()
    back()
    session.quiet()
    session.version -= 1
    session.check(visitor, "a rollback")
    for point in moments(session):
        session.push()
        session.quiet()
        session.killed_at(point, back, point)
        session.version -= 1
        yield point


def promotion(session, visitor):
    pipeline = session.staged(APP, "shop")
    order = {"pipeline": pipeline, "source": {"app": f"{APP}-staging"}, "targets": [{"app": APP}]}
    def promote():
        session.tolerant("POST", "/pipeline-promotions", order)
    yield from carried(session, visitor, promote, "a promotion", [APP])
    session.end(f"{APP}-staging")


def product(session, visitor):
    other = "birch"
    ident = session.api("POST", "/apps", {"name": other})["id"]
    for live in (APP, other):
        session.staged(live, f"{live}-line")
    subprocess.run(["shipway", "products", "create", "store", "--pipelines", f"{APP}-line,{other}-line"], env=session.env, check=True, capture_output=True)
    def promote():
        subprocess.run(["shipway", "promote", "staging", "production", "--product", "store"], env=session.env, capture_output=True)
    # Of two apps' steps, which are alike, one's, and at the rows of the journal alone: every moment of all of four is
    # tried in one process.
    chosen = lambda point: "Worked" not in point and (":" not in point or ident in point)
    yield from carried(session, visitor, promote, "a product's promotion", [APP, other], chosen)
    session.end(f"{APP}-staging", f"{other}-staging", other)


def carried(session, visitor, promote, what, lives, chosen=lambda point: True):
    """Promotes to all of these, once as it should be and then killed at each chosen moment of that."""
    def together(what):
        session.version += 1
        session.check(visitor, what)
        versions = {session.digest(app) for app in lives}
        assert len(versions) == 1, f"{what}: not all of {lives} were promoted"
    session.stage(*lives)
    promote()
    together(what)
    for point in filter(chosen, moments(session)):
        session.stage(*lives)
        session.killed_at(point, promote, point)
        together(point)
        yield point


def transfers(session, visitor):
    """The server is killed while the tools run: a backup and a restore end as if it had not been."""
    addon = session.api("POST", f"/apps/{APP}/addons", {"plan": "heroku-postgresql"})["id"]
    session.quiet()
    url = session.api("GET", f"/apps/{APP}/config-vars")["DATABASE_URL"]
    def sql(text):
        done = subprocess.run(["psql", url, "-v", "ON_ERROR_STOP=1", "-Atc", text], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    def ended(transfer):
        def over():
            now = session.api("GET", f"/client/v11/apps/{APP}/transfers/{transfer}")
            return now if now["finished_at"] else None
        over = wait_until("the transfer is over", over)
        assert over["succeeded"], session.api("GET", f"/client/v11/apps/{APP}/transfers/{transfer}?verbose=true")
        left = sorted(p.suffix for p in (session.platform.home / "backups").iterdir())
        work = list((session.platform.home / "work").glob(f"{transfer}*"))
        assert set(left) == {".sealed"} and not work, f"left behind: {left} {work}"
        databases = sql("SELECT count(*) FROM pg_database WHERE datdba = current_user::regrole")
        assert databases == "1", f"{databases} databases"
        return over
    def killed_while(path, body, query):
        transfer = session.api("POST", path, body)["uuid"]
        wait_until(query, lambda: sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {query}") != "0")
        with session.another_platform():
            os.kill(session.server(), signal.SIGKILL)
        return transfer
    # The index is made anew by a restore, and takes its time.
    sql("CREATE TABLE rows AS SELECT generate_series(1, 8) AS id")
    sql("CREATE FUNCTION slow(i integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT pg_sleep(1); SELECT i'")
    sql("CREATE INDEX ON rows (slow(id))")
    holder = subprocess.Popen(["psql", url, "-q"], stdin=subprocess.PIPE)
    holder.stdin.write(b"BEGIN; LOCK TABLE rows IN ACCESS EXCLUSIVE MODE;\n")
    holder.stdin.flush()
    wait_until("the table is locked", lambda: sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") != "0")
    backup = killed_while(f"/client/v11/databases/{addon}/backups", None, "wait_event_type = 'Lock'")
    holder.stdin.close()
    holder.wait()
    backup = ended(backup)
    yield "pg_dump waits for a table"
    sql("INSERT INTO rows VALUES (9)")
    restore = killed_while(f"/client/v11/databases/{addon}/restores", {"backup_url": backup["to_url"]}, "query ILIKE 'CREATE INDEX%'")
    ended(restore)
    assert sql("SELECT count(*) FROM rows") == "8", "the rows of the backup"
    yield "pg_restore makes an index"
    session.api("DELETE", f"/apps/{APP}/addons/{addon}")


def webhooks(session, visitor):
    """The server is killed while deliveries are on their way: each arrives after the start, under the id that it had."""
    receiver = Receiver()
    delivery = lambda told: told["webhook_metadata"]["delivery"]["id"]
    order = {"include": ["api:release"], "level": "sync", "url": f"http://127.0.0.1:{receiver.server_port}/"}
    hook = session.api("POST", f"/apps/{APP}/webhooks", order)["id"]
    def released(colour):
        session.colour = colour
        session.api("PATCH", f"/apps/{APP}/config-vars", {"COLOUR": colour})
        return max(r["version"] for r in session.api("GET", f"/apps/{APP}/releases"))
    def deliveries():
        return session.api("GET", f"/apps/{APP}/webhook-deliveries")
    def all_told(versions):
        def over():
            told = {told["data"]["version"] for told in receiver.answered}
            return versions <= told and all(d["status"] == "succeeded" for d in deliveries())
        wait_until(f"all of {versions} was told", over)
        answered = {delivery(told) for told in receiver.answered}
        missing = {d["id"] for d in deliveries()} - answered
        assert not missing, f"said to be delivered, and never answered: {missing}"
    for colour in ["red", "green", "blue"]:
        before = {d["id"] for d in deliveries()}
        receiver.speaks.clear()
        receiver.asked.clear()
        versions = {released(f"{colour}-{n}") for n in range(3)}
        wait_until("deliveries are on their way, others wait", lambda: receiver.asked and len(deliveries()) >= len(before) + 3)
        on_their_way = {delivery(told) for told in receiver.asked}
        with session.another_platform():
            os.kill(session.server(), signal.SIGKILL)
            assert not on_their_way & {delivery(told) for told in receiver.answered}, "nobody has answered yet"
            receiver.speaks.set()
        all_told(versions)
        again = {delivery(told) for told in receiver.answered}
        assert on_their_way <= again, f"not told again under their ids: {on_their_way - again}"
        yield f"{len(on_their_way)} deliveries are on their way"
    for colour in ["cyan", "pink"]:
        versions = {released(colour)}
        with session.another_platform():
            os.kill(session.server(), signal.SIGKILL)
        all_told(versions)
        yield "a release was answered a moment ago"
    session.api("DELETE", f"/apps/{APP}/webhooks/{hook}")
    receiver.shutdown()


def destroy(session, visitor):
    def end():
        session.tolerant("DELETE", f"/apps/{APP}")
    visitor.going = False
    visitor.join()
    end()
    points = moments(session)
    session.create()
    for point in points:
        session.killed_at(point, end, point)
        wait_until(f"{point}: the app is gone", lambda: not session.api("GET", "/apps"))
        session.quiet()
        assert not list((session.platform.home / "run/dynos").iterdir()), f"{point}: dynos are left"
        assert not list((session.platform.home / "repos").iterdir()), f"{point}: a repository is left"
        session.create()
        yield point


def run(binary, operation):
    """Kills one operation at all its moments, on a platform of its own; what it prints, and whether all was well."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-crashes-"))
    scratch.chmod(0o755)
    platform = Platform(binary, scratch, ["--private-host", "127.0.0.1"])
    good, said = False, []
    try:
        platform.up()
        session = Session(platform, scratch)
        session.begin()
        visitor = Visitor(platform)
        visitor.start()
        begun, points = time.monotonic(), 0
        for point in operation(session, visitor):
            session.check(visitor, f"{operation.__name__}, killed at {point}")
            points += 1
        session.push()
        session.check(visitor, "the last push")
        visitor.going = False
        good = not visitor.failed
        said = [f"{operation.__name__}: killed at {points} moments ({time.monotonic() - begun:.0f} s), "
                f"{visitor.asked} requests, {len(visitor.failed)} failed", *visitor.failed[:20]]
    except Exception:
        said = [f"{operation.__name__}: {traceback.format_exc()}"]
    finally:
        platform.down()
        if good:
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            said += [platform.tail(), f"everything is in {scratch}"]
    return "\n".join(said), good


def main():
    binary = os.environ.get("SHIPWAY_DEBUG_BIN", str(HERE.parent / "target/debug/shipway"))
    if os.geteuid() != 0 or not os.path.exists(binary):
        print("root and a development build (cargo build, or SHIPWAY_DEBUG_BIN) are needed; skipped")
        return 77
    binary = str(pathlib.Path(binary).resolve())
    operations = [deploy, failing, config, rollback, promotion, product, transfers, webhooks, destroy]
    operations = [o for o in operations if not sys.argv[1:] or o.__name__ in sys.argv[1:]]
    # Some of it is waiting: for processes to start, to become healthy, to drain.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() + 2) as pool:
        results = list(pool.map(lambda operation: run(binary, operation), operations))
    for said, _ in results:
        print(said, flush=True)
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())
