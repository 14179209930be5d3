#!/usr/bin/env bash
# memory.sh: resident memory of the gateway per idle session: 15 000 logged-in connections in three rooms each, on io_uring
# and on epoll; at most 512 B each, or it fails. Other sizes: memory.sh -c 5000 --room-size 10 (flags of loadtest).
. "$(dirname "$0")/lib.sh"
control_port=13111
ulimit -n 20000 2>/dev/null || fail "needs RLIMIT_NOFILE 20000: raise the hard limit"
for backend in io_uring epoll; do
    start_gateway "$here/e2e.toml" --set io.backend=$backend --set io.workers=1 --set limits.connections_max=15000 --set drain.drain_ms=0
    echo "memory: $backend"
    generate run "$root/configs/loadtest.memory.toml" --server 127.0.0.1:13101 --http 127.0.0.1:13111 \
        --backend io_uring -q "$@"
    grep -E "ready of|server +pid|goal" "$work/generator"
    stop_gateway
done
echo "memory: ok"
