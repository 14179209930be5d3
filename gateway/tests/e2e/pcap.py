"""pcap.py FILE COUNT ADDRESS: a capture of exactly COUNT frames in the order of time, taken in the last minute, and each of them TCP to or
from ADDRESS (IPv4), ARP, or IPv6. Says how many went which way."""
import socket
import struct
import sys
import time

path, count, address = sys.argv[1], int(sys.argv[2]), socket.inet_aton(sys.argv[3])
data = open(path, "rb").read()
magic, major, minor, _, _, snap, link = struct.unpack_from("<IHHIIII", data)
assert (magic, major, minor, link) == (0xA1B23C4D, 2, 4, 1), "not a nanosecond pcap of Ethernet"
at, last, found, ways = 24, 0, 0, {"in": 0, "out": 0, "other": 0}
while at < len(data):
    seconds, nanos, kept, size = struct.unpack_from("<IIII", data, at)
    frame = data[at + 16 : at + 16 + kept]
    assert nanos < 10**9 and len(frame) == kept == min(size, snap) and size >= 42, (found, kept, size)
    when = seconds * 10**9 + nanos
    assert when >= last, "times go back"
    at, last, found = at + 16 + kept, when, found + 1
    ether_type = struct.unpack_from(">H", frame, 12)[0]
    assert ether_type in (0x0800, 0x0806, 0x86DD), hex(ether_type)
    if ether_type != 0x0800:
        ways["other"] += 1
        continue
    assert frame[14] == 0x45 and frame[23] == 6, "IPv4 without options, TCP"
    source, destination = frame[26:30], frame[30:34]
    assert address in (source, destination)
    ways["out" if source == address else "in"] += 1
assert found == count, f"{found} frames"
assert ways["in"] and ways["out"], ways
assert abs(time.time() - last / 1e9) < 60, "not the last ones"
print(f"  {found} frames: {ways['in']} in, {ways['out']} out, {ways['other']} other")
