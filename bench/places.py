"""A platform of the bench's own, the floor that it is measured against, and the small things that both need."""

import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import urllib.request

GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
       "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, condition, seconds=60, pause=0.02):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return found


class Platform:
    """`shipway up` on a data directory of its own."""

    def __init__(self, binary, scratch):
        self.binary, self.home, self.buildpacks = binary, scratch / "platform", scratch / "buildpacks"
        self.buildpacks.mkdir()
        self.listen, self.router = free_port(), free_port()
        self.log = scratch / "up.log"
        self.process = subprocess.Popen(
            [binary, "--home", self.home, "up", "--listen", f"127.0.0.1:{self.listen}", "--router-listen",
             f"127.0.0.1:{self.router}", "--buildpack-directory", self.buildpacks], stdin=subprocess.DEVNULL, stdout=open(self.log, "wb"), stderr=subprocess.STDOUT)
        wait_until(f"the platform is up ({self.log})", self.is_up)
        home = scratch / "home"
        home.mkdir()
        env = {"PATH": f"{pathlib.Path(binary).parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8",
               "SHIPWAY_HOME": str(self.home), **GIT}
        script = 'set -e; settings=$("$0" env); eval "$settings"; env -0'
        said = subprocess.run(["bash", "-c", script, binary], env=env, stdout=subprocess.PIPE, check=True).stdout
        self.env = dict(entry.split("=", 1) for entry in said.decode().split("\0") if entry)

    def is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"shipway up ended: {self.log.read_text()}")
        return subprocess.run([self.binary, "--home", self.home, "status"], capture_output=True).returncode == 0

    def api(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.listen}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/vnd.heroku+json; version=3", "Content-Type": "application/json",
                     "Authorization": f"Bearer {self.env['HEROKU_API_KEY']}"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def logs(self, app, lines):
        """The last lines of the app's dynos."""
        made = self.api("POST", f"/apps/{app}/log-sessions", {"lines": lines, "tail": False})
        said = subprocess.run(["curl", "-sSk", made["logplex_url"]], stdout=subprocess.PIPE, check=True).stdout
        return said.decode(errors="replace").splitlines()

    def role(self, name):
        """The process ids that play a role for this data directory."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[1:2] == [name] and any(str(self.home) in word for word in words[2:]):
                found.append(int(entry.name))
        return found

    def shims(self):
        """The process ids of the shims of dynos that run: not those that are kept ready for the next ones."""
        records = self.home.glob("run/dynos/*/record.json")
        return [pid for pid in (json.loads(record.read_text())["shim"] for record in records) if os.path.exists(f"/proc/{pid}")]

    def end(self):
        subprocess.run([self.binary, "--home", self.home, "down"], capture_output=True)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class GitServer:
    """Bare repositories over http by git's own http-backend, and nothing else."""

    def __init__(self, root):
        backend = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                path, _, query = self.path.partition("?")
                length = int(self.headers.get("Content-Length") or 0)
                env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1",
                       "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "ada",
                       "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(length),
                       "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                       "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), **GIT}
                said = subprocess.run([f"{backend}/git-http-backend"], env=env, input=self.rfile.read(length), capture_output=True)
                head, _, body = said.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()
