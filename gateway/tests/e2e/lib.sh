# Sourced by the scripts here: starts a gateway on free ports of its own and ends it, by pid.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
gateway=${GATEWAY:-$root/target/release/gateway}
work=$(mktemp -d)
pids=()

finish() {
    local code=$?
    for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $code -ne 0 ] && [ -f "$work/gateway.log" ]; then
        echo "--- the gateway's log" >&2
        tail -30 "$work/gateway.log" >&2
    fi
    rm -rf "$work"
}
trap finish EXIT

# start_gateway CONFIG [FLAG…]: returns when it is ready. Ports are those of the config.
start_gateway() {
    local config=$1
    shift
    "$gateway" run --config "$config" "$@" >"$work/gateway.log" 2>&1 &
    gateway_pid=$!
    pids+=("$gateway_pid")
    for _ in $(seq 100); do
        if curl -sf -o /dev/null "http://127.0.0.1:$control_port/readyz"; then return 0; fi
        kill -0 "$gateway_pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "the gateway did not become ready" >&2
    return 1
}

# stop_gateway: SIGTERM, and its exit code must be 0.
stop_gateway() {
    kill -TERM "$gateway_pid"
    wait "$gateway_pid"
    pids=()
}
