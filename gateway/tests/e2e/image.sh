#!/usr/bin/env bash
# image.sh: the container image without Docker. Carries out configs/Dockerfile: its folders alone are copied, its command builds
# the program. Then the image runs as configs/k8s/gateway.yaml runs it: user 65532, a root that nothing can be written to, no
# capability, no new privileges, a network of its own. HEALTHCHECK's command waits for it, a message goes through it, SIGTERM
# ends it. Needs root. IMAGE_AS_SHIPPED=1 builds with the release profile unchanged; without it, optimization is left out.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || fail "needs root, for namespaces and chroot"
for tool in unshare nsenter capsh ip file readelf openssl; do command -v "$tool" >/dev/null || fail "needs $tool"; done
trap '' PIPE

began=$SECONDS
mkdir -p "$root/target/image"
if [ -z "${IMAGE_AS_SHIPPED:-}" ]; then
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 \
        CARGO_PROFILE_RELEASE_DEBUG=none
fi
# The image has a compiler of its own; here the one that is installed takes its place.
env -u CARGO_TARGET_DIR BUILD_ARGS="GATEWAY_COMMIT=of-the-image GATEWAY_COMMIT_DATE=2026-01-02" \
    "$here/dockerfile.sh" "$root/configs/Dockerfile" "$root" "$root/target/image" "$work" || fail "configs/Dockerfile does not build"
. "$work/image.env"
echo "built in $((SECONDS - began)) s"

# What is in it, and what it needs: nothing else.
image=$work/image
contents=$(cd "$image" && find . -type f | sort | tr '\n' ' ')
[ "$contents" = "./etc/gateway/gateway.toml ./usr/local/bin/gateway " ] || fail "the image has: $contents"
binary=$image/usr/local/bin/gateway
file "$binary" | grep -Eq 'static-pie linked|statically linked' || fail "not static: $(file "$binary")"
! readelf -d "$binary" | grep -E 'NEEDED|INTERP' || fail "the program needs shared libraries"
! readelf -l "$binary" | grep INTERP || fail "the program needs a loader"

# What an operator mounts: the key of the login service, the API key, and a token for the client of this test.
mkdir "$work/secrets"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/secrets/private.pem" 2>/dev/null
openssl pkey -in "$work/secrets/private.pem" -pubout -out "$work/secrets/gateway_jwt_key.pem"
openssl rand -hex 32 >"$work/secrets/gateway_api_key"
chown -R 65532:65532 "$work/secrets"
chmod 400 "$work"/secrets/*

# hold: a mount and a network namespace with the image's root as a container runtime sets it up, until it is killed.
hold() {
    local point
    ip link set lo up
    for point in proc sys dev run/secrets; do mkdir -p "$image/$point"; done
    printf '127.0.0.1 localhost\n' >"$image/etc/hosts"
    mount --bind "$image" "$image"
    mount -o remount,bind,ro "$image"
    mount -t proc proc "$image/proc"
    mount --rbind /sys "$image/sys"
    mount -t tmpfs -o mode=755 tmpfs "$image/dev"
    for point in null zero full random urandom; do
        touch "$image/dev/$point"
        mount --bind "/dev/$point" "$image/dev/$point"
    done
    mount --bind "$work/secrets" "$image/run/secrets"
    touch "$work/held"
    exec sleep infinity
}
export -f hold
export image work
unshare --mount --net --propagation private bash -euc hold &
holder=$!
pids+=("$holder")
is_held() { [ -e "$work/held" ] || { fail_if_ended "$holder" "the image's root can't be set up"; false; }; }
await "the image's root" is_held

capsh=$(command -v capsh)
# in_image NSENTER_COMMAND… -- PROGRAM…: the program in the image, as its user.
in_image() {
    local before=()
    while [ "$1" != -- ]; do before+=("$1") && shift; done
    shift
    exec nsenter --target "$holder" --mount --net "${before[@]}" env -i PATH=/usr/local/bin:/usr/bin HOME=/ "${image_environment[@]}" \
        "$capsh" --no-new-privs "--chroot=$image" --drop=all --groups= "--gid=${image_user[1]}" "--uid=${image_user[0]}" \
        "--shell=$1" -- "${@:2}"
}
gateway_in_image() { (in_image -- "${image_entrypoint[@]}" "$@"); }

gateway_in_image --version | tee "$work/version"
grep -q "of-the-image" "$work/version" || fail "the image's build arguments are not in --version"

# The container's first process, in a namespace of processes of its own.
(in_image unshare --pid --fork --kill-child "--mount-proc=$image/proc" -- "${image_entrypoint[@]}" "${image_command[@]}") >"$work/gateway.log" 2>&1 &
container=$!
pids+=("$container")
# unshare ignores SIGTERM while it waits for its child.
trap 'code=$?; set +e; kill -KILL "$container" "${gateway_pid:-$container}" 2>/dev/null; (exit "$code"); finish' EXIT
has_child() {
    gateway_pid=$(tr -d ' ' <"/proc/$container/task/$container/children")
    [[ -n "$gateway_pid" && $(readlink "/proc/$gateway_pid/exe") == *"${image_entrypoint[0]}" ]] && return 0
    fail_if_ended "$container" "the gateway did not start"
    return 1
}
await "the gateway's process" has_child
pids+=("$gateway_pid")
is_healthy() {
    (in_image -- "${image_health[@]}") >"$work/health" 2>&1 || { fail_if_ended "$container" "the gateway did not start"; false; }
}
await "a gateway whose HEALTHCHECK succeeds" is_healthy

# status FIELD: of the gateway's process, as the kernel has it.
status() { awk -v field="$1:" '$1 == field {print $2}' "/proc/$gateway_pid/status"; }
for field in CapInh CapPrm CapEff CapBnd CapAmb; do [ "$(status $field)" = 0000000000000000 ] || fail "$field is $(status $field)"; done
[ "$(status Uid) $(status Gid) $(status NoNewPrivs)" = "65532 65532 1" ] || fail "user $(status Uid), NoNewPrivs $(status NoNewPrivs)"
! touch "/proc/$gateway_pid/root/written" 2>/dev/null || fail "the image's root can be written to"

# A message: names are resolved without any library or file of the image but /etc/hosts, as a runtime writes it.
gateway_in_image token --mid 7 --key /run/secrets/private.pem >"$work/secrets/token"
chown 65532 "$work/secrets/token"
gateway_in_image tail --token-file /run/secrets/token --count 1 >"$work/tail" 2>&1 &
tail=$!
pids+=("$tail")
# A push before the client has logged in meets no receiver.
is_delivered() {
    gateway_in_image push --to localhost:3111 --mid 7 "hello from outside" >"$work/push" 2>&1 || fail "the push failed: $(cat "$work/push")"
    ended "$tail"
}
await "a message to the client" is_delivered
wait "$tail" || fail "the client failed: $(cat "$work/tail")"
grep -q "hello from outside" "$work/tail" || fail "the client received: $(cat "$work/tail")"

# STOPSIGNAL to the first process; the drain has no client to wait for.
kill -TERM "$gateway_pid"
await "the gateway's end after SIGTERM" ended "$container"
code=0
wait "$container" || code=$?
pids=("$holder")
[ "$code" = 0 ] || fail "the gateway ended with $code on SIGTERM"
echo "image: ok, $(stat -c %s "$binary") bytes"
