#!/usr/bin/env bash
# flood.sh [SECONDS]: a user that reads what it gets, beside one sender that floods it with 64-byte messages for so long (60).
# BACKEND: io_uring or epoll; both by default. The sender must be slowed, refused and closed, in this order; the victim must not
# be closed, and its heartbeat's p99 stays within three times its quiet value.
. "$(dirname "$0")/lib.sh"
control_port=${CONTROL_PORT:-13211} port=${PORT:-13201}
for backend in ${BACKEND:-io_uring epoll}; do
    echo "--- $backend"
    start_gateway "$here/e2e.toml" --set "io.backend=$backend" --set io.workers=2 --set limits.connections_max=1000 \
        --set "control.address=127.0.0.1:$control_port" --set "listener.tcp.address=127.0.0.1:$port" \
        --set listener.websocket.address=127.0.0.1:0 --set listener.echo.address=127.0.0.1:0 \
        --set listener.echo_limited.address=127.0.0.1:0 --set drain.drain_ms=0
    python3 "$here/flood.py" "$port" "${1:-60}"
    curl -sf "http://127.0.0.1:$control_port/metrics" | grep -E '^gateway_(rate_|slow_consumer_closes|connection_ends.*(rate_limited|slow))'
    stop_gateway
done
