#!/usr/bin/env bash
# run.sh CACHE: the release binary as its users meet it: a browser, Python and Node clients, promtool, curl, a restart.
. "$(dirname "$0")/lib.sh"
cache=$(cd "${1:?usage: run.sh CACHE}" && pwd)
control_port=13111

for backend in epoll io_uring; do
    echo "== $backend"
    start_gateway "$here/e2e.toml" --set "io.backend=$backend"
    "$cache/python/bin/python" "$here/client.py" ws://127.0.0.1:13102/sub http://127.0.0.1:13111
    node "$here/client.mjs" "$cache" ws://127.0.0.1:13102/sub
    node "$here/browser.mjs" "$cache" http://127.0.0.1:13102/ ${SCREENSHOT:-}
    curl -sf http://127.0.0.1:13111/metrics >"$work/metrics"
    promtool check metrics <"$work/metrics"
    grep -q "backend=\"$backend\"" "$work/metrics" || fail "the metrics do not name the backend"
    # A second instance must not share the ports.
    if timeout 90 "$gateway" run --config "$here/e2e.toml" >"$work/second.log" 2>&1; then fail "a second instance started"; fi
    grep -qi "in use" "$work/second.log" || { cat "$work/second.log"; fail "a second instance does not say that ports are in use"; }
    stop_gateway
done
echo "end to end: ok"
