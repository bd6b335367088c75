"""The app that is changed under load: slow to boot, slow to stop, and careful with whoever is connected.

Standard library only. It boots for BOOT_SECONDS before it listens. After SIGTERM it goes on for STOP_SECONDS, says goodbye
on every stream, finishes the answers that it owes, and exits.

  GET  /                  one line of JSON: who answers, and the id of the request
  GET  /slow/<ms>         the same after a pause of ms
  GET  /drip/<ms>         ms worth of pieces; the last line is the SHA-256 of those before it
  POST /hash              the SHA-256 and the length of the body
  GET  /events            an event stream: numbered events, `bye` as the last one
  GET  /socket            a WebSocket that sends back what it gets; closed with 1001
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import struct
import sys
import time
import uuid

BOOT_SECONDS = float(os.environ.get("BOOT_SECONDS", "3"))
STOP_SECONDS = float(os.environ.get("STOP_SECONDS", "2"))
WHO = {"boot": uuid.uuid4().hex, "dyno": os.environ.get("DYNO"), "release": os.environ.get("HEROKU_RELEASE_VERSION")}
SOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
stopping = asyncio.Event()
owed = set()


def head(status, headers, length=None):
    lines = [f"HTTP/1.1 {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(headers, **more):
    body = line(id=headers.get(b"x-request-id", b"").decode(), **more)
    return head("200 OK", ["Content-Type: application/json"], len(body)) + body


def line(**more):
    return json.dumps(WHO | more).encode() + b"\n"


async def drip(writer, milliseconds):
    pieces, digest = 20, hashlib.sha256()
    piece = lambda i: f"{i:03} {'x' * 507}\n".encode()
    writer.write(head("200 OK", ["Content-Type: text/plain"], pieces * 512 + 65))
    for i in range(pieces):
        digest.update(piece(i))
        writer.write(piece(i))
        await writer.drain()
        await asyncio.sleep(milliseconds / 1000 / pieces)
    writer.write(digest.hexdigest().encode() + b"\n")


async def events(writer):
    writer.write(head("200 OK", ["Content-Type: text/event-stream", "Cache-Control: no-cache", "Connection: close"]))
    writer.write(b"event: hello\ndata: " + line() + b"\n")
    number = 0
    while not await stops_within(0.5):
        writer.write(b"data: %d\n\n" % number)
        await writer.drain()
        number += 1
    writer.write(b"event: bye\ndata: bye\n\n")


async def websocket(reader, writer, key):
    accept = base64.b64encode(hashlib.sha1(key + SOCKET_KEY).digest()).decode()
    writer.write(head("101 Switching Protocols", ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]))
    writer.write(frame(1, line()))
    goodbye = asyncio.create_task(stopping.wait())
    while True:
        message = asyncio.create_task(read_frame(reader))
        await asyncio.wait({message, goodbye}, return_when=asyncio.FIRST_COMPLETED)
        if not message.done():
            message.cancel()
            writer.write(frame(8, struct.pack("!H", 1001)))
            await writer.drain()
            return
        code, payload = message.result()
        if code == 8:
            writer.write(frame(8, payload))
            goodbye.cancel()
            return
        writer.write(frame(code, payload))
        await writer.drain()


def frame(code, payload):
    return bytes([0x80 | code, len(payload)]) + payload if len(payload) < 126 else \
        bytes([0x80 | code, 126]) + struct.pack("!H", len(payload)) + payload


async def read_frame(reader):
    first, length = await reader.readexactly(2)
    length &= 0x7F
    if length == 126:
        length = struct.unpack("!H", await reader.readexactly(2))[0]
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


async def stops_within(seconds):
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
        return True
    except asyncio.TimeoutError:
        return False


async def one(reader, writer):
    """Answers one request. Returns whether the connection goes on."""
    text = await reader.readuntil(b"\r\n\r\n")
    lines = text.split(b"\r\n")
    method, path, _ = lines[0].split(b" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:] if line)}
    owed.add(asyncio.current_task())
    kind, _, rest = path.decode().strip("/").partition("/")
    if kind == "events":
        await events(writer)
        return False
    if kind == "socket":
        await websocket(reader, writer, headers[b"sec-websocket-key"])
        return False
    if kind == "hash" and method == b"POST":
        digest, left = hashlib.sha256(), int(headers[b"content-length"])
        while left:
            piece = await reader.read(min(left, 65536))
            if not piece:
                return False
            digest.update(piece)
            left -= len(piece)
        writer.write(answer(headers, sha256=digest.hexdigest()))
    elif kind == "drip":
        await drip(writer, int(rest))
    else:
        if kind == "slow":
            await asyncio.sleep(int(rest) / 1000)
        writer.write(answer(headers))
    await writer.drain()
    return headers.get(b"connection", b"").lower() != b"close"


async def serve(reader, writer):
    try:
        while await one(reader, writer):
            owed.discard(asyncio.current_task())
        await writer.drain()
    except (OSError, EOFError, asyncio.IncompleteReadError):
        # The other side went away.
        pass
    finally:
        owed.discard(asyncio.current_task())
        writer.close()


async def main():
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    time.sleep(BOOT_SECONDS)
    server = await asyncio.start_server(serve, "0.0.0.0", int(os.environ["PORT"]), backlog=512, limit=1 << 20)
    print("listening", flush=True)
    await told.wait()
    await asyncio.sleep(STOP_SECONDS)
    stopping.set()
    server.close()
    while owed:
        await asyncio.wait(set(owed))
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
