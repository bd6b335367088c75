#!/usr/bin/env python3
"""Runs the transcripts in tests/transcripts: command, then the screen, against a real platform and the real Heroku CLI.

A transcript is text. A line that starts with `$ ` is a command for bash; the lines after it are the screen that it has
to leave (stdout and stderr, without ANSI, runs of blanks as one). `$~ ` is the same, repeated until the screen is right
(120 s): for what becomes true. In expected lines `…` stands for any text of a line, a line `...` for any lines.
`$t ` is a command at a terminal of its own, 101 columns wide and 33 rows high. `<text>` in its screen is typed there, once
all that stands before it is seen, and is echoed; `«text»` is typed and shows as anything. Enter is pressed after it, but for
a control character such as `<^C>`. `«20x50»` makes the window that large.
`# ` starts a comment; `[exit 2]` as the last line expects that exit status instead of 0. Each `# with NAME=value ...`
plays the whole transcript once with these variables; `# up with FLAG ...` gives `shipway up` more flags. Every play has
a platform of its own; two more than there are processors run at once.

Usage: tests/transcripts.py [NAME...]
Needs: SHIPWAY_BIN (the binary), SHIPWAY_TEST_HEROKU (the official CLI); without the CLI it exits with 77, skipped.
"""

import concurrent.futures
import fcntl
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
PATIENCE = 120
# What is typed at a terminal, in the line where it shows.
TYPED = re.compile("<([^<>]+)>| *«([^«»]*)»")
SIZE = re.compile(r"(\d+)x(\d+)")
# Rows and columns.
WINDOW = (33, 101)
KINDS = ("$ ", "$~ ", "$t ")
# A forge for the transcripts that name it; the tests of the workspace have built it.
FORGE_DOUBLE = HERE.parent / "target/debug/examples/forge_double"
# Handed out already: a port is free again for the system before its platform listens on it.
ports, ports_lock = set(), threading.Lock()


def free_port():
    with ports_lock:
        while True:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            if port not in ports:
                ports.add(port)
                return port


class Platform:
    """`shipway up` on a data directory of its own."""

    def __init__(self, binary, scratch, flags=()):
        self.binary, self.flags = binary, flags
        self.home, self.buildpacks = scratch / "platform", scratch / "buildpacks"
        self.buildpacks.mkdir()
        self.listen, self.router = free_port(), free_port()
        self.log = open(scratch / "up.log", "wb")
        self.process = None

    def up(self):
        self.process = subprocess.Popen(
            [self.binary, "--home", self.home, "up", "--listen", f"127.0.0.1:{self.listen}",
             "--router-listen", f"127.0.0.1:{self.router}", "--buildpack-directory", self.buildpacks,
             *self.flags],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"shipway up ended with {self.process.returncode}:\n" + self.tail())
            status = subprocess.run([self.binary, "--home", self.home, "status"], capture_output=True)
            if status.returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError("shipway up did not get ready:\n" + self.tail())

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

    def converse(self, command, expected):
        """Has a command at a terminal, types what `expected` has typed, and returns its whole screen and exit status."""
        terminal = Terminal(command, *self.place())
        try:
            for line, written in enumerate(expected):
                for typed in TYPED.finditer(written):
                    before = [shown(above) for above in expected[:line]] + [shown(written[: typed.start()])]
                    if not terminal.until(lambda text: matches(before, screen(text))):
                        return terminal.text(), 124
                    terminal.type(typed[1] or typed[2])
            status = terminal.end()
            return terminal.text(), status
        finally:
            terminal.close()

    def place(self):
        """The directory in which the next command runs, and its environment."""
        text, _ = self.run("pwd; env -0")
        directory, variables = text.split("\n", 1)
        return directory, dict(entry.split("=", 1) for entry in variables.split("\0") if "=" in entry)

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Terminal:
    """A command whose controlling terminal is ours."""

    def __init__(self, command, directory, env):
        self.ours, theirs = os.openpty()
        self.resize(*WINDOW)
        # As a leader of nothing, setsid becomes the session's leader and then the command.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "-c", command], cwd=directory, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self):
        return self.seen.decode(errors="replace")

    def until(self, right):
        """Reads until what is seen is right; false if it is not within 120 s, or the last process has left the terminal."""
        end = time.monotonic() + PATIENCE
        while not right(self.text()):
            ready, _, _ = select.select([self.ours], [], [], max(0, end - time.monotonic()))
            try:
                read = os.read(self.ours, 65536) if ready else b""
            except OSError:
                # How Linux says the end of a terminal.
                read = b""
            if not read:
                return False
            self.seen += read
        return True

    def type(self, keys):
        if size := SIZE.fullmatch(keys):
            self.resize(int(size[1]), int(size[2]))
        elif control := re.fullmatch(r"\^([@-_])", keys):
            os.write(self.ours, bytes([ord(control[1]) - 64]))
        else:
            os.write(self.ours, keys.encode() + b"\r")

    def end(self):
        """Reads to the end and returns the exit status; 124 where there is no end."""
        self.until(lambda text: False)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return 124

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.ours)


def shown(line):
    """A line of a terminal's screen as it is expected, with what was typed there."""
    return TYPED.sub(lambda typed: typed[1] or ("" if SIZE.fullmatch(typed[2]) else "…"), line)


