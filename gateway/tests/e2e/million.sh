#!/usr/bin/env bash
# million.sh: `make million` in small: a few thousand connections through every stage (ramp, idle, pushes, messages, rooms, a
# broadcast, churn, mass disconnect, storm, recovery), over TCP and WebSocket, io_uring and epoll. Nothing may be lost,
# doubled or reordered, everyone must connect, the gateway must stay small and end well on SIGTERM.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
loadtest=${LOADTEST:-$root/target/release/loadtest}
gateway=${GATEWAY:-$root/target/release/gateway}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for run in "io_uring tcp" "io_uring ws" "epoll tcp"; do
    read -r backend transport <<<"$run"
    echo "== $backend, $transport"
    "$loadtest" million --quick -q --gateway "$gateway" --gateway-backend "$backend" --transport "$transport" \
        --report "$work/$backend-$transport" --goal ready=1 loss=0 violations=0 memory=4KiB >"$work/out" 2>&1 ||
        { tail -60 "$work/out" >&2; exit 1; }
    for name in report.html report.json summary.md; do
        [ -s "$work/$backend-$transport/$name" ] || { echo "no $name" >&2; exit 1; }
    done
done

echo "== interrupted"
before=$(sha256sum "$work/io_uring-tcp/"*)
"$loadtest" million --quick -q --gateway "$gateway" --report "$work/io_uring-tcp" >"$work/out" 2>&1 &
run=$!
sleep 3
kill -INT "$run"
code=0
wait "$run" || code=$?
[ "$code" = 1 ] && grep -q "interrupted, so nothing is stored" "$work/out" || { tail -20 "$work/out" >&2; exit 1; }
[ "$before" = "$(sha256sum "$work/io_uring-tcp/"*)" ] || { echo "half a run took the place of a whole one" >&2; exit 1; }
echo "million, quick: ok"
