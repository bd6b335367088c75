#!/usr/bin/env python3
"""Runs a command on "another machine": a network of its own, from which one port of this machine is reached, and nothing else.

Usage: python3 tests/elsewhere.py PORT COMMAND...
The port is at 127.0.0.1, as it is here. Needs root (unshare(2)); ends with the command, and with its exit status.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading

CLONE_NEWNET = 0x40000000


def enter(call, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), call)


def copy(source, target):
    try:
        with source.makefile("rb", 0) as reading, target.makefile("wb", 0) as writing:
            shutil.copyfileobj(reading, writing, 16384)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # Either end has left.


def carry(listener, port):
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for pair in ((client, server), (server, client)):
            threading.Thread(target=copy, args=pair, daemon=True).start()


def main():
    port, command = int(sys.argv[1]), sys.argv[2:]
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter("unshare", CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # A socket stays in the network that it was made in; what connects from here on is back in ours.
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    child = subprocess.Popen(command)
    enter("setns", here, CLONE_NEWNET)
    threading.Thread(target=carry, args=(listener, port), daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
