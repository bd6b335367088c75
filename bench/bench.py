"""Everything that is measured, as one Markdown table: see bin/bench --help."""

import argparse
import datetime
import http.client
import os
import pathlib
import platform as machine
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import proxies
from places import GIT, GitServer, Platform, free_port, wait_until

EXAMPLE = pathlib.Path(__file__).resolve().parent.parent / "examples/hello"
APPS = 20
LINES, BLOCK = 2_000_000, 200_000
# Short requests a second, and over how many connections: the mixed load's of tests/load.py.
VISITS, VISITORS = 150, 10


class Table:
    """Rows of figure, ours, theirs, ratio, first bar, goal, and whether it is there."""

    HEAD = ["figure", "Shipway", "beside it", "ratio", "first bar", "goal", ""]

    def __init__(self):
        self.rows = []

    def add(self, figure, ours, unit, theirs=None, what="", bar=None, goal=None, ratio=False, more=False):
        """Adds a row. `bar` and `goal` hold for the ratio or for our own figure; `more` when more is better."""
        measured = ours / theirs if theirs and ratio else ours
        reached = lambda limit: limit is not None and (measured >= limit if more else measured <= limit)
        show = lambda limit: "" if limit is None else f"{'≥' if more else '≤'} {limit:,g}" + ("" if ratio or not unit else f" {unit}")
        distance = f", {abs(measured - goal) / goal:.0%} to the goal" if goal else ""
        verdict = "" if goal is None else "goal" if reached(goal) else f"{'first bar' if reached(bar) else 'not yet'}{distance}"
        self.rows.append([
            figure, f"{number(ours)} {unit}".strip(), f"{number(theirs)} {unit} ({what})" if theirs else what,
            f"{ours / theirs:.2f}" if theirs else "", show(bar), show(goal), verdict])

    def print(self):
        rows = [self.HEAD, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.HEAD))]
        for i, row in enumerate(rows):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
            if i == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def number(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def milliseconds(seconds):
    return statistics.median(seconds) * 1000


def routers(table, binary, scratch, short):
    figures = proxies.measure(binary, scratch, *((2, 2) if short else (5, 3)))

    def add(load, what, field, unit, bar=None, goal=None, more=False, where=""):
        ours, theirs = (getattr(figures[load][who], field) for who in ("shipway", "nginx"))
        table.add(f"router, {load}{where}: {what}", ours, unit, theirs, "nginx", bar, goal, ratio=True, more=more)

    def add_cpu(load, bar=None, goal=None, what="cpu per 100,000"):
        add(load, what, "cpu", "s", bar, goal)

    add("1 KiB", "throughput", "rate", "req/s", 0.8, 1.0, more=True, where=", 64 connections")
    add_cpu("1 KiB", 1.25, 1.0)
    add("1 KiB", "p99", "p99", "ms")
    table.add("router, 1 KiB, 64 connections: resident", figures["1 KiB"]["shipway"].resident, "MiB",
              figures["1 KiB"]["nginx"].resident, "nginx", 32, 32)
    add("1 MiB", "throughput", "rate", "req/s", more=True, where=", 16 connections")
    add_cpu("1 MiB")
    add("1 MiB", "p99", "p99", "ms")
    add("POST of 64 KiB", "throughput", "rate", "req/s", more=True, where=", 16 connections")
    add_cpu("POST of 64 KiB")
    held = [figures["steady"][who].rate / proxies.STEADY for who in ("shipway", "nginx")]
    # A proxy, or a machine, that cannot carry the rate would be measured at another one.
    note_held = "" if min(held) > 0.98 else f" (held {held[0]:.0%} of them, nginx {held[1]:.0%})"
    add("steady", f"p99 at {proxies.STEADY:,} req/s{note_held}", "p99", "ms", 1.0, 1.0, where=", 1 KiB")
    add_cpu("steady")
    add("TLS, 1 KiB", "throughput", "rate", "req/s", more=True, where=", 64 connections")
    add_cpu("TLS, 1 KiB")
    add_cpu("TLS, 1 MiB", 0.8, 0.8)
    add_cpu("TLS handshakes", 0.8, 0.8)
    add("HTTP/2", "throughput", "rate", "req/s", 1.0, 1.0, more=True, where=" over TLS, 1 KiB")
    add_cpu("HTTP/2")


class Checkout:
    """A clone of the sample app in which one line changes with each push."""

    def __init__(self, place, env, remote):
        shutil.copytree(EXAMPLE, place)
        self.place, self.env, self.text = place, env, (EXAMPLE / "server.py").read_text()
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "heroku", remote)
        self.change("0")

    def git(self, *words):
        done = subprocess.run(["git", "-C", self.place, *words], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"git {' '.join(words)}: {done.stderr}")

    def change(self, mark):
        """Commits a page that says `mark`."""
        page = self.text.replace("Three things to try next", mark)
        if page == self.text:
            raise RuntimeError("examples/hello has another page than the bench knows")
        (self.place / "server.py").write_text(page)
        self.git("add", ".")
        self.git("commit", "-qm", mark)

    def push(self, *how):
        self.git("push", "-q", *how, "heroku", "main")


