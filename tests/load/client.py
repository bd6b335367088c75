"""One client process of the load: requests at a steady rate, or streams that are held. It never tries again.

Usage: client.py KIND RATE CONNECTION HOST:PORT NAME FILE
  KIND        short, slow, post (RATE requests a second), socket, events (RATE streams at once)
  CONNECTION  keep, close
  NAME        what goes into `Host`
  FILE        gets one line of JSON per request or stream: kind, id, start, end (seconds since 1970), why (null when all
              was well), boot (which process of the app answered)

Ends at end of input, after what is under way.
"""

import asyncio
import base64
import hashlib
import json
import os
import random
import struct
import sys
import time
import uuid

PATIENCE = 60
BODY = os.urandom(1 << 20)
BODY_HASH = hashlib.sha256(BODY).hexdigest()


class Wrong(Exception):
    """What came back is not what the app sends."""


class Client:
    def __init__(self, kind, rate, connection, address, name, out):
        self.kind, self.rate, self.keep, self.name, self.out = kind, rate, connection == "keep", name, out
        self.host, _, self.port = address.rpartition(":")
        self.idle, self.tasks = [], set()
        self.ended = asyncio.Event()

    async def run(self):
        loop = asyncio.get_running_loop()
        # The end of standard input is the end of the load, however the other side came to it.
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self.begin(self.watch(reader))
        if self.kind in ("socket", "events"):
            await asyncio.gather(*(self.stream() for _ in range(int(self.rate))))
        else:
            await self.steadily()
        while pending := {task for task in self.tasks if not task.done()}:
            await asyncio.wait(pending)

    def begin(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def watch(self, reader):
        await reader.read()
        self.ended.set()

    async def steadily(self):
        first, i = time.monotonic(), 0
        while not self.ended.is_set():
            await asyncio.sleep(max(0, first + i / self.rate - time.monotonic()))
            self.begin(self.request())
            i += 1

    async def request(self):
        mark = uuid.uuid4().hex
        start, why, boot = time.time(), None, None
        try:
            boot = await asyncio.wait_for(self.exchange(mark), PATIENCE)
        # Whatever it was: the visitor has no answer, and that must not go unseen.
        except Exception as e:
            why = f"{type(e).__name__}: {e}"
        self.note(mark, start, why, boot)

    def note(self, mark, start, why, boot):
        line = {"kind": self.kind, "keep": self.keep, "id": mark, "start": start, "end": time.time(), "why": why, "boot": boot}
        self.out.write(json.dumps(line) + "\n")

    def head(self, method, path, mark, *more):
        connection = [] if self.keep or more and more[0].startswith("Connection") else ["Connection: close"]
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.name}", f"X-Request-ID: {mark}", *connection, *more]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def connect(self):
        return await asyncio.open_connection(self.host, int(self.port), limit=1 << 20)

    def take_idle(self):
        """The connection used last that the server has not closed since: every client looks before it sends on one."""
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def exchange(self, mark):
        reader, writer = self.take_idle() or await self.connect()
        good = False
        try:
            duration = random.randint(200, 5000)
            kind = random.choice(("slow", "drip")) if self.kind == "slow" else self.kind
            if kind == "post":
                writer.write(self.head("POST", "/hash", mark, f"Content-Length: {len(BODY)}") + BODY)
            else:
                writer.write(self.head("GET", {"short": "/"}.get(kind, f"/{kind}/{duration}"), mark))
            await writer.drain()
            status, headers = await self.answer_head(reader)
            body = await reader.readexactly(int(headers["content-length"]))
            if status != "200":
                raise Wrong(f"{status} {body[:80]!r}")
            if kind == "drip":
                if hashlib.sha256(body[:-65]).hexdigest() != body[-65:-1].decode():
                    raise Wrong("a body that was changed")
                boot = None
            else:
                said = json.loads(body)
                boot = said["boot"]
                if said["id"] != mark:
                    raise Wrong("an answer to somebody else")
                if kind == "post" and said["sha256"] != BODY_HASH:
                    raise Wrong("a body that arrived changed")
            good = self.keep and headers.get("connection", "").lower() != "close"
            return boot
        finally:
            if good:
                self.idle.append((reader, writer))
            else:
                writer.close()

    async def answer_head(self, reader):
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = text.split("\r\n")
        return status.split(" ")[1], {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines if line)}

    async def stream(self):
        """Holds one stream after the other, each until the app says goodbye."""
        while not self.ended.is_set():
            mark = uuid.uuid4().hex
            start, why = time.time(), None
            try:
                boot = await (self.socket(mark) if self.kind == "socket" else self.events(mark))
            except Exception as e:
                boot, why = None, f"{type(e).__name__}: {e}"
            self.note(mark, start, why, boot)
            if why:
                await asyncio.sleep(1)

    async def next(self, work, pause=None):
        """What `work` reads; none when the load ends, or the pause does, before it comes."""
        work, ended = asyncio.ensure_future(work), asyncio.ensure_future(self.ended.wait())
        done, _ = await asyncio.wait({work, ended}, timeout=pause or PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if work in done:
            return work.result()
        work.cancel()
        await asyncio.wait({work})
        if not done and not pause:
            raise Wrong("a stream that says nothing")
        return None

    async def events(self, mark):
        reader, writer = await self.connect()
        try:
            writer.write(self.head("GET", "/events", mark))
            status, headers = await self.answer_head(reader)
            if status != "200":
                raise Wrong(f"{status}")
            boot, number, rest = None, 0, b""
            chunked = headers.get("transfer-encoding") == "chunked"
            while True:
                piece = await self.next(self.chunk(reader) if chunked else reader.read(65536))
                if piece is None:
                    return boot
                rest += piece
                *whole, rest = rest.split(b"\n\n")
                for event in whole:
                    if event.startswith(b"event: hello"):
                        boot = json.loads(event.split(b"data: ", 1)[1])["boot"]
                    elif event.startswith(b"event: bye"):
                        return boot
                    elif event != b"data: %d" % number:
                        raise Wrong(f"event {event[:40]!r} instead of {number}")
                    else:
                        number += 1
                if not piece:
                    raise Wrong("cut without a goodbye")
        finally:
            writer.close()

    async def chunk(self, reader):
        length = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(length + 2))[:-2]

    async def socket(self, mark):
        reader, writer = await self.connect()
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(self.head("GET", "/socket", mark, "Connection: Upgrade", "Upgrade: websocket",
                                   "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"))
            status, _ = await self.answer_head(reader)
            if status != "101":
                raise Wrong(f"{status}")
            boot, number = json.loads((await self.frame(reader))[1])["boot"], 0
            while True:
                text, mask = f"{mark} {number}".encode(), os.urandom(4)
                writer.write(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
                echo = await self.next(self.frame(reader))
                if echo == (1, text):
                    # Between two messages only a goodbye may come.
                    echo = await self.next(self.frame(reader), 0.5)
                    number += 1
                if echo is None and self.ended.is_set():
                    return boot
                if echo == (8, struct.pack("!H", 1001)):
                    return boot
                if echo:
                    raise Wrong(f"{echo} instead of {text!r}")
        except asyncio.IncompleteReadError:
            raise Wrong("cut without a goodbye") from None
        finally:
            writer.close()

    async def frame(self, reader):
        first, length = await reader.readexactly(2)
        if length == 126:
            length = struct.unpack("!H", await reader.readexactly(2))[0]
        return first & 0x0F, await reader.readexactly(length)


async def main():
    kind, rate, connection, address, name, path = sys.argv[1:]
    with open(path, "w", buffering=1 << 16) as out:
        await Client(kind, float(rate), connection, address, name, out).run()


if __name__ == "__main__":
    asyncio.run(main())
