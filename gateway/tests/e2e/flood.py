"""flood.py PORT SECONDS: one user's heartbeats, quiet and then beside another's flood of 64-byte messages to it.

The victim reads all that it gets. The sender sends quiet SendMessages as fast as its socket takes them, and comes back when it is
closed. Fails when the victim is closed, when its heartbeat's p99 exceeds three times the quiet value, or when the sender is not
slowed, then refused with 429, then closed with 3004, in this order."""

import json
import multiprocessing
import select
import socket
import struct
import sys
import time

BEAT_EVERY = 0.005
# A scheduler's whim on a crowded machine is longer than a quiet heartbeat of 0.1 ms.
FLOOR = 0.002


def frame(operation, sequence, body=b""):
    return struct.pack(">IHHii", 16 + len(body), 16, 1, operation, sequence) + body


class Connection:
    def __init__(self, port, mid):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        body = json.dumps({"mid": mid, "key": "", "room_id": "", "platform": "flood", "accepts": [1000]})
        self.socket.sendall(frame(7, 1, body.encode()))
        assert self.wait(8), "no login"

    def frames(self):
        """What has come whole; None at the end of the stream."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            data = None
        except ConnectionError:
            return None
        if data == b"":
            return None
        self.buffer += data or b""
        found, at = [], 0
        while len(self.buffer) - at >= 16:
            size, _, _, operation, sequence = struct.unpack_from(">IHHii", self.buffer, at)
            if len(self.buffer) - at < size:
                break
            found.append((operation, sequence, self.buffer[at + 16 : at + size]))
            at += size
        self.buffer = self.buffer[at:]
        return found

    def wait(self, operation):
        while True:
            for found in self.frames():
                if found[0] == operation:
                    return found


def beat(port, mid, seconds, pushes):
    """Round-trip times of heartbeats, and how many pushes came beside them."""
    victim = Connection(port, mid)
    times, sent, end = [], {}, time.monotonic() + seconds
    due, sequence = time.monotonic(), 0
    while time.monotonic() < end:
        now = time.monotonic()
        if now >= due:
            sequence += 1
            sent[sequence] = now
            victim.socket.sendall(frame(2, sequence))
            due = max(due + BEAT_EVERY, now)
        if not select.select([victim.socket], [], [], max(0, due - time.monotonic()))[0]:
            continue
        found = victim.frames()
        assert found is not None, "the victim was closed"
        for operation, number, body in found:
            assert operation != 111, f"the victim was closed with {struct.unpack_from('>H', body)[0]}"
            pushes.value += operation == 1000
            if operation == 3:
                times.append(time.monotonic() - sent.pop(number))
    return sorted(times)


def percentile(times, share):
    return times[min(len(times) - 1, int(share * len(times)))]


def flood(port, target, seconds, told):
    """Sends to `target` until the time is over; puts (seconds since the login, what happened) into `told`."""
    message = struct.pack(">BBHiIq", 1, 8, 4, 1000, 0, target) + b"x" * 64
    burst = b"".join(frame(4, number, message) for number in range(1000))
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        sender = Connection(port, 1_000_000)
        sender.socket.setblocking(False)
        start, waited, refused, rest = time.monotonic(), False, 0, burst
        while time.monotonic() < end:
            readable, writable, _ = select.select([sender.socket], [sender.socket], [], 0.05)
            since = time.monotonic() - start
            if not writable and not waited:
                waited = True
                told.put((number, since, "slowed"))
            try:
                if writable:
                    rest = rest[sender.socket.send(rest) :] or burst
                found = sender.frames() if readable else []
            except ConnectionError:
                found = None
            if found is None:
                break
            for operation, _, body in found:
                if operation == 112 and struct.unpack_from(">H", body)[0] == 429:
                    refused += 1
                    if refused == 1:
                        told.put((number, since, "refused"))
                elif operation == 111:
                    told.put((number, since, f"closed {struct.unpack_from('>H', body)[0]}"))
        sender.socket.close()


def main(port, seconds):
    pushes = multiprocessing.Value("q", 0)
    quiet = beat(port, 7, max(10, seconds // 6), pushes)
    told = multiprocessing.Queue()
    sender = multiprocessing.Process(target=flood, args=(port, 7, seconds, told))
    sender.start()
    loud = beat(port, 7, seconds, pushes)
    sender.join()
    events = []
    while not told.empty():
        events.append(told.get())
    for number, since, what in events:
        print(f"sender, login {number}: after {since:6.2f} s {what}")
    p50, p99 = ([percentile(times, share) for times in (quiet, loud)] for share in (0.5, 0.99))
    print(f"victim: {len(loud)} heartbeats beside {pushes.value} messages of the flood, none missing its answer")
    print(f"victim's heartbeat: p50 {p50[0] * 1e6:.0f} -> {p50[1] * 1e6:.0f} us, p99 {p99[0] * 1e6:.0f} -> {p99[1] * 1e6:.0f} us")
    order = [what for number, _, what in events if number == 1]
    assert order == ["slowed", "refused", "closed 3004"], order
    assert p99[1] <= max(3 * p99[0], FLOOR), "the victim's p99 exceeds three times its quiet value"


main(int(sys.argv[1]), int(sys.argv[2]))
