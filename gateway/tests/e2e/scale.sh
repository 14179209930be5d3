#!/usr/bin/env bash
# scale.sh: 60 000 connections in one process whose limit on descriptors is 20 000: four rings of 15 000 direct
# descriptors each. All log in, everyone is sent three broadcasts and 2 000 pushes a second for a while; nothing may be
# lost, doubled or reordered. A smaller machine: CONNECTIONS=20000 scale.sh.
. "$(dirname "$0")/lib.sh"
control_port=13111
connections=${CONNECTIONS:-60000}
ulimit -n 20000 2>/dev/null || fail "needs RLIMIT_NOFILE 20000: raise the hard limit"
start_gateway "$here/e2e.toml" --set io.backend=io_uring --set io.workers=4 --set "limits.connections_max=$connections"
grep -E "capacity" "$work/gateway.log"
common=(--server 127.0.0.1:13101 --http 127.0.0.1:13111 --backend io_uring --workers 4 -c "$connections" --connect-rate 6000
    --connect-timeout 90s --settle 120s --source-addresses 8 --goal ready=1 --goal loss=0 --goal violations=0)
for run in "broadcast --rate 1 --duration 3s --warmup 0s" "push --rate 2000 --duration 5s"; do
    read -ra flags <<<"$run"
    generate "${flags[@]}" "${common[@]}" -q
    cat "$work/generator"
done
stop_gateway
echo "scale: ok"
