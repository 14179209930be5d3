#!/usr/bin/env bash
# memif.sh: gateway and load generator, each with a TCP/IP stack of its own, on a link in shared memory (DPDK's memif): no card, no
# huge pages, no kernel in between. Thousands of connections through logins, echoes, pushes, rooms, broadcasts and reconnects, over
# TCP and WebSocket, IPv4 and IPv6. Nothing may be lost, doubled or reordered, and everybody must be gone at the end.
# The binaries need the feature: cargo build --release -p gateway -p loadtest --features gateway/dpdk,loadtest/dpdk
. "$(dirname "$0")/lib.sh"
loadtest=${LOADTEST:-$root/target/release/loadtest}
control_port=13211
link=id=0,socket=$work/memif.sock,socket-abstract=no

# generate SCENARIO FLAG…: the generator on the other end of the link.
generate() {
    "$loadtest" "$@" --backend dpdk --dpdk-device "net_memif0,role=client,$link" --http 127.0.0.1:$control_port \
        --connect-timeout 30s --warmup 0s --settle 15s --goal ready=1 loss=0 violations=0 -q >"$work/out" 2>&1 ||
        { cat "$work/out" >&2; exit 1; }
    grep -E '^ *connections|latency|reconnects' "$work/out"
}

# metric NAME: its value.
metric() {
    curl -sf "http://127.0.0.1:$control_port/metrics" | awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }'
}

echo "== nobody at the other end"
if "$loadtest" idle -q --backend dpdk --dpdk-device "net_memif0,role=client,$link" -c 1 >"$work/out" 2>&1; then
    echo "a link without another end passed" >&2
    exit 1
fi
grep -q 'start the gateway first' "$work/out" || { cat "$work/out" >&2; exit 1; }

start_gateway "$here/memif.toml" --set "dpdk.devices=[\"net_memif0,role=server,$link\"]"
grep backend "$work/gateway.log"

tcp=10.77.0.2:13201
echo "== echo, 4 in a write"
generate echo --server $tcp -c 4000 --depth 4 --duration 2s
echo "== pushes"
generate push --server $tcp -c 4000 --rate 1000 --duration 2s --heartbeat 1s
echo "== broadcast, over WebSocket"
generate broadcast --server 10.77.0.2:13202 --transport ws -c 4000 --rate 4 --duration 2s
echo "== rooms, over IPv6"
generate room --server '[fd77::2]:13203' --dpdk-address fd77::100/64 --source-addresses 3 -c 4000 --room-size 100 --rate 200 --duration 2s
echo "== reconnects"
generate churn --server $tcp -c 1000 --rate 500 --duration 2s

echo "== the last 5000 frames"
"$gateway" dpdk-capture --config "$here/memif.toml" "$work/last.pcap"
python3 "$here/pcap.py" "$work/last.pcap" 5000 10.77.0.2
if command -v tcpdump >/dev/null; then
    [ "$(tcpdump -nr "$work/last.pcap" 2>/dev/null | wc -l)" = 5000 ] || { echo "tcpdump reads something else" >&2; exit 1; }
fi

echo "== everybody left"
for _ in $(seq 50); do
    left=$(curl -sf "http://127.0.0.1:$control_port/metrics" | awk '/^gateway_connections[{ ]/ { sum += $2 } END { print sum + 0 }')
    [ "$left" = 0 ] && break
    sleep 0.1
done
[ "$left" = 0 ] || { echo "$left connections are left" >&2; exit 1; }
for reason in tcp_checksum port_segments port_lost_buffer port_refused port_stuck; do
    count=$(metric "gateway_stack_drops_total{reason=\"$reason\"}")
    [ "$count" = 0 ] || { echo "$count frames were dropped: $reason" >&2; exit 1; }
done
stop_gateway
echo "memif: ok"
