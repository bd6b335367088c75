#!/usr/bin/env python3
"""Shows the clients of the mixed load, and its verdict, every failure that they are there to see.

A server that does each thing wrong that an app under changes must not (tests/load.py): it resets, answers 503, mixes
answers up, changes bodies, cuts them and the streams. Each client must call it a failure, and each failure must count.

Needs nothing but Python.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import pathlib
import socket
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "load"))
sys.path.insert(0, str(HERE / "apps/load"))
import client
import load
import server


def answer(request, **more):
    headers = {b"x-request-id": request["id"].encode()}
    return server.answer(headers, **more)


def upload(request):
    return answer(request, sha256=hashlib.sha256(request["body"]).hexdigest())


def drip():
    body = b"x" * 512
    return server.head("200 OK", [], 512 + 65) + b"y" * 512 + hashlib.sha256(body).hexdigest().encode() + b"\n"


EVENTS = server.head("200 OK", ["Content-Type: text/event-stream"]) + b"event: hello\ndata: " + server.line() + b"\n"
SOCKET = server.head("101 Switching Protocols", ["Upgrade: websocket"]) + server.frame(1, server.line())

# Kind, what the server answers, whether it breaks the connection after it, what the client makes of it (null: well).
CASES = [
    ("short", answer, False, None),
    ("post", upload, False, None),
    ("events", lambda _: EVENTS + b"data: 0\n\nevent: bye\ndata: bye\n\n", False, None),
    ("socket", lambda _: SOCKET + server.frame(8, b"\x03\xe9"), False, None),
    ("short", lambda _: b"", True, "ConnectionResetError"),
    ("short", lambda _: b"", False, "IncompleteReadError"),
    ("short", lambda _: server.head("503 Service Unavailable", [], 5) + b"error", False, "Wrong: 503"),
    ("short", lambda _: server.head("502 Bad Gateway", []), False, "KeyError"),
    ("short", lambda _: b"nonsense\r\n\r\n", False, "IndexError"),
    ("short", lambda _: server.head("200 OK", [], 2) + b"ok", False, "JSONDecodeError"),
    ("short", lambda _: server.head("200 OK", [], 9) + b"half", False, "IncompleteReadError"),
    ("short", lambda _: server.head("200 OK", [], 9) + b"half", True, "ConnectionResetError"),
    ("short", lambda request: answer(request | {"id": "another"}), False, "Wrong: an answer to somebody else"),
    ("post", lambda request: upload(request | {"body": b"less"}), False, "Wrong: a body that arrived changed"),
    ("slow", lambda _: drip(), False, "Wrong: a body that was changed"),
    ("events", lambda _: server.head("503 Service Unavailable", [], 0), False, "Wrong: 503"),
    ("events", lambda _: EVENTS + b"data: 0\n\n", False, "Wrong: cut without a goodbye"),
    ("events", lambda _: EVENTS + b"data: 0\n\n", True, "ConnectionResetError"),
    ("events", lambda _: EVENTS + b"data: 1\n\n", False, "Wrong: event"),
    ("socket", lambda _: server.head("503 Service Unavailable", [], 0), False, "Wrong: 503"),
    ("socket", lambda _: SOCKET, False, "Wrong: cut without a goodbye"),
    ("socket", lambda _: SOCKET, True, "ConnectionResetError"),
    ("socket", lambda _: SOCKET + server.frame(1, b"another"), False, "Wrong: "),
    ("socket", lambda _: SOCKET + server.frame(8, b"\x03\xee"), False, "Wrong: "),
]


class Notes:
    """What a client notes; the first note is the end of its load."""

    def __init__(self):
        self.records, self.client = [], None

    def write(self, line):
        self.records.append(json.loads(line))
        self.client.ended.set()


async def seen(kind, says, breaks):
    """What a client of this kind notes of one answer."""
    async def serve(reader, writer):
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in text.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        writer.write(says({"id": headers["X-Request-ID"], "body": body}))
        await writer.drain()
        if breaks:
            # Without lingering, the end of a connection is a reset.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 21)
    port = listening.sockets[0].getsockname()[1]
    notes = Notes()
    notes.client = one = client.Client(kind, 1, "keep", f"127.0.0.1:{port}", "app.test", notes)
    # Of the two kinds of slow answers the one that can be checked.
    choice, client.random.choice = client.random.choice, lambda kinds: "drip" if "drip" in kinds else choice(kinds)
    try:
        await (one.stream() if kind in ("socket", "events") else one.request())
    finally:
        client.random.choice = choice
        listening.close()
    [record] = notes.records
    return record["why"]


async def what_clients_see():
    found = await asyncio.gather(*(seen(kind, says, breaks) for kind, says, breaks, _ in CASES))
    for (kind, _, breaks, expected), why in zip(CASES, found):
        good = why is None if expected is None else (why or "").startswith(expected)
        assert good, f"{kind}, {'reset' if breaks else 'closed'}: {why!r} instead of {expected!r}"


def verdict(records, lost=(), killed=(), switches=(20.5,)):
    with contextlib.redirect_stdout(io.StringIO()):
        return load.report(records, list(lost), list(killed), 10, 30, list(switches), "no board")


def record(kind="short", keep=True, start=20.0, end=21.0, why=None, **more):
    return {"kind": kind, "keep": keep, "id": "mark", "start": start, "end": end, "why": why, "boot": "boot", **more}


def what_counts():
    well = [record(kind, connection == "keep", start, start + 1) for kind, _, connection in load.LOAD for start in (5, 20)]
    streams = [r for r in well if r["kind"] in ("socket", "events")]
    brief = [r | {"end": 20.1} for r in well if r not in streams]
    failed = record(why="ConnectionResetError: ", id="cut")
    for expected, what in [
        (0, verdict(well)),
        (1, verdict([*well, failed])),
        (1, verdict(well, lost=[("short", 75, "keep")])),
        (8, verdict([r | {"why": "Wrong: 503"} for r in well if r["start"] == 20] + [r for r in well if r["start"] == 5])),
        # Nothing of a kind was sent, or nothing of it went well.
        (1, verdict([r for r in well if r["kind"] != "events"])),
        (3, verdict([r | {"why": "EOFError"} if r["kind"] == "events" else r for r in well])),
        # Streams are always under way; requests must be.
        (1, verdict(streams + brief)),
        (1, verdict(well, switches=[])),
        # In a dyno that was killed, while it was, and not before or elsewhere.
        (0, verdict([*well, failed], killed=[(20.2, 20.4, {"cut"})])),
        (1, verdict([*well, failed], killed=[(20.2, 20.4, {"another"})])),
        (1, verdict([*well, failed], killed=[(21.2, 21.4, {"cut"})])),
        (1, verdict([*well, failed], killed=[(19.2, 19.4, {"cut"})])),
    ]:
        assert what == expected, f"{what} failures instead of {expected}"


if __name__ == "__main__":
    asyncio.run(what_clients_see())
    what_counts()
    print(f"{len(CASES)} answers were seen for what they were")
