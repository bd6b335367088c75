#!/usr/bin/env python3
"""What goes wrong with a machine: a full disk, a read-only disk, a damaged blob, a power cut, missing programs.

Each time: it says what is wrong and what to do, what runs goes on and nothing is lost. The data directory is a small
ext4 of its own, in a mount namespace of its own, so that the disk can be filled and /usr/bin changed.

Usage: tests/faults.py [full_disk|read_only|damaged_blob|power_cut|missing_programs...]
Needs: SHIPWAY_BIN (the binary), root, git, mkfs.ext4; exits with 77 without them.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from crashes import APP, PROCFILE, Session, Visitor
from load import wait_until
from transcripts import Platform


def run(*words, **more):
    return subprocess.run(words, check=True, capture_output=True, text=True, **more).stdout


def mount(image, home):
    run("mount", "-o", "loop,errors=remount-ro", image, home)


def expect(what, holds, seen=""):
    assert holds, f"not so: {what}\n{seen}"
    print(f"  {what}", flush=True)


class Faulty(Session):
    def answer(self, *request):
        """What the API says, as status and message."""
        try:
            return 200, json.dumps(self.api(*request))
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)["message"]

    def pushed(self, procfile=PROCFILE):
        self.commit(procfile)
        worked, said = self.git_says("push", "--force", "heroku", "main")
        self.version += worked
        return worked, said

    def stop(self):
        """The server and what starts it, as with Ctrl-C."""
        self.platform.process.terminate()
        self.platform.process.wait(60)

    def up_says(self, **environment):
        """What `up` says that cannot start."""
        done = subprocess.run([self.platform.binary, "--home", self.platform.home, "up", "--listen", "127.0.0.1:0", "--router-listen",
                               "127.0.0.1:0"], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
        assert done.returncode, done
        return done.stderr


def full_disk(session, visitor, home):
    hog = home / "hog"
    with open(hog, "wb") as file:
        try:
            while file.write(b"\0" * (1 << 20)):
                file.flush()
        except OSError:
            pass
    status, said = session.answer("PATCH", f"/apps/{APP}/config-vars", {"COLOUR": "full"})
    expect("a config change is refused, and says that the disk is full", status == 503 and "disk is full" in said, said)
    worked, said = session.pushed()
    expect("a push is refused, and says so too", not worked and ("disk is full" in said or "No space left" in said), said)
    status, said = session.answer("POST", "/apps", {})
    expect("so is a new app", status == 503 and "disk is full" in said, said)
    expect("the app serves on", visitor.ask() == (200, f"{session.version} {session.colour}"))
    session.stop()
    said = session.up_says()
    expect("a start says how much must be free", "make room" in said, said)
    hog.unlink()
    session.platform.up()
    session.check(visitor, "there is room again")
    worked, said = session.pushed()
    expect("with room a push works", worked, said)
    session.check(visitor, "pushed")


def read_only(session, visitor, home):
    """As after an error of the disk: ext4 makes itself read-only under everything that has files open."""
    device = run("findmnt", "-no", "SOURCE", home).strip().removeprefix("/dev/")
    pathlib.Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")
    status, said = session.answer("PATCH", f"/apps/{APP}/config-vars", {"COLOUR": "stuck"})
    expect("a config change is refused, and says that the disk is read-only", status == 503 and "read-only" in said, said)
    worked, said = session.pushed()
    expect("a push is refused, and says so too", not worked and "read-only" in said.lower(), said)
    expect("the app serves on", visitor.ask() == (200, f"{session.version} {session.colour}"))
    session.stop()
    said = session.up_says()
    expect("a start says what to do", "mount it writable" in said, said)
    # It ends everything, and says that it could not remove the records of dynos.
    done = subprocess.run([session.platform.binary, "--home", home, "down"], capture_output=True, text=True)
    expect("everything can be ended", done.returncode == 1 and "Read-only file system" in done.stderr, done)
    wait_until("the data directory is let go", lambda: subprocess.run(["umount", home]).returncode == 0)
    image = home.parent / "image"
    subprocess.run(["e2fsck", "-fy", image], capture_output=True)
    mount(image, home)
    # Bytes that were not flushed are lost; a machine whose disk was mended was started anew.
    (home / "layers/.boot").write_text("the boot before")
    session.platform.up()
    session.check(visitor, "writable again")
    worked, said = session.pushed()
    expect("a push works again", worked, said)
    session.check(visitor, "pushed")


def newest_layer(home):
    """The layer with the newest version of the app."""
    layers = [p for p in (home / "layers").iterdir() if (p / "version").exists()]
    return max(layers, key=lambda p: int((p / "version").read_text()))


def damaged_blob(session, visitor, home):
    layer = newest_layer(home)
    blob = home / "blobs/sha256" / layer.name
    content = bytearray(blob.read_bytes())
    content[600] ^= 1
    blob.write_bytes(content)
    session.restart()
    session.check(visitor, "restarted: the layer is unpacked already")
    shutil.rmtree(layer)
    for what, path in [("a restart", f"/apps/{APP}/dynos"), ("of one dyno", f"/apps/{APP}/dynos/web.1")]:
        status, said = session.answer("DELETE", path)
        expect(f"{what} is refused, and says what is damaged and how to build it again",
               status == 503 and "damaged" in said and "git commit --allow-empty" in said, said)
    status, said = session.answer("POST", f"/apps/{APP}/dynos/web.1/actions/stop")
    expect("so is a stop, after which it could not start", status == 503 and "damaged" in said, said)
    served = f"{session.version} {session.colour}"
    session.colour = "red"
    status, said = session.answer("PATCH", f"/apps/{APP}/config-vars", {"COLOUR": session.colour})
    session.quiet()
    newest = max(session.api("GET", f"/apps/{APP}/releases"), key=lambda release: release["version"])
    order = session.api("POST", f"/apps/{APP}/log-sessions", {"lines": 100, "tail": False})
    with urllib.request.urlopen(order["logplex_url"]) as answer:
        lines = [line for line in answer.read().decode().splitlines() if "failed" in line]
    expect("a config var is kept, its release failed, and the app's log says why", status == 200 and newest["status"] == "failed"
           and f"Release v{newest['version']} failed: What was built of" in lines[-1], (newest, lines))
    doctor = subprocess.run([session.platform.binary, "--home", home, "doctor"], capture_output=True, text=True).stdout
    expect("shipway doctor names it", "do not start again" in " ".join(doctor.split()), doctor)
    expect("the app serves on", visitor.ask() == (200, served))
    worked, said = session.pushed()
    expect("the next push builds it again", worked, said)
    session.check(visitor, "built again")


def power_cut(session, visitor, home):
    """What a power cut can do to layers: names that reached the disk before their files' bytes."""
    layer = newest_layer(home)
    session.stop()
    run(session.platform.binary, "--home", home, "down")
    (layer / "serve.py").write_text("")
    (home / "layers/.boot").write_text("the boot before")
    session.platform.up()
    session.check(visitor, "the machine is back")
    expect("layers of the boot before are unpacked again", (layer / "serve.py").stat().st_size > 0)


