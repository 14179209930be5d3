#!/usr/bin/env bash
# conformance.sh CACHE [epoll|io_uring]: Autobahn's WebSocket suite (25.10.1) against the echo listener, which shares the
# production framing. First all 301 cases without compression: none may fail. Then under production limits (64 KiB
# messages, 1024 fragments): every case that exceeds them must end in a clean 1009 or 1008, all others pass.
. "$(dirname "$0")/lib.sh"
cache=$(cd "${1:?usage: conformance.sh CACHE [BACKEND]}" && pwd)
control_port=13111
start_gateway "$here/e2e.toml" --set "io.backend=${2:-auto}"

run_suite() { # NAME URL
    cat >"$work/$1.json" <<J
{"outdir": "$work/$1", "servers": [{"agent": "gateway", "url": "$2"}], "cases": ["*"],
 "exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}}
J
    (cd "$work" && timeout 1200 "$cache/autobahn/wstest" -m fuzzingclient -s "$work/$1.json" >"$work/$1.log" 2>&1) ||
        { tail -5 "$work/$1.log"; fail "the suite did not run"; }
}

run_suite full ws://127.0.0.1:13104/
python3 "$here/conformance.py" full "$work/full"
run_suite limited ws://127.0.0.1:13105/
python3 "$here/conformance.py" limited "$work/limited"
stop_gateway
