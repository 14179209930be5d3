#!/usr/bin/env bash
# slow_readers.sh [CYCLES]: a room of 300 that is sent RATE messages of 32 bytes a second (300), quiet and then beside 20 members that
# never read; alternating, medians, and the ratio of their p99. No reading member may be closed or lose a message.
# The gateway has processor 0, the generator processor 1: RATE=1000 is 300 000 deliveries a second, more than one processor's worth.
# BACKEND: io_uring or epoll; both by default.
. "$(dirname "$0")/lib.sh"
cycles=${1:-3}
control_port=13111
loadtest=${LOADTEST:-$root/target/release/loadtest}
rate=${RATE:-300}

measure() { # NAME SLOW
    taskset -c 1 "$loadtest" slow-reader --server 127.0.0.1:13101 --http "127.0.0.1:$control_port" -c 300 --slow-connections "$2" --rate "$rate" \
        --size 32 --warmup 1s --duration "${SECONDS_EACH:-10}s" --settle 60s -q --json "$work/$1.json" >"$work/$1.out" 2>&1 ||
        sound $? || # late by itself; the medians below judge
        { cat "$work/$1.out" >&2; return 1; }
}
for backend in ${BACKEND:-io_uring epoll}; do
    start_gateway "$here/../../../configs/gateway.dev.toml" --set "io.backend=$backend" --set io.workers=1 --set drain.drain_ms=0 \
        --set listener.tcp.address=127.0.0.1:13101 --set listener.websocket.address=127.0.0.1:0 --set listener.echo.address=127.0.0.1:0 \
        --set "control.address=127.0.0.1:$control_port"
    taskset -a -p -c 0 "$gateway_pid" >/dev/null
    for cycle in $(seq "$cycles"); do
        measure "quiet-$cycle" 0
        measure "loud-$cycle" 20
    done
    curl -sf "http://127.0.0.1:$control_port/metrics" >"$work/metrics"
    stop_gateway
    python3 - "$work" "$cycles" "$backend" <<'PY'
import json, statistics, sys
work, cycles, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def run(name):
    report = json.load(open(f"{work}/{name}.json"))
    flow = report["flows"][0]
    return {"p50": flow["latency"]["p50"] / 1e3, "p99": flow["latency"]["p99"] / 1e3, "max": flow["latency"]["max"] / 1e3,
            "lost": flow["conservation"]["lost"], "owed": flow["conservation"]["owed"], "rate": flow["delivered"],
            "slow_closed": (report["slow_readers"] or {}).get("closed_by_server", 0),
            "cpu": report["server"]["cpu_nanos_per_message"] / 1e3, "starved": max(report["generator"]["starved"])}
runs = [(run(f"quiet-{cycle}"), run(f"loud-{cycle}")) for cycle in range(1, cycles + 1)]
for quiet, loud in runs:
    print(f"{backend}: p99 {quiet['p99']:.0f} -> {loud['p99']:.0f} us, max {quiet['max']:.0f} -> {loud['max']:.0f} us; {loud['rate']:.0f} "
          f"deliveries/s at {loud['cpu']:.2f} us of CPU each; lost {quiet['lost']}, {loud['lost']} of {loud['owed']}; "
          f"the generator waited {loud['starved']:.0%} of the time for a processor")
ratio = statistics.median(loud["p99"] / quiet["p99"] for quiet, loud in runs)
late = statistics.median(loud["max"] / quiet["p99"] for quiet, loud in runs)
closed = sum(loud["slow_closed"] for _, loud in runs)
print(f"{backend}: p99 beside 20 that never read: {ratio:.2f} x its quiet value (median of {cycles}; 3 at most is the aim); the latest "
      f"message of all {late:.2f} x; {closed} slow readers were closed in mid-run")
for line in open(f"{work}/metrics"):
    if line.startswith(("gateway_slow_consumer_closes_total", "gateway_dropped_messages_total", "gateway_connection_ends_total{by=\"server\"")):
        if not line.rstrip().endswith(" 0"):
            print("  " + line.rstrip())
sys.exit(ratio > 3 or any(one["lost"] for pair in runs for one in pair))
PY
done
