"""client.py WEBSOCKET_URL HTTP_URL: a Python asyncio client (the `websockets` package) speaks goim over WebSocket.

Logs two users in, beats, sends between them and to a room, and receives a push made over HTTP."""

import asyncio
import json
import struct
import sys
import urllib.request

import websockets


def frame(operation, sequence, body=b""):
    return struct.pack(">IHHii", 16 + len(body), 16, 1, operation, sequence) + body


def frames(message):
    while message:
        size, _, _, operation, sequence = struct.unpack(">IHHii", message[:16])
        yield operation, sequence, message[16:size]
        message = message[size:]


class Client:
    """One connection; frames are read in order."""

    def __init__(self, socket):
        self.socket = socket
        self.waiting = []

    async def send(self, operation, sequence, body=b""):
        await self.socket.send(frame(operation, sequence, body))

    async def read(self):
        while not self.waiting:
            self.waiting.extend(frames(await asyncio.wait_for(self.socket.recv(), 10)))
        return self.waiting.pop(0)

    async def ask(self, operation, sequence, body=b""):
        await self.send(operation, sequence, body)
        return await self.read()

    async def login(self, mid, room=""):
        body = json.dumps({"mid": mid, "key": "", "room_id": room, "platform": "python", "accepts": [1000, 1001]})
        assert await self.ask(7, 1, body.encode()) == (8, 1, b"")


def send_message(kind, target, payload):
    return struct.pack(">BBHiI", kind, len(target), 0, 1000, 0) + target + payload


async def main(websocket_url, http_url):
    async with websockets.connect(websocket_url) as one, websockets.connect(websocket_url) as two:
        alice, bob = Client(one), Client(two)
        await alice.login(1, "chat://python")
        await bob.login(2, "chat://python")
        operation, sequence, body = await alice.ask(2, 9)
        assert (operation, sequence) == (3, 9) and struct.unpack(">i", body)[0] in (1, 2), body

        await alice.send(4, 5, send_message(1, struct.pack(">q", 2), "grüße".encode()))
        assert await bob.read() == (1000, 0, "grüße".encode())
        assert await alice.read() == (5, 5, struct.pack(">iI", 0, 1))

        await bob.send(4, 6, send_message(3, b"chat://python", b"to the room"))
        assert await alice.read() == (1000, 0, b"to the room")
        seen = [await bob.read(), await bob.read()]
        assert (1000, 0, b"to the room") in seen and (5, 6, struct.pack(">iI", 0, 2)) in seen, seen

        push = urllib.request.Request(f"{http_url}/goim/push/mids?operation=1001&mids=2", data=b"pushed", method="POST")
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(push, timeout=5).read())
        assert json.loads(answer)["code"] == 0, answer
        assert await bob.read() == (1001, 0, b"pushed")
    print("python: ok")


asyncio.run(main(*sys.argv[1:]))
