#!/usr/bin/env bash
# hostile.sh: the hostile suite in small: every abuse beside 200 well-behaved connections, alone for 0.3 s and then all at once.
# No bystander may be closed or refused, or lose a message; what abuses took must come back. The production profile runs on
# io_uring where the system allows it, the development profile on epoll. Nothing here depends on time.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
gateway=${GATEWAY:-$root/target/release/gateway}
hostile=${HOSTILE:-$root/target/release/hostile}
ulimit -n 20000 2>/dev/null || { echo "needs RLIMIT_NOFILE 20000: raise the hard limit" >&2; exit 1; }
"$hostile" all --small --gateway "$gateway" --profile production --backend auto "$@"
"$hostile" all --small --gateway "$gateway" --profile development --backend epoll "$@"
echo "hostile, small: ok"
