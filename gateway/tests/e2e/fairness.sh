#!/usr/bin/env bash
# fairness.sh [CYCLES]: the echo latency of 200 well-behaved connections, quiet and then beside one connection that sends as
# fast as it can, 100 receivers that stop reading, and broadcasts to everyone; alternating, medians, and their ratio.
# What is measured is what the gateway does to its clients, not what three busy programs do to two processors: the gateway
# has processor 0 for itself, and on processor 1 the measuring client comes before the troublemakers (SCHED_FIFO; needs
# CAP_SYS_NICE). The machine's own lateness there, of a thread that only sleeps, is printed beside it, quiet and loud (a kernel that
# does not preempt itself lets it wait for others' system calls), and the gateway's turns.
. "$(dirname "$0")/lib.sh"
cycles=${1:-5}
control_port=13111
ulimit -n 20000 2>/dev/null || fail "needs RLIMIT_NOFILE 20000: raise the hard limit"
backend=${BACKEND:-io_uring}
start_gateway "$here/e2e.toml" --set "io.backend=$backend" --set io.workers=${WORKERS:-1} --set limits.connections_max=10000 --set drain.drain_ms=0
target=(--server 127.0.0.1:13101 --http 127.0.0.1:13111 --backend io_uring -q)

lateness() { # WHEN: of a thread that wants to run every millisecond where the measuring client runs, in microseconds
    taskset -c 1 chrt -f 1 python3 - "$1" <<'PY'
import sys, time
late, due = [], time.monotonic()
for _ in range(2000):
    due += 0.001
    time.sleep(max(0, due - time.monotonic()))
    late.append((time.monotonic() - due) * 1e6)
late.sort()
print(f"{sys.argv[1]}: a sleeping thread wakes late by p50 {late[1000]:.0f} us, p99 {late[1980]:.0f} us, p999 {late[1998]:.0f} us")
PY
}
turns() { # NAME: the gateway's turns so far
    curl -sf "http://127.0.0.1:13111/metrics" | grep '^gateway_turn_duration_seconds_bucket' >"$work/$1"
}
measure() { # name
    turns "$1.before"
    taskset -c 1 chrt -f 1 "$loadtest" echo "${target[@]}" -c 200 --rate 2000 --warmup 1s --duration 5s --json "$work/$1.json" >"$work/$1.out" 2>&1 ||
        sound $? || # late by itself; the comparison below judges
        { cat "$work/$1.out" >&2; return 1; }
    turns "$1.after"
}
loud() { # what to run beside
    taskset -c 1 nice -n 19 "$loadtest" "$@" >"$work/loud-${#loud[@]}" 2>&1 & loud+=($!)
}
taskset -a -p -c 0 "$gateway_pid" >/dev/null
lateness quiet
for cycle in $(seq "$cycles"); do
    measure "quiet-$cycle"
    loud=()
    loud echo "${target[@]}" -c 1 --depth 1000 --first-mid 1000000 --duration 14s
    loud slow-reader "${target[@]}" -c 200 --slow-connections 100 --first-mid 2000000 --duration 14s
    loud broadcast "${target[@]}" -c 1000 --operation 2001 --rate 2 --first-mid 3000000 --duration 12s
    pids+=("${loud[@]}")
    sleep 3
    lateness loud
    measure "loud-$cycle"
    for pid in "${loud[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
    for pid in "${loud[@]}"; do wait "$pid" || true; done
    grep -h "closed, depth" "$work/loud-0"
done
lateness quiet
python3 - "$work" "$cycles" <<'PY'
import json, statistics, sys
work, cycles = sys.argv[1], int(sys.argv[2])
def latency(name):
    flow = next(one for one in json.load(open(f"{work}/{name}.json"))["flows"] if one["name"] == "echo")
    return {key: flow["latency"][key] / 1e3 for key in ("p50", "p99", "p999")}
def turn(name, share):
    """Upper bound of the bucket that holds this share of the turns."""
    def read(path):
        lines = (line.rsplit(" ", 1) for line in open(path))
        return {key.split('le="')[1].split('"')[0]: float(count) for key, count in lines}
    before, after = read(f"{work}/{name}.before"), read(f"{work}/{name}.after")
    grown = {float(bound): after[bound] - before[bound] for bound in after}
    return min(bound for bound, count in grown.items() if count >= share * grown[float("inf")]) * 1e6
runs = [(latency(f"quiet-{cycle}"), latency(f"loud-{cycle}")) for cycle in range(1, cycles + 1)]
for quiet, loud in runs:
    print("  ".join(f"{key} {quiet[key]:.0f} -> {loud[key]:.0f} us" for key in quiet))
for name in ("quiet", "loud"):
    turns = [[turn(f"{name}-{cycle}", share) for cycle in range(1, cycles + 1)] for share in (0.5, 0.99, 0.999)]
    print(f"turns of the worker, {name}: p50 {statistics.median(turns[0]):.0f}, p99 {statistics.median(turns[1]):.0f}, "
          f"p999 {statistics.median(turns[2]):.0f} us at most")
ratio = statistics.median(loud["p99"] / quiet["p99"] for quiet, loud in runs)
print(f"p99 beside troublemakers: {ratio:.2f} x its quiet value (median of {cycles}; 3 at most is the aim)")
sys.exit(ratio > 3)
PY
stop_gateway