def page(port, host):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": host, "Connection": "close"})
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def until_page(port, host, mark):
    wait_until(f"a page that says {mark}", lambda: mark in page(port, host), pause=0.002)


def push_to_live(checkout, port, mark):
    """Seconds from `git push` until the first answer of what was pushed, and until the push returned."""
    checkout.change(mark)
    begun, live = time.monotonic(), []
    watch = threading.Thread(target=lambda: (until_page(port, "hello.localhost", mark), live.append(time.monotonic() - begun)))
    watch.start()
    checkout.push()
    returned = time.monotonic() - begun
    watch.join()
    return live[0], returned


def floor(checkout, scratch, mark):
    """Seconds that a push to a bare repository and the start of the pushed app take without us."""
    checkout.change(mark)
    begun = time.monotonic()
    checkout.push()
    pushed = time.monotonic() - begun
    port = free_port()
    begun = time.monotonic()
    app = subprocess.Popen([sys.executable, "server.py"], cwd=checkout.place, env={"PORT": str(port), "PATH": os.environ["PATH"]},
                           stdout=subprocess.DEVNULL)
    until_page(port, "hello.localhost", mark)
    started = time.monotonic() - begun
    app.kill()
    app.wait()
    return pushed, started


def bare(root, name):
    subprocess.run(["git", "init", "-q", "--bare", root / name], env=os.environ | GIT, check=True)
    subprocess.run(["git", "-C", root / name, "config", "http.receivepack", "true"], check=True)
    return root / name


def pushes(table, platform, scratch, short):
    platform.api("POST", "/apps", {"name": "hello"})
    ours = Checkout(scratch / "ours", platform.env, f"https://127.0.0.1:{platform.listen}/hello.git")
    ours.push()
    bares = scratch / "bare"
    server = GitServer(bares)
    try:
        bare(bares, "http.git")
        http_floor = Checkout(scratch / "http", os.environ | GIT, f"http://127.0.0.1:{server.port}/http.git")
        file_floor = Checkout(scratch / "file", os.environ | GIT, str(bare(bares, "file.git")))
        live, returned, by_http, by_file, starts = [], [], [], [], []
        for i in range(3 if short else 11):
            mark = f"change {time.time_ns()}"
            for into, seconds in zip((live, returned), push_to_live(ours, platform.router, mark)):
                into.append(seconds)
            for into, checkout in ((by_http, http_floor), (by_file, file_floor)):
                pushed, started = floor(checkout, scratch, mark)
                into.append(pushed)
                starts.append(started)
    finally:
        server.end()
    floor_ms = milliseconds(by_http) + milliseconds(starts)
    table.add("push to live: `git push` over https to the first new answer", milliseconds(live), "ms", floor_ms,
              f"floor: push over http {milliseconds(by_http):.0f} + start {milliseconds(starts):.0f}", 600, 250)
    table.add("the same, beside a push to a file", milliseconds(live), "ms", milliseconds(by_file) + milliseconds(starts),
              f"floor: push to a file {milliseconds(by_file):.0f} + start {milliseconds(starts):.0f}")
    table.add("`git push` returns", milliseconds(returned), "ms")
    healthy, routed = journal(platform)
    table.add("from healthy to served by the router", milliseconds([b - a for a, b in zip(healthy, routed)]), "ms", bar=50, goal=50)


