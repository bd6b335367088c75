"""The router beside nginx: one after the other, over and over, on one core; load and the app's place on another."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import urllib.request
import uuid

from places import free_port, wait_until

HOST = "app7.localhost"
SIZES = {"1 KiB": (1024, 64), "1 MiB": (1 << 20, 16)}
UNITS = {"us": 0.001, "ms": 1, "s": 1000}


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
  server { listen 127.0.0.1:PORT backlog=4096; root ROOT; open_file_cache max=10; }
"""

# A fair peer: connections to the app are kept, buffers hold an answer, nothing goes to disk.
PROXY = """
  upstream app { server 127.0.0.1:APP; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:PORT backlog=4096;
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


class Nginx:
    def __init__(self, scratch, name, core, body):
        self.port = free_port()
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
        self.port = free_port()
        home = scratch / "router"
        (home / "run").mkdir(parents=True)
        apps = [{"app": str(uuid.UUID(int=i + 1)), "name": f"app{i}", "hosts": [f"app{i}.localhost"], "mode": "serve",
                 "targets": [{"dyno": str(uuid.uuid4()), "name": "web.1", "address": f"127.0.0.1:{target}"}]} for i in range(20)]
        (home / "run/routes.json").write_text(json.dumps({"epoch": 1, "apps": apps}))
        self.process = subprocess.Popen(
            ["taskset", "-c", core, binary, "--home", home, "router", "--router-listen", f"127.0.0.1:{self.port}"],
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


def answers(port):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/1024", headers={"Host": HOST})
    try:
        return urllib.request.urlopen(request, timeout=2).status == 200
    except OSError:
        return False


def load(proxy, where, path, connections, seconds):
    """One run of wrk. Returns requests a second, p99 in ms, the proxy's cpu seconds per 100,000 requests."""
    before = cpu_seconds(proxy.pids())
    said = subprocess.run(
        ["taskset", "-c", where, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {HOST}",
         f"http://127.0.0.1:{proxy.port}/{path}"], capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(proxy.pids()) - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    requests = int(re.search(r"(\d+) requests in", said)[1])
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]), float(number) * UNITS[unit], used / requests * 100_000


def measure(binary, scratch, rounds, seconds):
    """Returns `{size: {"shipway": (requests/s, p99 ms, cpu), "nginx": …}}`, medians of `rounds` interleaved runs."""
    mine, others = cores()
    others = ",".join(map(str, others))
    files = scratch / "files"
    files.mkdir(mode=0o755)
    for size, _ in SIZES.values():
        (files / str(size)).write_bytes(os.urandom(size))
    running = []
    try:
        running.append(app := Nginx(scratch, "app", others, APP.replace("ROOT", str(files))))
        running.append(peer := Nginx(scratch, "peer", str(mine), PROXY.replace("APP", str(app.port))))
        running.append(router := Router(binary, scratch, str(mine), app.port))
        for each in running:
            wait_until("a proxy answers", lambda: answers(each.port))
        figures = {}
        for size, (length, connections) in SIZES.items():
            seen = {"nginx": [], "shipway": []}
            for _ in range(rounds):
                for name, proxy in (("nginx", peer), ("shipway", router)):
                    seen[name].append(load(proxy, others, length, connections, seconds))
            figures[size] = {name: tuple(statistics.median(column) for column in zip(*runs)) for name, runs in seen.items()}
        return figures
    finally:
        for each in running:
            each.end()
