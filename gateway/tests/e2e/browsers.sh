#!/usr/bin/env bash
# browsers.sh [COUNT]: Chromium and Firefox, kicked while they write: each of so many closes (20) must be clean and carry its code.
# Needs chromium and firefox-esr (Debian's packages); BROWSERS=chromium leaves the other out. On both backends.
. "$(dirname "$0")/lib.sh"
control_port=13111
count=${1:-20}
for browser in ${BROWSERS:-chromium firefox-esr}; do
    command -v "$browser" >/dev/null || { echo "$browser is missing: apt-get install $browser" >&2; exit 1; }
done
for backend in epoll io_uring; do
    echo "== $backend"
    start_gateway "$here/e2e.toml" --set "io.backend=$backend"
    for browser in ${BROWSERS:-chromium firefox-esr}; do
        profile=$work/$backend-$browser
        mkdir "$profile"
        case $browser in
            chromium) flags=(--headless --no-sandbox --disable-gpu --no-first-run "--user-data-dir=$profile") ;;
            *) flags=(--headless --no-remote --profile "$profile") ;;
        esac
        python3 "$here/browser_closes.py" ws://127.0.0.1:13102/sub "http://127.0.0.1:$control_port" "$count" "$browser" "${flags[@]}"
    done
    stop_gateway
done
echo "closes in browsers: ok"
