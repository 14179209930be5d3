#!/usr/bin/env bash
# arm64.sh: the program that `make arm64` built, under qemu-user: it is static, it starts on epoll (qemu has no io_uring), a message
# goes through it, and SIGTERM ends it. Needs root, for a network namespace.
if [ -z "${IN_NAMESPACE:-}" ]; then
    exec env IN_NAMESPACE=1 unshare --net sh -ec 'ip link set lo up && exec "$0"' "$0"
fi
. "$(dirname "$0")/lib.sh"
control_port=13111
built=$root/target/aarch64-unknown-linux-gnu/release/gateway
[ -x "$built" ] || fail "$built is not there: make arm64 builds it"
file "$built" | grep -q 'ARM aarch64' || fail "not for arm64: $(file "$built")"
file "$built" | grep -Eq 'static-pie linked|statically linked' || fail "not static: $(file "$built")"

# On an arm64 machine, too, it runs as it is.
gateway=$work/gateway
if [ "$(uname -m)" = aarch64 ]; then
    ln -s "$built" "$gateway"
else
    printf '#!/bin/sh\nexec qemu-aarch64 "%s" "$@"\n' "$built" >"$gateway"
    chmod +x "$gateway"
fi
"$gateway" --version
start_gateway "$here/e2e.toml" --set io.backend=epoll
"$gateway" tail --server 127.0.0.1:13101 --mid 7 --count 1 >"$work/tail" 2>&1 &
client=$!
pids+=("$client")
# A push before the client has logged in meets no receiver.
is_delivered() {
    "$gateway" push --to "127.0.0.1:$control_port" --mid 7 "hello from arm64" >"$work/push" 2>&1 || fail "the push failed: $(cat "$work/push")"
    ended "$client"
}
await "a message to the client" is_delivered
wait "$client" || fail "the client failed: $(cat "$work/tail")"
grep -q "hello from arm64" "$work/tail" || fail "the client received: $(cat "$work/tail")"
stop_gateway
echo "arm64: ok, $(stat -c %s "$built") bytes"
