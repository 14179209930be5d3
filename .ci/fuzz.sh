#!/usr/bin/env bash
# fuzz.sh RUNS [TARGET…]: runs each fuzz body (or those named) so often, from its committed corpus; what it finds anew stays
# in a temporary folder. FUZZ_LENGTH=n bounds the inputs instead of the lengths below.
# Needs cargo-fuzz (cargo install cargo-fuzz --locked).
set -euo pipefail
runs=${1:?usage: fuzz.sh RUNS [TARGET…]}
shift
root=$(cd "$(dirname "$0")/.." && pwd)
command -v cargo-fuzz >/dev/null || { echo "needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 2; }

fuzz() { # crate, target, longest input, options of the fuzzer
    local crate=$1 target=$2 length=${FUZZ_LENGTH:-$3}
    shift 3
    local fresh status=0 build=()
    # Comparisons are all that reading a configuration does: a dictionary knows its words, and costs nothing.
    [ "$target" != config ] || build=(--no-trace-compares)
    # Fields of frames are near the right ones by themselves, and each execution makes tables: large allocations are kept.
    if [ "$target" = frames ]; then
        build=(--no-trace-compares)
        export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TOP_PAD_=16000000
    fi
    fresh=$(mktemp -d)
    echo "$target: $runs executions of inputs up to $length B"
    (cd "$root/$crate" && RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" --sanitizer none "${build[@]}" "$fresh" "fuzz/corpus/$target" -- \
        -runs="$runs" -max_len="$length" -print_final_stats=1 "$@" >"$fresh.log" 2>&1) || status=$?
    grep -E "number_of_executed_units|average_exec_per_sec|ERROR|panicked|Done|Test unit written" "$fresh.log" || true
    [ "$status" = 0 ] || { echo "$target failed; see $fresh.log" >&2; exit 1; }
    rm -rf "$fresh" "$fresh.log"
}

targets=("$@")
[ $# -gt 0 ] || targets=(frame bodies handshake auth websocket config frames cutter forged content hello ticket)
for target in "${targets[@]}"; do
    case $target in
    # TOML is slow to read; longer files only have more of the same keys.
    config) fuzz gateway/config config 512 -dict="$root/gateway/config/fuzz/config.dict" ;;
    # Long inputs make WebSocket runs slow and find no more: frames are judged by their first bytes.
    websocket) fuzz gateway/proto websocket 256 ;;
    # The user-space TCP/IP stack: some twenty operations of frames, owner and time.
    frames) fuzz dpdk-backend frames 128 ;;
    # Records, ClientHellos and tickets of TLS.
    cutter | forged | content | hello | ticket) fuzz netpoll/tls "$target" 1024 ;;
    *) fuzz gateway/proto "$target" 4096 ;;
    esac
done
