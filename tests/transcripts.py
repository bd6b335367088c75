#!/usr/bin/env python3
"""Runs the transcripts in tests/transcripts: command, then the screen, against a real platform and the real Heroku CLI.

A transcript is text. A line that starts with `$ ` is a command for bash; the lines after it are the screen that it has
to leave (stdout and stderr, without ANSI, runs of blanks as one). `$~ ` is the same, repeated until the screen is right
(60 s): for what becomes true. In expected lines `…` stands for any text of a line, a line `...` for any lines.
`# ` starts a comment; `[exit 2]` as the last line expects that exit status instead of 0.

Usage: tests/transcripts.py [--update] [NAME...]
Needs: SHIPWAY_BIN (the binary), SHIPWAY_TEST_HEROKU (the official CLI); without the CLI it exits with 77, skipped.
"""

import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
PATIENCE = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Platform:
    """`shipway up` on a data directory of its own."""

    def __init__(self, binary, scratch):
        self.binary = binary
        self.home = scratch / "platform"
        self.listen, self.router = free_port(), free_port()
        self.log = open(scratch / "up.log", "wb")
        self.process = None

    def up(self):
        self.process = subprocess.Popen(
            [self.binary, "--home", self.home, "up", "--listen", f"127.0.0.1:{self.listen}",
             "--router-listen", f"127.0.0.1:{self.router}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                sys.exit(f"shipway up ended with {self.process.returncode}:\n" + self.tail())
            status = subprocess.run([self.binary, "--home", self.home, "status"], capture_output=True)
            if status.returncode == 0:
                return
            time.sleep(0.05)
        sys.exit("shipway up did not get ready:\n" + self.tail())

    def tail(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-4000:]

    def down(self):
        subprocess.run([self.binary, "--home", self.home, "down"], capture_output=True, timeout=120)
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)


class Shell:
    """One bash that remembers directory and variables from command to command."""

    def __init__(self, env, cwd):
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        os.set_blocking(self.process.stdout.fileno(), False)

    def run(self, command, timeout=300):
        mark = f"--{time.monotonic_ns()}--"
        script = f"{{ {command}\n}} </dev/null 2>&1\nprintf '\\n%s%d\\n' {mark} $?\n"
        self.process.stdin.write(script.encode())
        self.process.stdin.flush()
        seen, end = b"", time.monotonic() + timeout
        pattern = re.compile(rb"\n" + mark.encode() + rb"(\d+)\n$")
        while not (found := pattern.search(seen)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                return seen.decode(errors="replace") + "\n(timed out)", 124
            seen += self.process.stdout.read() or b""
        return seen[: found.start()].decode(errors="replace"), int(found[1])

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def parse(text):
    """Yields (line number, wait, command, expected lines, expected status)."""
    lines, i = text.splitlines(), 0
    while i < len(lines):
        line = lines[i]
        i += 1
        if not line.startswith(("$ ", "$~ ")):
            continue
        number, wait, command, expected, status = i, line.startswith("$~ "), line.split(" ", 1)[1], [], 0
        while i < len(lines) and not lines[i].startswith(("$ ", "$~ ", "# ")):
            if found := re.fullmatch(r"\[exit (\d+)\]", lines[i]):
                status = int(found[1])
            else:
                expected.append(lines[i])
            i += 1
        while expected and not expected[-1].strip():
            expected.pop()
        yield number, wait, command, expected, status


def screen(text):
    lines = [squeezed(line) for line in ANSI.sub("", text).splitlines()]
    # The CLI's asides (`› Warning: …`, wrapped at any width) are left out: they come on stderr at any place.
    return [line for line in lines if line and (not line.startswith("›") or "Error:" in line)]


def squeezed(line):
    """Columns move with the width of what is in them: blanks count as one, at the ends as none."""
    return " ".join(line.split())


def matches(expected, seen):
    expected = [squeezed(line) for line in expected if line.strip()]
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "..." else re.escape(line).replace("…", r"[^\n]*") + r"\n"
        for line in expected)
    return re.fullmatch(pattern, "".join(line + "\n" for line in seen)) is not None


def play(path, platform, heroku):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-transcript-"))
    env = {
        "PATH": f"{pathlib.Path(platform.binary).parent}:{pathlib.Path(heroku).parent}:{os.environ['PATH']}",
        "HOME": str(scratch / "home"), "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1", "HEROKU_LOGS_COLOR": "0",
        "SHIPWAY_HOME": str(platform.home), "APPS": str(HERE / "apps"), "EXAMPLES": str(HERE.parent / "examples"),
        "ROUTER": f"127.0.0.1:{platform.router}", "ROUTER_PORT": str(platform.router), "API": f"http://127.0.0.1:{platform.listen}",
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_NOSYSTEM": "1",
    }
    for name, value in os.environ.items():
        if name.lower() in ("pip_index_url", "npm_config_registry", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "pip_cert", "node_extra_ca_certs", "uv_index_url", "uv_default_index"):
            env[name] = value
    (scratch / "home").mkdir()
    (scratch / "work").mkdir()
    shell = Shell(env, scratch / "work")
    shell.run('git config --global init.defaultBranch main; git config --global advice.detachedHead false; eval "$(shipway env)"')
    failed = 0
    try:
        for number, wait, command, expected, status in parse(path.read_text()):
            end = time.monotonic() + (PATIENCE if wait else 0)
            while True:
                text, code = shell.run(command)
                seen = screen(text)
                if matches(expected, seen) and code == status:
                    break
                if time.monotonic() >= end:
                    failed += 1
                    print(f"{path.name}:{number}: $ {command}\n  expected (exit {status}):")
                    print("".join(f"    {line}\n" for line in expected) + f"  screen (exit {code}):")
                    print("".join(f"    {line}\n" for line in seen), flush=True)
                    return False
                time.sleep(0.1)
    finally:
        shell.close()
        if not failed:
            shutil.rmtree(scratch, ignore_errors=True)
    return True


def main():
    binary, heroku = os.environ.get("SHIPWAY_BIN"), os.environ.get("SHIPWAY_TEST_HEROKU")
    if not binary or not heroku:
        print("SHIPWAY_BIN and SHIPWAY_TEST_HEROKU are needed; skipped")
        return 77
    names = sys.argv[1:]
    paths = [p for p in sorted((HERE / "transcripts").glob("*.txt")) if not names or p.stem in names]
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-platform-"))
    scratch.chmod(0o755)
    platform = Platform(str(pathlib.Path(binary).resolve()), scratch)
    passed = failed = 0
    try:
        platform.up()
        for path in paths:
            begun = time.monotonic()
            good = play(path, platform, str(pathlib.Path(heroku).absolute()))
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok  ' if good else 'FAIL'} {path.stem} ({time.monotonic() - begun:.1f} s)", flush=True)
    finally:
        platform.down()
        if failed:
            print(platform.tail())
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
