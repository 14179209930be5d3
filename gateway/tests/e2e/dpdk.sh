#!/usr/bin/env bash
# dpdk.sh CACHE: the gateway with io.backend = "dpdk" on a TAP device, and the kernel's TCP as its peers: curl, a Python client,
# a Node client, thousands of goim clients of the load generator, packet loss. Needs root: it makes a network namespace.
# The binary needs the feature: cargo build --release -p gateway -p loadtest --features gateway/dpdk
if [ "${IN_NAMESPACE:-}" != yes ]; then
    [ "$(id -u)" = 0 ] || { echo "dpdk.sh needs root: it makes a network namespace and a TAP device" >&2; exit 1; }
    IN_NAMESPACE=yes exec unshare --net "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
cache=$(cd "${1:?usage: dpdk.sh CACHE}" && pwd)
control_port=13111
ip link set lo up

"$gateway" dpdk-check --config "$here/dpdk.toml"

# begin [FLAG…]: a gateway on gateway0, whose other end gets addresses.
begin() {
    start_gateway "$here/dpdk.toml" "$@"
    ip address add 10.77.0.1/24 dev gateway0
    ip address add fd77::1/64 dev gateway0 nodad
    # Clients by the thousand need addresses of their own: 28 000 ports each.
    for last in 10 11 12 13; do ip address add "10.77.0.$last/24" dev gateway0; done
}

for offloads in all none; do
    echo "== offloads: $offloads"
    begin --set "dpdk.offloads=$offloads"
    grep backend "$work/gateway.log"
    for host in 10.77.0.2 '[fd77::2]'; do
        curl -sf -m 90 -o "$work/page" "http://$host:13102/"
        grep -qi '<!doctype html>' "$work/page" || fail "no demo page from $host"
        "$cache/python/bin/python" "$here/client.py" "ws://$host:13102/sub" http://127.0.0.1:13111
    done
    node "$here/client.mjs" "$cache" ws://10.77.0.2:13102/sub
    stop_gateway
done

echo "== a thousand clients at once, with heartbeats, pushes and echoes"
begin --set dpdk.gateway_v4=10.77.0.1
common=(--server 10.77.0.2:13101 --http 127.0.0.1:13111 -c 1000 --connect-timeout 90s --settle 120s
    --goal ready=1 --goal loss=0 --goal violations=0)
run() { # SCENARIO FLAG…
    generate "$@" "${common[@]}" -q
    cat "$work/generator"
}
run push --rate 1000 --duration 3s
run broadcast --rate 2 --duration 3s --warmup 0s

echo "== a second gateway on the interface of the first is refused, and the first loses nothing"
# Other control port, other addresses: only the interface is the same.
sed 's/10\.77\.0\.2/10.77.0.3/; s/13111/13112/' "$here/dpdk.toml" >"$work/second.toml"
"$loadtest" push "${common[@]}" --rate 1000 --duration 6s -q &
load=$!
for command in run dpdk-check run; do
    if timeout 30 "$gateway" "$command" --config "$work/second.toml" >"$work/second" 2>&1; then
        echo "gateway $command passed beside the first" >&2
        exit 1
    fi
    grep -q 'another gateway, or load generator, has gateway0' "$work/second" || { cat "$work/second" >&2; exit 1; }
    for _ in $(seq 5); do curl -sf -m 5 -o /dev/null http://10.77.0.2:13102/; done
    curl -sf -o /dev/null http://127.0.0.1:13111/readyz
done
code=0
wait "$load" || code=$?
sound "$code"
ip link show up dev gateway0 | grep -q LOWER_UP

echo "== the same with one frame in twenty lost each way"
iptables -A INPUT -i gateway0 -m statistic --mode random --probability 0.05 -j DROP
iptables -A OUTPUT -o gateway0 -m statistic --mode random --probability 0.05 -j DROP
run push --rate 300 --duration 3s
iptables -F INPUT
iptables -F OUTPUT

echo "== a narrow link behind the router: the path's MTU is learnt from ICMP"
page=$(stat -c %s "$work/page")
[ "$page" -gt 3000 ] || fail "the demo page has only $page bytes: too few for this"
behind=gateway-test-$$
ip netns add "$behind"
cleanup() { ip netns delete "$behind"; }
ip link add narrow type veth peer name wide netns "$behind"
ip address add 10.78.0.1/24 dev narrow
ip link set narrow mtu 1200 up
ip -n "$behind" address add 10.78.0.2/24 dev wide
ip -n "$behind" link set wide up
ip -n "$behind" route add default via 10.78.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
ip netns exec "$behind" curl -sf -m 90 -o "$work/page2" http://10.77.0.2:13102/
cmp "$work/page" "$work/page2"
mtu_is_learnt() { curl -sf http://127.0.0.1:13111/metrics | grep -Eq '^gateway_stack_events_total\{event="pmtu_updates"\} [1-9]'; }
await "an MTU that is learnt, for something was too big," mtu_is_learnt

"$gateway" dpdk-stats --config "$here/dpdk.toml" | head -12
curl -sf http://127.0.0.1:13111/metrics | promtool check metrics
for cause in tcp_checksum port_segments port_lost_buffer port_refused port_stuck; do
    count=$(curl -sf http://127.0.0.1:13111/metrics | awk -v name="gateway_stack_drops_total{reason=\"$cause\"}" '$1 == name { print $2 }')
    [ "$count" = 0 ] || fail "$count frames were dropped: $cause"
done

echo "== an idle gateway leaves its cores alone"
before=$(awk '{ print $14 + $15 }' "/proc/$gateway_pid/stat")
sleep 5
used=$(($(awk '{ print $14 + $15 }' "/proc/$gateway_pid/stat") - before))
echo "used $used of 500 ticks on two workers"
[ "$used" -lt 100 ] || fail "an idle gateway uses more than a fifth of a core"
stop_gateway
echo "dpdk: ok"
