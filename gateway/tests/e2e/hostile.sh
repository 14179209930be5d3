#!/usr/bin/env bash
# hostile.sh: a part of the hostile suite in small: abuses beside 200 well-behaved connections, for 0.3 s each.
# No bystander may be closed or refused, or lose a message; what abuses took must come back. The production profile runs on
# io_uring where the system allows it, the development profile on epoll. Nothing here depends on time.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
gateway=${GATEWAY:-$root/target/release/gateway}
hostile=${HOSTILE:-$root/target/release/hostile}
ulimit -n 20000 2>/dev/null || { echo "needs RLIMIT_NOFILE 20000: raise the hard limit" >&2; exit 1; }
kinds=(before_login framing websocket http_upgrade half_requests floods amplification never_reading names_and_tables closings
  identities control_port operators)
# When a receiver counts as slow is a figure of time: a busy machine may keep a bystander from reading for two seconds.
set -- --set session.slow_consumer_timeout_ms=60000 "$@"
run() { "$hostile" run "${kinds[@]}" --small --gateway "$gateway" "$@"; }
# 2 is an abuse that did nothing, for the machine was too busy: once more.
try() { run "$@" || { [ $? = 2 ] && echo "once more" && run "$@"; }; }
try --profile production --backend auto "$@"
try --profile development --backend epoll "$@"
echo "hostile, small: ok"
