#!/usr/bin/env bash
# sanitize.sh: netpoll's tests, and the gateway's over real sockets, under AddressSanitizer and ThreadSanitizer (make sanitize).
#
# Both are options of an unstable compiler, which RUSTC_BOOTSTRAP allows a stable one. The output stays in target/sanitize.
# AddressSanitizer sees the accesses of Rust code. It sees no misuse of a block inside its pool's mapping, nor what the kernel writes.
# ThreadSanitizer has to see how std's locks, channels and Arc order things, or reports what they order as races. So it runs only
# where the source of the standard library is installed, which is compiled with it then.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
logs=target/sanitize
mkdir -p "$logs"

if [ -f "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml" ]; then
    sanitizers="address thread" std=(-Zbuild-std) allow=
else
    sanitizers=address std=() allow=-Cunsafe-allow-abi-mismatch=sanitizer
    echo "ThreadSanitizer is left out: it needs the source of the standard library (rustup component add rust-src)"
fi
export RUSTC_BOOTSTRAP=1
# A pool that ends leaves its memory to the blocks that are still held: leaks on purpose.
export ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"

# run CRATE TESTS…: under $sanitizer; what the tests print goes to a file.
run() {
    local log=$logs/$sanitizer-$1.log status=0
    cargo test "${std[@]}" --target "$host" -p "$1" "${@:2}" --no-fail-fast >"$log" 2>&1 || status=$?
    awk -v what="$sanitizer, $1" '/^test result/ {passed += $4; failed += $6}
        END {printf "%s: %d tests passed, %d failed", what, passed, failed}' "$log"
    echo ", $(grep -c '^SUMMARY: ' "$log" || true) reports, exit code $status ($log)"
    [ "$status" = 0 ] || failed=1
}

failed=0
for sanitizer in $sanitizers; do
    export RUSTFLAGS="-Zsanitizer=$sanitizer $allow" CARGO_TARGET_DIR="$logs/$sanitizer"
    run netpoll --lib --tests
    run gateway --test sessions --test control_messages
done
exit $failed
