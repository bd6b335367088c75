"""The router beside nginx: one after the other, over and over, on one core; load and the app's place on another."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import threading
import typing
import urllib.request
import uuid

from places import free_port, wait_until

HOST = "app7.localhost"
SIZES = (1024, 1 << 20)
UPLOAD_BYTES = 64 << 10
# Requests a second, over all connections, that any proxy here can carry.
STEADY, STEADY_CONNECTIONS = 4000, 64
UNITS = {"us": 0.001, "ms": 1, "s": 1000}


class Sample(typing.NamedTuple):
    """What one run saw of a proxy; None for what its tool does not say."""

    rate: float
    """Requests or handshakes a second."""
    cpu: float
    """The proxy's cpu seconds per 100,000 of them."""
    p99: float | None = None
    """In ms."""
    resident: float | None = None
    """The proxy's resident memory in the middle of the run, in MiB."""


def cores():
    """The proxy's core and the others'. On a machine with one core they share it."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[-1], mine[:-1] or mine


def nginx_config(scratch, port, body):
    return f"""
worker_processes 1;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  {body.replace("PORT", str(port))}
}}
"""


# What answers: files from memory, as fast as this machine can.
APP = """
  sendfile on;
  tcp_nopush on;
  client_body_buffer_size 128k;
  server {
    listen 127.0.0.1:PORT backlog=4096;
    root ROOT;
    open_file_cache max=10;
    # A server that proxies reads a request to its end before it answers; one that only returns does not.
    location /upload { proxy_pass http://127.0.0.1:PORT/uploaded; }
    location /uploaded { return 200 "thank you"; }
  }
"""

# A fair peer: connections to the app are kept, buffers hold an answer, nothing goes to disk.
PROXY = """
  upstream app { server 127.0.0.1:APP; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:PORT backlog=4096;
    listen 127.0.0.1:TLS ssl http2 backlog=4096;
    ssl_certificate CERT;
    ssl_certificate_key KEY;
    server_name *.localhost;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffers 16 32k;
      proxy_buffer_size 32k;
      proxy_max_temp_file_size 0;
      client_body_buffer_size 128k;
    }
  }