def parse(text):
    """Yields (line number, kind, command, expected lines, expected status); kinds are the words before commands."""
    lines, i = text.splitlines(), 0
    while i < len(lines):
        line = lines[i]
        i += 1
        if not line.startswith(KINDS):
            continue
        number, (kind, command), expected, status = i, line.split(" ", 1), [], 0
        while i < len(lines) and not lines[i].startswith((*KINDS, "# ")):
            if found := re.fullmatch(r"\[exit (\d+)\]", lines[i]):
                status = int(found[1])
            else:
                expected.append(lines[i])
            i += 1
        while expected and not expected[-1].strip():
            expected.pop()
        yield number, kind, command, expected, status


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


def variables(text):
    """What each play of a transcript adds to its environment."""
    plays = re.findall(r"^# with (.*)$", text, re.MULTILINE)
    return [dict(pair.split("=", 1) for pair in play.split()) for play in plays] or [{}]


def flags(text):
    """What `shipway up` is given besides what all plays have."""
    return [flag for line in re.findall(r"^# up with (.*)$", text, re.MULTILINE) for flag in line.split()]


def report(path, number, command, expected, status, seen, code):
    lines = [f"{path.name}:{number}: $ {command}", f"  expected (exit {status}):", *(f"    {line}" for line in expected),
             f"  screen (exit {code}):", *(f"    {line}" for line in seen)]
    print("\n".join(lines), flush=True)


def play(path, given, platform, heroku, scratch):
    env = {
        "PATH": f"{pathlib.Path(platform.binary).parent}:{pathlib.Path(heroku).parent}:{os.environ['PATH']}",
        "HOME": str(scratch / "home"), "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1", "HEROKU_LOGS_COLOR": "0",
        "SHIPWAY_HOME": str(platform.home), "APPS": str(HERE / "apps"), "EXAMPLES": str(HERE.parent / "examples"),
        "BUILDPACKS": str(platform.buildpacks), "ROUTER": f"127.0.0.1:{platform.router}", "ROUTER_PORT": str(platform.router), "API": f"http://127.0.0.1:{platform.listen}",
        "FORGE_DOUBLE": str(FORGE_DOUBLE), "LET_IN": str(HERE / "clients/let_in.py"),
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_NOSYSTEM": "1",
    }
    for name, value in os.environ.items():
        if name.lower() in ("pip_index_url", "npm_config_registry", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "pip_cert", "node_extra_ca_certs", "uv_index_url", "uv_default_index"):
            env[name] = value
    env.update(given)
    (scratch / "home").mkdir()
    (scratch / "work").mkdir()
    shell = Shell(env, scratch / "work")
    shell.run('git config --global init.defaultBranch main; git config --global advice.detachedHead false; eval "$(shipway env)"')
    try:
        for number, kind, command, expected, status in parse(path.read_text()):
            end, pause = time.monotonic() + (PATIENCE if kind == "$~" else 0), 0.1
            while True:
                if kind == "$t":
                    text, code = shell.converse(command, expected)
                    expected = [shown(line) for line in expected]
                else:
                    text, code = shell.run(command)
                seen = screen(text)
                if matches(expected, seen) and code == status:
                    break
                if time.monotonic() >= end:
                    report(path, number, command, expected, status, seen, code)
                    return False
                # What is waited for wants the processors that a look takes.
                time.sleep(pause)
                pause = min(2 * pause, 1)
    finally:
        shell.close()
    return True


def run(path, given, binary, heroku):
    """One play on a platform of its own; whether the screens were as written."""
    begun, good = time.monotonic(), False
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-transcript-"))
    scratch.chmod(0o755)
    platform = Platform(binary, scratch, flags(path.read_text()))
    try:
        platform.up()
        good = play(path, given, platform, heroku, scratch)
    finally:
        platform.down()
        name = " ".join([path.stem, *given.values()])
        print(f"{'ok  ' if good else 'FAIL'} {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        if good:
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            print(f"what the platform said ({scratch} has the rest):\n{platform.tail()}", flush=True)
    return good


def main():
    binary, heroku = os.environ.get("SHIPWAY_BIN"), os.environ.get("SHIPWAY_TEST_HEROKU")
    if not binary or not heroku:
        print("SHIPWAY_BIN and SHIPWAY_TEST_HEROKU are needed; skipped")
        return 77
    names = sys.argv[1:]
    paths = [p for p in sorted((HERE / "transcripts").glob("*.txt")) if not names or p.stem in names]
    for path in [p for p in paths if "$FORGE_DOUBLE" in p.read_text() and not FORGE_DOUBLE.exists()]:
        print(f"skip {path.stem}: {FORGE_DOUBLE} is missing: cargo build -p shipway-testkit --examples")
        paths.remove(path)
    # The long ones first, so that none is left that runs alone at the end.
    paths.sort(key=lambda path: -path.read_text().count("\n$"))
    plays = [(path, given) for path in paths for given in variables(path.read_text())]
    binary, heroku = str(pathlib.Path(binary).resolve()), str(pathlib.Path(heroku).absolute())
    # More than there are processors: plays wait, too.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() + 2) as pool:
        results = [pool.submit(run, path, given, binary, heroku) for path, given in plays]
    failed = sum(1 for result in results if result.exception() or not result.result())
    for error in filter(None, (result.exception() for result in results)):
        print(error)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
