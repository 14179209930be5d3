#!/usr/bin/env bash
# memif.sh: gateway and load generator, each with a TCP/IP stack of its own, on a link in shared memory (DPDK's memif): no card, no
# huge pages, no kernel in between. Thousands of connections through logins, echoes, pushes, rooms, broadcasts and reconnects, over
# TCP and WebSocket, IPv4 and IPv6. Nothing may be lost, doubled or reordered, and everybody must be gone at the end.
# The binaries need the feature: cargo build --release -p gateway -p loadtest --features gateway/dpdk,loadtest/dpdk
. "$(dirname "$0")/lib.sh"
control_port=13211
link=id=0,socket=$work/memif.sock,socket-abstract=no

# run SCENARIO FLAG…: the generator on the other end of the link.
run() {
    generate "$@" --backend dpdk --dpdk-device "net_memif0,role=client,$link" --http 127.0.0.1:$control_port \
        --connect-timeout 90s --warmup 0s --settle 120s --goal ready=1 violations=0 "${goals[@]}" -q
    grep -E '^ *connections|latency|reconnects' "$work/generator"
}

# metric NAME: its value.
metric() {
    curl -sf "http://127.0.0.1:$control_port/metrics" | awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }'
}

echo "== nobody at the other end"
if "$loadtest" idle -q --backend dpdk --dpdk-device "net_memif0,role=client,$link" -c 1 >"$work/out" 2>&1; then
    fail "a link without another end passed"
fi
grep -q 'start the gateway first' "$work/out" || { cat "$work/out"; fail "nothing says that the gateway is missing"; }

start_gateway "$here/memif.toml" --set "dpdk.devices=[\"net_memif0,role=server,$link\"]"
grep backend "$work/gateway.log"

tcp=10.77.0.2:13201
goals=(loss=0)
echo "== echo, 4 in a write"
run echo --server $tcp -c 4000 --depth 4 --duration 2s
echo "== pushes"
run push --server $tcp -c 4000 --rate 1000 --duration 2s --heartbeat 1s
echo "== broadcast, over WebSocket"
run broadcast --server 10.77.0.2:13202 --transport ws -c 4000 --rate 4 --duration 2s
echo "== rooms, over IPv6"
run room --server '[fd77::2]:13203' --dpdk-address fd77::100/64 --source-addresses 3 -c 4000 --room-size 100 --rate 200 --duration 2s
echo "== reconnects"
# Nothing is owed, so there is no loss to judge.
goals=()
run churn --server $tcp -c 1000 --rate 500 --duration 2s

echo "== the last 5000 frames"
"$gateway" dpdk-capture --config "$here/memif.toml" "$work/last.pcap"
python3 "$here/pcap.py" "$work/last.pcap" 5000 10.77.0.2
if command -v tcpdump >/dev/null; then
    [ "$(tcpdump -nr "$work/last.pcap" 2>/dev/null | wc -l)" = 5000 ] || fail "tcpdump reads something else"
fi

echo "== everybody left"
is_empty() {
    local left
    left=$(curl -sf "http://127.0.0.1:$control_port/metrics" | awk '/^gateway_connections[{ ]/ { sum += $2 } END { print sum + 0 }') &&
        [ "$left" = 0 ]
}
await "a gateway without connections" is_empty
for cause in tcp_checksum port_segments port_lost_buffer port_refused port_stuck; do
    count=$(metric "gateway_stack_drops_total{reason=\"$cause\"}")
    [ "$count" = 0 ] || fail "$count frames were dropped: $cause"
done
stop_gateway
echo "memif: ok"
