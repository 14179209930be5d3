#!/usr/bin/env bash
# million.sh: `make million` in small: a few thousand connections through every stage (ramp, idle, pushes, messages, rooms, a
# broadcast, churn, mass disconnect, storm, recovery), over TCP and WebSocket, io_uring and epoll, and with epoll on both sides where a
# process may have half as many descriptors as there are connections. Nothing may be lost, doubled or reordered, everyone must connect, the gateway must stay small and end well on SIGTERM.
. "$(dirname "$0")/lib.sh"

descriptors=$(ulimit -n)
for run in "io_uring tcp auto" "io_uring ws auto" "epoll tcp auto" "epoll tcp epoll 1500"; do
    read -r backend transport generator limit <<<"$run"
    name=$backend-$transport${limit:+-$limit}
    echo "== $backend, $transport${limit:+, the generator on $generator, $limit descriptors}"
    (
        ulimit -n "${limit:-$descriptors}"
        "$million" --quick -q --gateway "$gateway" --gateway-backend "$backend" --transport "$transport" \
            --backend "$generator" --report "$work/$name" --goal ready=1 loss=0 violations=0 memory=4KiB
    ) >"$work/generator" 2>&1 || { code=$?; cat "$work/generator"; fail "million, $name, ended with $code"; }
    for file in report.json summary.md; do
        [ -s "$work/$name/$file" ] || fail "no $file"
    done
    [ -z "$limit" ] || grep -q "a table of descriptors of its own" "$work/$name/summary.md" ||
        fail "more connections than descriptors, and not a word of it"
done

echo "== a page of it"
"$million" page "$work/io_uring-tcp" >"$work/page.html"
grep -q "What it must show" "$work/page.html" || fail "the page has no thresholds"

echo "== interrupted"
before=$(sha256sum "$work/io_uring-tcp/"*)
"$million" --quick -q --gateway "$gateway" --report "$work/io_uring-tcp" >"$work/generator" 2>&1 &
run=$!
pids+=("$run")
await "a run that has begun" grep -q "connections through" "$work/generator"
sleep 1
kill -INT "$run"
code=0
wait "$run" || code=$?
pids=()
[ "$code" = 1 ] && grep -q "interrupted, so nothing is stored" "$work/generator" || fail "an interrupted run ended with $code"
[ "$before" = "$(sha256sum "$work/io_uring-tcp/"*)" ] || fail "half a run took the place of a whole one"
echo "million, quick: ok"