def promotions(table, platform, scratch, short):
    """From the request for a promotion to the first answer of what it released, without the app's own start."""
    pipeline = platform.api("POST", "/pipelines", {"name": "bench"})["id"]
    for name, stage in (("promoted-staging", "staging"), ("promoted", "production")):
        platform.api("POST", "/apps", {"name": name})
        platform.api("POST", "/pipeline-couplings", {"app": name, "pipeline": pipeline, "stage": stage})
    checkout = Checkout(scratch / "promoted", platform.env, f"https://127.0.0.1:{platform.listen}/promoted-staging.git")
    order = {"pipeline": pipeline, "source": {"app": "promoted-staging"}, "targets": [{"app": "promoted"}]}
    times, boots = [], []
    for _ in range(3 if short else 11):
        mark = f"change {time.time_ns()}"
        checkout.change(mark)
        checkout.push()
        begun = time.monotonic()
        promotion = platform.api("POST", "/pipeline-promotions", order)["id"]
        until_page(platform.router, "promoted.localhost", mark)
        times.append(time.monotonic() - begun)
        targets = f"/pipeline-promotions/{promotion}/promotion-targets"
        wait_until("the end of the promotion", lambda: platform.api("GET", targets)[0]["status"] == "succeeded")
        boots.append(boot_of_newest(platform))
    without = [total - boot for total, boot in zip(times, boots)]
    table.add("promotion without release phase, to the first new answer", milliseconds(without), "ms",
              what=f"and the app's own start, {milliseconds(boots):.0f} ms", bar=1000, goal=300)
    for name in ("promoted-staging", "promoted"):
        platform.api("DELETE", f"/apps/{name}")


def boot_of_newest(platform):
    """Seconds between the start of the newest operation's dynos and their being healthy."""
    with sqlite3.connect(f"file:{platform.home}/shipway.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT step || '-' || event, at / 1e6 FROM journal WHERE operation_id = "
                          "(SELECT id FROM operations ORDER BY created_at DESC LIMIT 1)")
        at = dict(rows.fetchall())
    return at["healthy-succeeded"] - at["start-succeeded"]


def journal(platform):
    """When each deploy's new dynos were healthy, and when the router had the new table, in seconds."""
    with sqlite3.connect(f"file:{platform.home}/shipway.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT operation_id, step, at / 1e6 FROM journal WHERE event = 'succeeded' AND step IN ('healthy', 'route')")
        steps = {}
        for operation, step, at in rows:
            steps.setdefault(operation, {})[step] = at
    whole = [s for s in steps.values() if len(s) == 2]
    return [s["healthy"] for s in whole], [s["route"] for s in whole]


def stamp(line):
    return datetime.datetime.fromisoformat(line.split(" ", 1)[0]).timestamp()


def one_off(platform, command, count):
    """Runs one-off dynos of `hello`, one after the other. Returns the log of each."""
    logs = []
    for _ in range(count):
        name = platform.api("POST", "/apps/hello/dynos", {"command": command, "attach": False})["name"]
        # The order itself is a line of the API's.
        ordered = lambda lines: [line for line in lines if f"command `{command}` by user" in line][-1:]
        mine = lambda: (lines := platform.logs("hello", 200)) and ordered(lines) + [l for l in lines if f"[{name}]" in l]
        logs.append(wait_until(f"{name} ends", lambda: (l := mine()) and any("Process exited" in x for x in l) and l, 120))
    return logs


def dyno_start(table, platform, short):
    """From the order in the log until the process itself says what time it is."""
    said = lambda line: float(re.search(r"\]: (\d+\.\d+)", line)[1])
    inside, outside = [], []
    for log in one_off(platform, "date +%s.%N", 3 if short else 11):
        ordered = next(stamp(line) for line in log if " by user " in line)
        inside.append(next(said(line) for line in log if re.search(r"\]: \d+\.\d+$", line)) - ordered)
        begun = time.time()
        outside.append(float(subprocess.run(["date", "+%s.%N"], capture_output=True, check=True).stdout) - begun)
    table.add("dyno start: what it adds to the bare process", milliseconds(inside) - milliseconds(outside), "ms", what="from the order to the process's own clock", bar=20, goal=20)


def log_rate(table, platform):
    program = (f"import sys, time; block = b''.join(b'%099d\\n' % i for i in range({BLOCK})); begun = time.monotonic(); "
               f"[(sys.stdout.buffer.write(block), sys.stdout.buffer.flush()) for _ in range({LINES // BLOCK})]; "
               "seconds = time.monotonic() - begun; print('wrote it in', seconds, flush=True)")
    [log] = one_off(platform, f'python3 -c "{program}"', 1)
    seconds = float(next(re.search(r"wrote it in ([\d.]+)", line) for line in log if "wrote it in" in line)[1])
    table.add("log: 100-byte lines through one dyno", LINES / seconds / 1e6, "M lines/s", bar=1, goal=1, more=True)