def hidden(*programs):
    """A /usr/bin without some programs, until the function that is returned is called."""
    scratch = tempfile.mkdtemp(prefix="shipway-usr-bin-", dir="/var/tmp")
    run("mount", "-t", "tmpfs", "tmpfs", scratch)
    for name in ("upper", "work"):
        os.mkdir(f"{scratch}/{name}")
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/usr/bin,upperdir={scratch}/upper,workdir={scratch}/work", "/usr/bin")
    for program in programs:
        for path in pathlib.Path("/usr/bin").glob(program):
            path.unlink()

    def shown():
        # Lazily: this very process may run a program from there.
        run("umount", "--lazy", "/usr/bin")
        run("umount", "--lazy", scratch)
        os.rmdir(scratch)
    return shown


def missing_programs(session, visitor, home):
    session.stop()
    shown = hidden("git")
    environment = {**os.environ, "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"}
    said = session.up_says(PATH="/usr/bin:/usr/sbin:/bin:/sbin")
    shown()
    expect("a start without git says how to get it", "apt-get install git" in said, said)
    expect("the app serves on without its server", visitor.ask() == (200, f"{session.version} {session.colour}"))
    session.platform.up()
    session.check(visitor, "git is back")

    # What is mounted over /usr/bin counts for the spawner that starts in it: all of the platform is new.
    session.stop()
    run(session.platform.binary, "--home", home, "down")
    shown = hidden("python3*", "uv", "node", "npm")
    session.platform.up()
    (session.checkout / "requirements.txt").write_text("")
    (session.checkout / "package.json").unlink(missing_ok=True)
    worked, said = session.pushed()
    expect("a build without Python says what is missing and what to do",
           not worked and "This app wants Python" in said and "apt-get install python3" in said, said)
    session.stop()
    run(session.platform.binary, "--home", home, "down")
    shown()
    (session.checkout / "requirements.txt").unlink()
    session.platform.up()
    session.check(visitor, "Python is back")
    worked, said = session.pushed()
    expect("a push works again", worked, said)


def main():
    binary = os.environ.get("SHIPWAY_BIN")
    if not binary or os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        print("SHIPWAY_BIN, root and mkfs.ext4 are needed; skipped")
        return 77
    if not os.environ.get("SHIPWAY_FAULTS_INSIDE"):
        os.environ["SHIPWAY_FAULTS_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-faults-", dir="/var/tmp"))
    scratch.chmod(0o755)
    home, image = scratch / "platform", scratch / "image"
    home.mkdir()
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    run("mkfs.ext4", "-q", "-F", image)
    mount(image, home)
    platform = Platform(str(pathlib.Path(binary).resolve()), scratch)
    good = False
    try:
        platform.up()
        session = Faulty(platform, scratch)
        session.begin()
        visitor = Visitor(platform)
        for fault in [full_disk, read_only, damaged_blob, power_cut, missing_programs]:
            if sys.argv[1:] and fault.__name__ not in sys.argv[1:]:
                continue
            begun = time.monotonic()
            print(fault.__name__.replace("_", " "), flush=True)
            fault(session, visitor, home)
            print(f"  ({time.monotonic() - begun:.0f} s)", flush=True)
        good = True
    finally:
        platform.down()
        if not good:
            print(platform.tail())
            print((home / "run/server.log").read_text(errors="replace")[-6000:])
        wait_until("the data directory is let go", lambda: subprocess.run(["umount", home]).returncode == 0, 20)
        shutil.rmtree(scratch, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
