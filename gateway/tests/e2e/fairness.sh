#!/usr/bin/env bash
# fairness.sh [CYCLES]: the echo latency of 200 well-behaved connections, quiet and then beside one connection that sends as
# fast as it can, 100 receivers that stop reading, and broadcasts to everyone; alternating, medians, and their ratio. The
# troublemakers' own processes run at the lowest priority: what is measured is what the gateway does to its clients, not
# what three busy programs do to two processors.
. "$(dirname "$0")/lib.sh"
cycles=${1:-3}
control_port=13111
loadtest=${LOADTEST:-$root/target/release/loadtest}
ulimit -n 20000 2>/dev/null || { echo "needs RLIMIT_NOFILE 20000: raise the hard limit" >&2; exit 1; }
backend=${BACKEND:-io_uring}
start_gateway "$here/e2e.toml" --set "io.backend=$backend" --set io.workers=${WORKERS:-1} --set limits.connections_max=10000 --set drain.drain_ms=0
target=(--server 127.0.0.1:13101 --http 127.0.0.1:13111 --backend io_uring -q)

measure() { # name
    nice -n -5 "$loadtest" echo "${target[@]}" -c 200 --rate 2000 --warmup 1s --duration 5s --json "$work/$1.json" >"$work/$1.out" 2>&1 ||
        { cat "$work/$1.out" >&2; return 1; }
}
renice -n -5 -p "$gateway_pid" >/dev/null 2>&1 || true
for thread in /proc/"$gateway_pid"/task/*; do renice -n -5 -p "${thread##*/}" >/dev/null 2>&1 || true; done
for cycle in $(seq "$cycles"); do
    measure "quiet-$cycle"
    loud=()
    nice -n 19 "$loadtest" echo "${target[@]}" -c 1 --depth 1000 --first-mid 1000000 --duration 12s >"$work/flood" 2>&1 & loud+=($!)
    nice -n 19 "$loadtest" slow-reader "${target[@]}" -c 200 --slow-connections 100 --first-mid 2000000 --duration 12s >"$work/slow" 2>&1 & loud+=($!)
    nice -n 19 "$loadtest" broadcast "${target[@]}" -c 1000 --operation 2001 --rate 2 --first-mid 3000000 --duration 10s >"$work/broadcast" 2>&1 & loud+=($!)
    pids+=("${loud[@]}")
    sleep 3
    measure "loud-$cycle"
    for pid in "${loud[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
    for pid in "${loud[@]}"; do wait "$pid" || true; done
    grep -hE "rate|echo  |delivered" "$work/flood" "$work/broadcast" | head -6
done
python3 - "$work" "$cycles" <<'PY'
import json, statistics, sys
work, cycles = sys.argv[1], int(sys.argv[2])
def latency(name):
    flow = next(one for one in json.load(open(f"{work}/{name}.json"))["flows"] if one["name"] == "echo")
    return {key: flow["latency"][key] / 1e3 for key in ("p50", "p99", "p999")}
runs = [(latency(f"quiet-{cycle}"), latency(f"loud-{cycle}")) for cycle in range(1, cycles + 1)]
for quiet, loud in runs:
    print("  ".join(f"{key} {quiet[key]:.0f} -> {loud[key]:.0f} us" for key in quiet))
ratio = statistics.median(loud["p99"] / quiet["p99"] for quiet, loud in runs)
print(f"p99 beside troublemakers: {ratio:.2f} x its quiet value (median of {cycles}; 3 at most is the aim)")
sys.exit(ratio > 3)
PY
stop_gateway
