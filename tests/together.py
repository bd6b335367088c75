#!/usr/bin/env python3
"""Promotes a product of four apps while visitors read a version from all four in turn: never new, then old.

Four pipelines, each with its own code in staging and one app in production. Four client processes, each with one kept
connection to the router, ask the four production apps in turn, at least 10,000 times each, while `shipway promote` moves
all of them. Who has seen one app new must see no other app old after that; every answer is 200, on the connection that
was kept from the first to the last.

Usage: tests/together.py
Needs: SHIPWAY_BIN (the binary), root for dynos that are apart; exits with 77 without the binary.
"""

import http.client
import json
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from load import HERE, Team, wait_until
from transcripts import Platform

READS = 10_000
CLIENTS = 4
PIPELINES = ["odb", "sso", "itc", "explore"]
LIVE = [f"{name}-live" for name in PIPELINES]


class Product(Team):
    """The product's team."""

    def begin(self):
        shutil.copytree(HERE / "apps/load", self.checkout)
        self.git("init", "-q", "-b", "main")
        for name in PIPELINES:
            pipeline = self.api("POST", "/pipelines", {"name": name})["id"]
            for app, stage in [(f"{name}-staging", "staging"), (f"{name}-live", "production")]:
                made = self.api("POST", "/apps", {"name": app})
                self.api("PATCH", f"/apps/{app}/config-vars", {"BOOT_SECONDS": "0.2", "STOP_SECONDS": "0.2"})
                self.api("POST", "/pipeline-couplings", {"app": app, "pipeline": pipeline, "stage": stage})
                if stage == "staging":
                    self.git("remote", "add", name, made["git_url"])
        self.shipway("products", "create", "observatory", "--pipelines", ",".join(PIPELINES))

    def shipway(self, *words):
        done = subprocess.run(["shipway", *words], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"shipway {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def push(self, version):
        """Code of its own to each of the four."""
        for name in PIPELINES:
            (self.checkout / "version.txt").write_text(f"{name} {version}\n")
            self.git("add", ".")
            self.git("commit", "-qm", f"{name} {version}")
            self.git("push", "-q", "--force", name, "main")

    def promote(self):
        self.shipway("promote", "staging", "production", "--product", "observatory")

    def releases(self):
        return {app: f"v{self.api('GET', f'/apps/{app}/releases/current')['version']}" for app in LIVE}


def visit(port, old, count, ended, failures):
    """One client on one connection. Ends after READS answers, once the promotion has."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    kept, seen_new = connection.sock, None
    while count.value < READS or not ended.is_set():
        app = LIVE[count.value % len(LIVE)]
        connection.request("GET", "/", headers={"Host": f"{app}.localhost"})
        answer = connection.getresponse()
        body = answer.read()
        count.value += 1
        if answer.status != 200 or connection.sock is not kept:
            failures.put(f"read {count.value} of {app}: {answer.status}, or the connection was not kept")
            return
        if json.loads(body)["release"] != old[app]:
            seen_new = seen_new or app
        elif seen_new:
            failures.put(f"read {count.value}: {app} is old, and {seen_new} was new")
            return
    if not seen_new:
        failures.put("saw nothing new")


def main():
    binary = os.environ.get("SHIPWAY_BIN")
    if not binary or os.geteuid() != 0:
        print("SHIPWAY_BIN and root are needed; skipped")
        return 77
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-together-"))
    scratch.chmod(0o755)
    platform = Platform(str(pathlib.Path(binary).resolve()), scratch)
    said = ["nothing was tried"]
    try:
        platform.up()
        team = Product(platform, scratch)
        team.begin()
        team.push("one")
        team.promote()
        team.push("two")
        old = team.releases()
        ended, failures = multiprocessing.Event(), multiprocessing.Queue()
        counts = [multiprocessing.Value("L") for _ in range(CLIENTS)]
        visitors = [multiprocessing.Process(target=visit, args=(platform.router, old, count, ended, failures)) for count in counts]
        for visitor in visitors:
            visitor.start()
        wait_until("all read", lambda: all(c.value > READS / 4 or not v.is_alive() for c, v in zip(counts, visitors)))
        team.promote()
        before = [count.value for count in counts]
        ended.set()
        for visitor in visitors:
            visitor.join(90)
        said = [failures.get() for _ in range(failures.qsize())]
        said += [f"a visitor ended with {v.exitcode}" for v in visitors if v.exitcode != 0]
        still_old = [app for app, release in team.releases().items() if release == old[app]]
        said += [f"{app} was not promoted" for app in still_old]
        print(f"{CLIENTS} clients, {sum(c.value for c in counts)} reads, {sum(before)} of them when all had switched")
    finally:
        platform.down()
        if said:
            print(*said, platform.tail(), f"everything is in {scratch}", sep="\n")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
