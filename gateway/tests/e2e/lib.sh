# Sourced by the scripts here: starts a gateway on free ports of its own and ends it, by pid. A script that fails says why in its
# last lines, below the logs: what keeps only the end of an output keeps the reason.
#
# Times only bound hanging: on a busy machine with half a processor everything here takes as long as it takes.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
gateway=${GATEWAY:-$root/target/release/gateway}
loadtest=${LOADTEST:-$root/target/release/loadtest}
million=${MILLION:-$root/target/release/million}
work=$(mktemp -d)
pids=()
# Why the script fails, if it says so; else the command that failed.
reason= failed_command=
trap '[ -n "$failed_command" ] || failed_command="${BASH_SOURCE[0]##*/} line $LINENO: $BASH_COMMAND"' ERR

# The lines of the load generator's report that say what went wrong.
verdict() {
    grep -E '^ +(connections  |failed: |closed while ready: |notice: |violation: |e\.g\. |goal MISSED|generator-bound: |held: |stalled: |measurement: |interrupted: |product: )|^(loadtest|million): ' "$1" |
        cut -c 1-300 | tail -"${2:-12}"
}

# explain CODE: the end of what was logged, and last of all the reason.
explain() {
    [ "$1" -ne 0 ] || return 0
    if [ -s "$work/gateway.log" ]; then
        echo "--- the end of the gateway's log"
        cut -c 1-300 "$work/gateway.log" | tail -8
    fi
    local report
    for report in "$work"/generator*; do
        [ -s "$report" ] || continue
        echo "--- the load generator"
        verdict "$report"
    done
    echo "--- $(basename "$0") failed: ${reason:-${failed_command:-exit code $1}}"
}
# What a script has to take away at its end, when its processes have ended.
cleanup() { :; }
finish() {
    local code=$?
    trap - ERR
    set +e
    for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    cleanup
    explain "$code" >&2
    rm -rf "$work"
}
trap finish EXIT

# fail WORD…: ends the script with a reason.
fail() {
    reason=$*
    exit 1
}
# await WHAT COMMAND…: until the command succeeds; a minute and a half at most.
await() {
    local what=$1 end=$((SECONDS + 90))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "$what did not come about"
        sleep 0.1
    done
}
# ended PID: true when the process, a child, has ended.
ended() { ! kill -0 "$1" 2>/dev/null; }
# fail_if_ended PID WHAT: ends the script when the process, a child, has ended, with its exit code (128 and the signal's number).
fail_if_ended() {
    ended "$1" || return 0
    local code=0
    wait "$1" || code=$?
    fail "$2: it ended with $code"
}

# start_gateway CONFIG [FLAG…]: returns when it is ready. Ports are those of the config.
start_gateway() {
    local config=$1
    shift
    "$gateway" run --config "$config" "$@" >"$work/gateway.log" 2>&1 &
    gateway_pid=$!
    pids+=("$gateway_pid")
    await "a gateway that is ready" gateway_is_up
}
gateway_is_up() {
    curl -sf -m 10 -o /dev/null "http://127.0.0.1:$control_port/readyz" && return 0
    fail_if_ended "$gateway_pid" "the gateway did not become ready"
    return 1
}

# stop_gateway: SIGTERM, and its exit code must be 0.
stop_gateway() {
    kill -TERM "$gateway_pid"
    await "the gateway's end after SIGTERM" ended "$gateway_pid"
    local code=0
    wait "$gateway_pid" || code=$?
    [ "$code" = 0 ] || fail "the gateway ended with $code on SIGTERM"
    pids=()
}

# sound CODE: the load generator found no fault. 3 says that it was itself too late, or stood still, to judge times: scripts
# that judge no time by its exit take that, as this machine has other work.
sound() { [ "$1" = 0 ] || [ "$1" = 3 ]; }

# generate FLAG…: runs the load generator, whose report is in $work/generator.
generate() {
    local code=0
    "$loadtest" "$@" >"$work/generator" 2>&1 || code=$?
    sound "$code" || { cat "$work/generator"; fail "loadtest $1 ended with $code"; }
}
