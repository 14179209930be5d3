#!/usr/bin/env bash
# restart.sh [CONNECTIONS] [PAIRS]: a gateway with so many connections (3 000; the case is 150 000) is killed and started
# again at once, and must serve as soon as the kernel lets it, without ever failing; then so many pairs of gateways (10; the
# case is 50) start at the same moment, and of each exactly one must serve.
. "$(dirname "$0")/lib.sh"
control_port=13111
connections=${1:-${CONNECTIONS:-3000}}
pairs=${2:-${PAIRS:-10}}
backend=${BACKEND:-io_uring}
flags=(--set "io.backend=$backend" --set io.workers=0 --set "limits.connections_max=$((connections + 1000))")

start_gateway "$here/e2e.toml" "${flags[@]}"
"$loadtest" idle --server 127.0.0.1:13101 -c "$connections" --duration 600s --warmup 0s --connect-timeout 90s --connect-rate 3000 --connect-retries 20 \
    --source-addresses 32 --backend auto --workers $((connections / 15000 + 1)) >"$work/generator" 2>&1 &
pids+=($!)
clients=$!
for _ in $(seq 600); do
    open=$(curl -sf http://127.0.0.1:13111/metrics | awk '/^gateway_sessions /{print int($2)}' || true)
    [ "${open:-0}" -ge "$connections" ] && break
    ! ended "$clients" || fail "the load generator ended early"
    sleep 0.5
done
[ "${open:-0}" -ge "$connections" ] || fail "only $open of $connections are connected"
kill -9 "$gateway_pid"
began=$(date +%s.%N)
"$gateway" run --config "$here/e2e.toml" "${flags[@]}" >"$work/gateway.log" 2>&1 &
gateway_pid=$!
pids+=("$gateway_pid")
until curl -sf -o /dev/null http://127.0.0.1:13111/readyz; do
    fail_if_ended "$gateway_pid" "the start after the kill failed"
    sleep 0.02
done
ended=$(date +%s.%N)
kill "$clients" 2>/dev/null || true
echo "$backend: killed with $open connections, serving again after $(awk "BEGIN {printf \"%.2f\", $ended - $began}") s;" \
    "$(grep -c 'no living process' "$work/gateway.log" || true) lines said that it waited"
stop_gateway

# what_it_said LOG…: the last lines of logs, for a gateway that is gone.
what_it_said() {
    local log
    for log in "$@"; do
        echo "--- the end of ${log##*/}"
        cut -c 1-300 "$log" | tail -8
    done >&2
}

# Whether of two gateways one serves and the other has ended, or both have.
decided() {
    { ended "$one" || ended "$two"; } || return 1
    { ended "$one" && ended "$two"; } || grep -q ' serving ' "$work/one.log" "$work/two.log"
}
both=0 none=0
for _ in $(seq "$pairs"); do
    "$gateway" run --config "$here/e2e.toml" --set "io.backend=$backend" >"$work/one.log" 2>&1 & one=$!
    "$gateway" run --config "$here/e2e.toml" --set "io.backend=$backend" --set control.address=127.0.0.1:13112 >"$work/two.log" 2>&1 & two=$!
    pids=("$one" "$two")
    await "one of two gateways that serves, and one that ends" decided
    serving=0
    for pid in "$one" "$two"; do kill -0 "$pid" 2>/dev/null && serving=$((serving + 1)); done
    [ "$serving" = 2 ] && both=$((both + 1))
    [ "$serving" = 1 ] || what_it_said "$work/one.log" "$work/two.log"
    [ "$serving" = 0 ] && none=$((none + 1))
    kill "$one" "$two" 2>/dev/null || true
    wait "$one" "$two" 2>/dev/null || true
done
pids=()
echo "$pairs pairs started at once: $both served both, $none served none"
[ "$both$none" = 00 ] || fail "of two gateways that start at once exactly one must serve"
