#!/usr/bin/env bash
# million.sh: `make million` in small: a few thousand connections through every stage (ramp, idle, pushes, messages, rooms, a
# broadcast, churn, mass disconnect, storm, recovery), over TCP and WebSocket, io_uring and epoll, and with epoll on both sides where a
# process may have half as many descriptors as there are connections. Nothing may be lost, doubled or reordered, everyone must connect, the gateway must stay small and end well on SIGTERM.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
loadtest=${LOADTEST:-$root/target/release/loadtest}
gateway=${GATEWAY:-$root/target/release/gateway}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

descriptors=$(ulimit -n)
for run in "io_uring tcp auto" "io_uring ws auto" "epoll tcp auto" "epoll tcp epoll 1500"; do
    read -r backend transport generator limit <<<"$run"
    name=$backend-$transport${limit:+-$limit}
    echo "== $backend, $transport${limit:+, the generator on $generator, $limit descriptors}"
    (
        ulimit -n "${limit:-$descriptors}"
        "$loadtest" million --quick -q --gateway "$gateway" --gateway-backend "$backend" --transport "$transport" \
            --backend "$generator" --report "$work/$name" --goal ready=1 loss=0 violations=0 memory=4KiB
    ) >"$work/out" 2>&1 || { tail -60 "$work/out" >&2; exit 1; }
    for file in report.html report.json summary.md; do
        [ -s "$work/$name/$file" ] || { echo "no $file" >&2; exit 1; }
    done
    [ -z "$limit" ] || grep -q "a table of descriptors of its own" "$work/$name/summary.md" ||
        { echo "more connections than descriptors, and not a word of it" >&2; exit 1; }
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
