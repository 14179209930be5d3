#!/usr/bin/env bash
# setup-tests.sh CACHE: installs what the tests need besides Rust, once. Debian packages need root (or sudo); the rest
# goes into CACHE. Says what is missing instead of skipping a test.
set -euo pipefail
cache=${1:?usage: setup-tests.sh CACHE}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

packages=()
command -v promtool >/dev/null || packages+=(prometheus)
command -v chromium >/dev/null || packages+=(chromium)
command -v python3 >/dev/null || packages+=(python3)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
command -v node >/dev/null || packages+=(nodejs npm)
command -v curl >/dev/null || packages+=(curl)
# The image without Docker: namespaces, capabilities, what a program is linked with; cmake builds aws-lc.
command -v unshare >/dev/null || packages+=(util-linux)
command -v capsh >/dev/null || packages+=(libcap2-bin)
command -v file >/dev/null || packages+=(file)
command -v readelf >/dev/null || packages+=(binutils)
# Clients of netpoll-tls besides Python.
command -v go >/dev/null || packages+=(golang-go)
command -v openssl >/dev/null || packages+=(openssl)
command -v cmake >/dev/null || packages+=(cmake)
# In front of the gateway, as foreground processes of a test.
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || packages+=(nginx-light)
[ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null || packages+=(haproxy)
# The port to DPDK and its tests on TAP devices in a network namespace.
pkg-config --exists libdpdk 2>/dev/null || packages+=(libdpdk-dev pkg-config)
command -v clang >/dev/null || packages+=(clang libclang-dev)
command -v ip >/dev/null || packages+=(iproute2)
command -v iptables >/dev/null || packages+=(iptables)
if [ ${#packages[@]} -gt 0 ]; then
    echo "installing ${packages[*]}"
    as_root apt-get -qq update >/dev/null || { echo "cannot install ${packages[*]}: needs root or sudo, and apt" >&2; exit 1; }
    # Services that packages bring (prometheus, nginx, haproxy) are not wanted, only their tools.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi

if [ ! -x "$cache/python/bin/python" ]; then
    echo "installing Python's websockets"
    rm -rf "$cache/python"
    python3 -m venv "$cache/python"
    "$cache/python/bin/pip" install -q --disable-pip-version-check websockets==15.0.1
fi

if [ ! -d "$cache/node/node_modules/playwright-core" ] || [ ! -d "$cache/node/node_modules/ws" ]; then
    echo "installing Node's ws and playwright-core"
    mkdir -p "$cache/node"
    (cd "$cache/node" && npm install --silent --no-audit --no-fund --no-save ws@8 playwright-core@1.56 >/dev/null)
fi

"$here/setup-autobahn.sh" "$cache/autobahn" >"$cache/autobahn.log" 2>&1 || { tail -5 "$cache/autobahn.log" >&2; exit 1; }
