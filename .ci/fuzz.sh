#!/usr/bin/env bash
# fuzz.sh RUNS: runs each fuzz body of the wire protocol so often, from its committed corpus; what it finds anew stays in
# a temporary folder. Needs cargo-fuzz (cargo install cargo-fuzz --locked).
set -euo pipefail
runs=${1:?usage: fuzz.sh RUNS}
cd "$(dirname "$0")/../gateway/proto"
command -v cargo-fuzz >/dev/null || { echo "needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 2; }
for target in frame bodies handshake auth websocket; do
    fresh=$(mktemp -d)
    # Long inputs make WebSocket runs slow and find no more: frames are judged by their first bytes.
    length=$([ "$target" = websocket ] && echo 256 || echo 4096)
    RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" --sanitizer none "$fresh" "fuzz/corpus/$target" -- \
        -runs="$runs" -max_len="$length" -print_final_stats=1 2>&1 | grep -E "number_of_executed_units|ERROR|Done" || { echo "$target failed" >&2; exit 1; }
    rm -rf "$fresh"
done