class Visit:
    """A steady trickle of short requests to `hello`, from now on for some seconds. It has nothing to note for the first one."""

    def __init__(self, platform, scratch, seconds):
        self.log = scratch / "visits.tsv"
        self.log.unlink(missing_ok=True)
        # Visitors come from other machines: what they wait for is us, not a processor of their own.
        words = ["nice", "-n", "-20", "h2load", "--h1", "-t1", f"-c{VISITORS}", f"--rps={VISITS / VISITORS}", "-D", str(seconds),
                 "--warm-up-time=1", f"--log-file={self.log}", f"--connect-to=127.0.0.1:{platform.router}",
                 f"http://hello.localhost:{platform.router}/"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def ended(self):
        """When each request began, in seconds, how long it took, in ms; and how many failed."""
        said, _ = self.process.communicate()
        done, good = (int(re.search(rf"(\d+) {word}", said)[1]) for word in ("done", "succeeded"))
        if not good:
            raise RuntimeError(said)
        fields = [line.split("\t") for line in self.log.read_text().splitlines()]
        return [(int(begun) / 1e6, int(took) / 1000) for begun, _, took in fields], done - good


def visit(platform, scratch, seconds):
    """How long each of a steady trickle of requests took, in ms. None may fail."""
    requests, failed = Visit(platform, scratch, seconds).ended()
    if failed:
        raise RuntimeError(f"{failed} of {len(requests)} requests failed")
    return [took for _, took in requests]


def switches(table, platform, scratch, short):
    """What visitors notice of a push's switch, from when its dyno is healthy until the old one has been drained for a while."""
    checkout = Checkout(scratch / "switched", platform.env, f"https://127.0.0.1:{platform.listen}/hello.git")
    checkout.push("--force")
    quiet, through, failed, sent = [], [], 0, 0
    for _ in range(3 if short else 11):
        undisturbed, not_answered = Visit(platform, scratch, 4).ended()
        visits = Visit(platform, scratch, 4)
        time.sleep(2)
        checkout.change(f"change {time.time_ns()}")
        checkout.push()
        healthy, routed = max(zip(*journal(platform)))
        requests, lost = visits.ended()
        failed += lost + not_answered
        sent += len(requests) + len(undisturbed)
        under_way = lambda of, since, until: [(at, took) for at, took in of if at < until and at + took / 1000 > since]
        through += under_way(requests, healthy, routed + 1)
        since = undisturbed[0][0] + 1
        quiet += under_way(undisturbed, since, since + routed + 1 - healthy)
        if requests[-1][0] < routed + 1:
            raise RuntimeError("the push took longer than its visitors stayed")
    longest = lambda requests: max(took for _, took in requests)
    table.add("short requests through a push's switch: the longest", longest(through), "ms", longest(quiet),
              "when nothing changes", 50, 50)
    table.add("the same: failed", failed, "", what=f"of {sent:,} requests", bar=0, goal=0)


def neighbour(table, platform, scratch, short):
    """What visitors of one app notice of another app's build that uses all it may."""
    pack = platform.buildpacks / "greedy/bin"
    pack.mkdir(parents=True)
    shutil.copy(pathlib.Path(__file__).with_name("greedy.py"), pack)
    for name, script in (("detect", "echo Greedy"), ("compile", 'exec python3 "$(dirname "$0")/greedy.py"')):
        (pack / name).write_text(f"#!/bin/sh\n{script}\n")
        (pack / name).chmod(0o755)
    platform.api("POST", "/apps", {"name": "greedy"})
    platform.api("PUT", "/apps/greedy/buildpack-installations", {"updates": [{"buildpack": str(pack.parent)}]})
    checkout = Checkout(scratch / "greedy", platform.env, f"https://127.0.0.1:{platform.listen}/greedy.git")
    quiet, beside = [], []
    for _ in range(2 if short else 3):
        quiet += visit(platform, scratch, 5 if short else 10)
        checkout.change(f"change {time.time_ns()}")
        push = subprocess.Popen(["git", "-C", checkout.place, "push", "heroku", "main"], env=platform.env,
                                stderr=subprocess.PIPE, text=True)
        shown = []
        while "at its limits" not in (line := push.stderr.readline()):
            shown.append(line)
            if not line:
                raise RuntimeError(f"the build ended: {''.join(shown)}")
        beside += visit(platform, scratch, 5 if short else 10)
        [building] = [o for o in platform.api("GET", "/shipway/v1/operations?app=greedy") if o["state"] not in ("succeeded", "failed")]
        platform.api("POST", f"/shipway/v1/operations/{building['id']}/actions/cancel")
        push.communicate()
    platform.api("DELETE", "/apps/greedy")
    p99 = lambda times: sorted(times)[int(len(times) * 0.99)]
    table.add(f"short requests beside another app's build at its limits: p99 at {VISITS} req/s", p99(beside), "ms", p99(quiet),
              "quiet", 2, 2, ratio=True)


def memory(pid, field):
    found = re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024


def idle(table, platform, scratch):
    source = Checkout(scratch / "many", platform.env, "https://nowhere.invalid/")
    for i in range(1, APPS):
        platform.api("POST", "/apps", {"name": f"hello-{i}"})
        source.git("push", "-q", f"https://127.0.0.1:{platform.listen}/hello-{i}.git", "main")
    pids = platform.role("server") + platform.role("router")
    time.sleep(3)
    before = proxies.cpu_seconds(pids)
    time.sleep(5)
    used = (proxies.cpu_seconds(pids) - before) / 5 * 100
    table.add(f"idle server + router, {APPS} apps with a dyno each: resident", proxies.resident_mib(pids), "MiB", bar=60, goal=60)
    table.add("the same: cpu", used, "% of a core", bar=1, goal=1)
    shims = [memory(p, "RssAnon") for p in platform.shims()]
    if shims:
        table.add(f"idle shim (median of {len(shims)}): anonymous memory", statistics.median(shims), "MiB", bar=1.5, goal=1.5)


def started_at(pid):
    """When a process was started, in seconds of CLOCK_BOOTTIME, to a hundredth: rather too early than too late."""
    ticks = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def server_starts(table, platform, short):
    """From the start of a new server to the first answer that it gives, to who has waited for it."""
    times = []
    for _ in range(3 if short else 7):
        [old] = platform.role("server")
        os.kill(old, signal.SIGTERM)
        wait_until("the old server is gone", lambda: not os.path.exists(f"/proc/{old}"), pause=0.001)
        platform.api("GET", "/apps")
        answered = time.clock_gettime(time.CLOCK_BOOTTIME)
        [new] = platform.role("server")
        times.append(answered - started_at(new))
    table.add(f"server start, {APPS} apps with a dyno each: to its first answer", milliseconds(times), "ms", bar=300, goal=300)


def fsync_ms(directory):
    times = []
    with open(directory / "fsync", "wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.monotonic()
            os.fsync(file.fileno())
            times.append(time.monotonic() - begun)
    return milliseconds(times)


def about(scratch):
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory_gib = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    print(f"{datetime.date.today()}: {os.cpu_count()} x {model[1] if model else machine.machine()}, {memory_gib:.0f} GiB, "
          f"Linux {machine.release()}, fsync {fsync_ms(scratch):.2f} ms, load {os.getloadavg()[0]:.1f} before the run. "
          "Medians, all from one run.\n")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--short", action="store_true")
    short = arguments.parse_args().short
    binary = str(pathlib.Path(os.environ["SHIPWAY_BIN"]).resolve())
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-bench-"))
    scratch.chmod(0o755)
    table = Table()
    try:
        about(scratch)
        note("router and nginx")
        routers(table, binary, scratch, short)
        platform = Platform(binary, scratch)
        try:
            for what, measure in [
                ("pushes", lambda: pushes(table, platform, scratch, short)),
                ("promotions", lambda: promotions(table, platform, scratch, short)),
                ("dynos", lambda: dyno_start(table, platform, short)),
                ("logs", lambda: log_rate(table, platform)),
                ("switches", lambda: switches(table, platform, scratch, short)),
                ("memory", lambda: idle(table, platform, scratch)),
                ("starts", lambda: server_starts(table, platform, short)),
                ("neighbour", lambda: neighbour(table, platform, scratch, short)),
            ]:
                note(what)
                measure()
        finally:
            platform.end()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    table.print()


def note(what):
    print(f"measuring: {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