"""


def certificate(scratch):
    """A certificate of the kind that Shipway makes, for nginx: the paths of chain and key."""
    chain, key = scratch / "peer.pem", scratch / "peer.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
         f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out", chain], check=True, capture_output=True)
    return chain, key


class Nginx:
    def __init__(self, scratch, name, core, body):
        self.port, self.tls = free_port(), free_port()
        body = body.replace("TLS", str(self.tls))
        place = scratch / name
        place.mkdir(mode=0o755)
        config = place / "nginx.conf"
        config.write_text(nginx_config(place, self.port, body))
        self.process = subprocess.Popen(["taskset", "-c", core, "nginx", "-c", config, "-g", "daemon off;"], stderr=subprocess.DEVNULL)

    def pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def end(self):
        self.process.terminate()
        self.process.wait()


class Router:
    """`shipway router` by itself, with a table of 20 apps and the request log on."""

    def __init__(self, binary, scratch, core, target):
        # HTTP and TLS on one.
        self.port = self.tls = free_port()
        home = scratch / "router"
        (home / "run").mkdir(parents=True)
        apps = [{"app": str(uuid.UUID(int=i + 1)), "name": f"app{i}", "hosts": [f"app{i}.localhost"], "mode": "serve",
                 "targets": [{"dyno": str(uuid.uuid4()), "name": "web.1", "address": f"127.0.0.1:{target}"}]} for i in range(20)]
        (home / "run/routes.json").write_text(json.dumps({"epoch": 1, "apps": apps}))
        self.process = subprocess.Popen(
            ["taskset", "-c", core, binary, "router", "--home", home, "--router-listen", f"127.0.0.1:{self.port}"],
            stderr=open(scratch / "router.log", "wb"), env={"PATH": os.environ["PATH"], "HOME": str(home)})

    def pids(self):
        return [self.process.pid]

    def end(self):
        self.process.kill()
        self.process.wait()


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mib(pids):
    found = (re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text()) for pid in pids)
    return sum(int(each[1]) for each in found) / 1024


def answers(port):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/1024", headers={"Host": HOST})
    try:
        return urllib.request.urlopen(request, timeout=2).status == 200
    except OSError:
        return False


def run(proxy, where, command, seconds):
    """Runs a tool. Returns what it said, the cpu seconds of the proxy, its memory in the middle."""
    seen = []
    look = threading.Timer(seconds / 2, lambda: seen.append(resident_mib(proxy.pids())))
    look.start()
    before = cpu_seconds(proxy.pids())
    said = subprocess.run(["taskset", "-c", where, *command], capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(proxy.pids()) - before
    look.join()
    return said, used, seen[0]


def wrk(path, connections, tls=False, script=None):
    """HTTP/1.1 as fast as it goes, without and with TLS."""

    def load(proxy, where, seconds, scratch):
        url = f"https://127.0.0.1:{proxy.tls}/{path}" if tls else f"http://127.0.0.1:{proxy.port}/{path}"
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {HOST}"]
        if script:
            (scratch / "load.lua").write_text(script)
            words += ["-s", scratch / "load.lua"]
        said, used, resident = run(proxy, where, [*words, url], seconds)
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(said)
        requests = int(re.search(r"(\d+) requests in", said)[1])
        number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
        return Sample(rate, used / requests * 100_000, float(number) * UNITS[unit], resident)

    return load


def h2load(proxy, where, seconds, words, url):
    """Runs h2load, which asks for `url`, a path. Returns how many requests succeeded and the cpu used."""
    words = ["h2load", "-t1", "-D", str(seconds), f"--connect-to=127.0.0.1:{url[1]}", *words]
    said, used, _ = run(proxy, where, [*words, f"{url[0]}://{HOST}:{url[1]}/{url[2]}"], seconds)
    done, good = (int(re.search(rf"(\d+) {word}", said)[1]) for word in ("done", "succeeded"))
    if good < done or not good:
        raise RuntimeError(said)
    return good, used


def http2(proxy, where, seconds, scratch):
    """HTTP/2 over TLS: 16 connections with 16 streams each."""
    good, used = h2load(proxy, where, seconds, ["-c16", "-m16"], ("https", proxy.tls, "1024"))
    return Sample(good / seconds, used / good * 100_000)


def steady(proxy, where, seconds, scratch):
    """HTTP/1.1 at a rate that leaves room: how long a request takes when nobody pushes."""
    log = scratch / "steady.tsv"
    log.unlink(missing_ok=True)
    words = ["--h1", f"-c{STEADY_CONNECTIONS}", f"--rps={STEADY / STEADY_CONNECTIONS}", "--warm-up-time=1", f"--log-file={log}"]
    good, used = h2load(proxy, where, seconds, words, ("http", proxy.port, "1024"))
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return Sample(good / seconds, used / good * 100_000, times[int(len(times) * 0.99)] / 1000)


def handshakes(proxy, where, seconds, scratch):
    """One full TLS handshake after the other."""
    said, used, _ = run(proxy, where, ["openssl", "s_time", "-connect", f"127.0.0.1:{proxy.tls}", "-new", "-time", str(seconds)], seconds)
    done = int(re.search(r"(\d+) connections in", said)[1])
    return Sample(done / seconds, used / done * 100_000)


UPLOAD = f'wrk.method = "POST"; wrk.body = string.rep("x", {UPLOAD_BYTES})'
LOADS = {
    "1 KiB": wrk("1024", 64),
    "1 MiB": wrk("1048576", 16),
    "POST of 64 KiB": wrk("upload", 16, script=UPLOAD),
    "steady": steady,
    "TLS, 1 KiB": wrk("1024", 64, tls=True),
    "TLS, 1 MiB": wrk("1048576", 16, tls=True),
    "TLS handshakes": handshakes,
    "HTTP/2": http2,
}


def median(samples):
    """Of each figure by itself."""
    columns = zip(*samples)
    return Sample(*(None if None in column else statistics.median(column) for column in columns))


def measure(binary, scratch, rounds, seconds):
    """Returns `{load: {"shipway": Sample, "nginx": Sample}}`, medians of `rounds` interleaved runs of each of LOADS."""
    mine, others = cores()
    others = ",".join(map(str, others))
    files = scratch / "files"
    files.mkdir(mode=0o755)
    for size in SIZES:
        (files / str(size)).write_bytes(os.urandom(size))
    chain, key = certificate(scratch)
    running = []
    try:
        running.append(app := Nginx(scratch, "app", others, APP.replace("ROOT", str(files))))
        proxy = PROXY.replace("APP", str(app.port)).replace("CERT", str(chain)).replace("KEY", str(key))
        running.append(peer := Nginx(scratch, "peer", str(mine), proxy))
        running.append(router := Router(binary, scratch, str(mine), app.port))
        for each in running:
            wait_until("a proxy answers", lambda: answers(each.port))
        figures = {}
        for name, load in LOADS.items():
            seen = {"nginx": [], "shipway": []}
            for _ in range(rounds):
                for who, proxy in (("nginx", peer), ("shipway", router)):
                    seen[who].append(load(proxy, others, seconds, scratch))
            figures[name] = {who: median(runs) for who, runs in seen.items()}
        return figures
    finally:
        for each in running:
            each.end()
