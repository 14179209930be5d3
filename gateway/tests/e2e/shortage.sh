#!/usr/bin/env bash
# shortage.sh: the gateway in a cgroup that becomes too small, then in one that was too small from the start, then under
# memory.memory_max_bytes. It must never die; strangers are turned away with a reason they can see, who is in loses
# nothing, /readyz and the metrics say what goes on, and all is well again when there is room.
. "$(dirname "$0")/lib.sh"
control_port=13111
ulimit -n 20000 2>/dev/null || fail "needs RLIMIT_NOFILE 20000: raise the hard limit"
real=$gateway
group=

# A memory cgroup of our own, of whichever version; nothing where none can be made.
make_group() {
    local root=/sys/fs/cgroup
    if grep -qw memory "$root/cgroup.controllers" 2>/dev/null; then
        echo +memory >"$root/cgroup.subtree_control" 2>/dev/null || true
        group=$root/gateway-test-$$ limit_file=memory.max usage_file=memory.current
    else
        group=$root/memory/gateway-test-$$ limit_file=memory.limit_in_bytes usage_file=memory.usage_in_bytes
    fi
    mkdir "$group" 2>/dev/null && [ -w "$group/$limit_file" ] || { rmdir "$group" 2>/dev/null || true; group=; }
}
cleanup() { [ -z "$group" ] || rmdir "$group"; }
limit() { echo "$1" >"$group/$limit_file"; }
usage() { cat "$group/$usage_file"; }
metric() { curl -sf "http://127.0.0.1:13111/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
at_level() { [ "$(metric "gateway_memory_level{level=\"$1\"}")" = 1 ]; }
ready_is() { [ "$(curl -s -o "$work/ready" -w '%{http_code}' http://127.0.0.1:13111/readyz)" = "$1" ]; }
# What a TCP client hears that only connects, printable characters alone.
stranger() { timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/13101; cat <&3' 2>/dev/null | tr -cd '[:print:]' || true; }
upgrade() {
    curl -s -m 10 -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
        -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:13102/sub || true
}
tcp_is_told() { stranger | grep -q "memory is short"; }
websocket_is_told() {
    upgrade >"$work/upgrade"
    grep -q "^HTTP/1.1 503" "$work/upgrade" && grep -q "^Retry-After:" "$work/upgrade"
}
# In a storm of refusals some are reset without a reason; so more than one try.
turned_away() {
    await "a reason for refused TCP clients" tcp_is_told
    await "a reason for refused WebSocket clients" websocket_is_told
    ready_is 503 && grep -q memory "$work/ready" || fail "/readyz does not say that memory is short"
}
flags=(--set io.workers=2 --set limits.connections_max=30000 --set drain.drain_ms=0
    --set memory.receive_buffers_per_worker=128 --set limits.memberships_per_worker_max=16000
    # Echoes of 16 MiB, which the conformance suite needs, are more than these limits.
    --set listener.echo.message_size_max=65536)
load=(--server 127.0.0.1:13101 --http 127.0.0.1:13111 --backend io_uring --workers 2 --goal loss=0 --goal violations=0
    --connect-timeout 60s --settle 60s -q)

make_group
if [ -n "$group" ]; then
    printf '#!/bin/sh\necho $$ >%s/cgroup.procs\nexec %s "$@"\n' "$group" "$real" >"$work/inside"
    chmod +x "$work/inside"
    gateway=$work/inside
    echo "shortage: a cgroup that becomes too small ($limit_file)"
    limit 256M
    # Far apart, and far from the end: what is used goes up and down by some percent while the limit stays.
    start_gateway "$here/e2e.toml" "${flags[@]}" --set memory.refuse_at_percent=50 --set memory.shed_at_percent=70 \
        --set memory.close_at_percent=80
    "$loadtest" push "${load[@]}" -c 5000 --rate 500 --warmup 0s --duration 600s --goal ready=1 >"$work/generator" 2>&1 &
    held=$!
    pids+=("$held")
    connected() { [ "$(metric gateway_sessions)" = 5000 ]; }
    await "5 000 sessions" connected
    limit $(($(usage) * 100 / 60))
    await "level refuse" at_level refuse
    turned_away
    limit $(($(usage) * 100 / 88))
    await "level close" at_level close
    [ -z "$(stranger)" ] || fail "a stranger hears something at the very end of memory"
    limit 256M
    await "level normal" at_level normal
    ready_is 200 || fail "/readyz does not recover"
    grep -q "memory is short" "$work/gateway.log" || fail "the log does not say it"
    # Its report is of what was until now.
    kill -INT "$held"
    wait "$held" || sound $? || fail "who was in lost something"
    stop_gateway

    echo "shortage: a cgroup that is too small for its clients"
    start_gateway "$here/e2e.toml" "${flags[@]}" --set memory.shed_at_percent=93
    # The tenth above level refuse has to hold what the flood makes the pools touch first, up to 4 MB: of 24 MiB it does not
    # always, and then the kernel looks for pages.
    limit $(($(usage) + (40 << 20)))
    "$loadtest" push "${load[@]}" -c 30000 --connect-retries 1 --rate 500 --duration 5s >"$work/generator" 2>&1 || true
    grep -E "ready of" "$work/generator" || fail "the load generator did not run"
    grep -q "goal met *loss=0" "$work/generator" || fail "who was let in lost something"
    [ "$(metric gateway_memory_refused_connections_total)" -gt 0 ] || fail "nobody was refused"
    [ "$(metric gateway_logins_total)" -gt 5000 ] || fail "hardly anybody was let in"
    kill -0 "$gateway_pid" || fail "the gateway died"
    await "level normal" at_level normal
    stop_gateway
    rmdir "$group"
    group=
else
    echo "shortage: no memory cgroup can be made here; only memory.memory_max_bytes is tried"
fi

echo "shortage: memory.memory_max_bytes"
gateway=$real
# Levels far apart: memory is read ten times a second, and a storm of logins takes 10 MB and more between two readings.
{ cat "$here/e2e.toml"; printf '[memory]\nrefuse_at_percent = 60\n'; } >"$work/short.toml"
start_gateway "$work/short.toml" "${flags[@]}" --set memory.memory_max_bytes=120000000 \
    --set memory.shed_at_percent=97 --set memory.close_at_percent=99
grep -q "hold about" "$work/gateway.log" || fail "the start screen does not warn"
"$loadtest" push "${load[@]}" -c 30000 --connect-retries 3 --rate 500 --duration 600s >"$work/generator" 2>&1 &
flood=$!
pids+=("$flood")
# Each reading leaves room for so many connections that they end just below the level (72 MB). It comes about where the
# operator lowers it.
filled() { [ "$(metric gateway_memory_used_bytes)" -gt 66000000 ]; }
await "memory up to the level" filled
[ "$(metric gateway_memory_refused_connections_total)" -gt 0 ] || fail "no connection was refused"
sed -i 's/^refuse_at_percent = 60$/refuse_at_percent = 50/' "$work/short.toml"
kill -HUP "$gateway_pid"
await "level refuse" at_level refuse
turned_away
pushed() { # 2 000 messages
    curl -sf http://127.0.0.1:13111/metrics |
        awk '/^gateway_http_requests_total\{.*\/push\/mids/ { sum += $2 } END { exit sum < 2000 }'
}
await "2 000 pushes" pushed
# Its report is of what was until now. Connections that were turned away are missed, which is meant.
kill -INT "$flood"
wait "$flood" || true
grep -E "ready of" "$work/generator"
grep -q "goal met *loss=0" "$work/generator" || fail "who was let in lost something"
await "level normal" at_level normal
grep -q "memory is short" "$work/gateway.log" || fail "the log does not say it"
stop_gateway
echo "shortage: ok"
