#!/usr/bin/env bash
# memory.sh: resident memory of the gateway per idle session: 15 000 logged-in connections in three rooms each, on io_uring
# and on epoll; at most 512 B each, or it fails. Other sizes: memory.sh -c 5000 --room-size 10 (flags of loadtest). With
# --store FILE as its first two words the figures go into FILE, which the table of docs/benchmarks.md is made of.
. "$(dirname "$0")/lib.sh"
control_port=13111
store=
if [ "${1-}" = --store ]; then store=$(realpath -m "${2?--store needs a file}"); shift 2; fi
# store_figures BACKEND: the run's growth a session, in place of the one of the same sizes and backend.
store_figures() {
    python3 - "$store" "$1" "$work/report.json" "$@" <<'PYTHON'
import json, os, sys, time
store, backend, run, flags = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[5:]
def flag(names, default):
    given = [int(value) for name, value in zip(flags, flags[1:]) if name in names]
    return given[-1] if given else default
server = json.load(open(run))["server"]
row = {"connections": flag(("-c", "--connections"), 15000), "room_size": flag(("--room-size",), 100), "backend": backend,
       "bytes": server["rss_bytes_per_connection"], "day": time.strftime("%Y-%m-%d", time.gmtime())}
same = lambda other: all(other[key] == row[key] for key in ("connections", "room_size", "backend"))
report = json.load(open(store)) if os.path.exists(store) else {"rows": []}
places = [index for index, other in enumerate(report["rows"]) if same(other)]
if places:
    report["rows"][places[0]] = row
else:
    report["rows"].append(row)
if all(row["day"] for row in report["rows"]):
    report.pop("note", None)
rows = ",\n".join("    " + json.dumps(row) for row in report["rows"])
note = f'  "note": {json.dumps(report["note"])},\n' if "note" in report else ""
os.makedirs(os.path.dirname(store), exist_ok=True)
open(store, "w").write("{\n" + note + '  "rows": [\n' + rows + "\n  ]\n}\n")
PYTHON
}
ulimit -n 20000 2>/dev/null || fail "needs RLIMIT_NOFILE 20000: raise the hard limit"
for backend in io_uring epoll; do
    start_gateway "$here/e2e.toml" --set io.backend=$backend --set io.workers=1 --set limits.connections_max=15000 --set drain.drain_ms=0
    echo "memory: $backend"
    generate run "$root/configs/loadtest.memory.toml" --server 127.0.0.1:13101 --http 127.0.0.1:13111 \
        --backend io_uring -q --json "$work/report.json" "$@"
    [ -z "$store" ] || store_figures "$backend" "$@"
    grep -E "ready of|server +pid|goal" "$work/generator"
    stop_gateway
done
echo "memory: ok"
