#!/usr/bin/env bash
# setup-arm64.sh: what `make arm64` needs besides the tests' tools: Rust's standard library for arm64 (from rustup's server), a
# C cross compiler for aws-lc, and qemu-user to run the result. Debian packages need root (or sudo).
set -euo pipefail
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

target=aarch64-unknown-linux-gnu
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    rustup target add "$target" || { echo "no standard library for $target: rustup and its server are needed" >&2; exit 1; }
fi
packages=()
command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
command -v aarch64-linux-gnu-g++ >/dev/null || packages+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || packages+=(qemu-user)
command -v cmake >/dev/null || packages+=(cmake)
command -v file >/dev/null || packages+=(file)
if [ ${#packages[@]} -gt 0 ]; then
    echo "installing ${packages[*]}"
    as_root apt-get -qq update >/dev/null || { echo "cannot install ${packages[*]}: needs root or sudo, and apt" >&2; exit 1; }
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi
