#!/usr/bin/env bash
# quota.sh: a CPU quota decides how many workers there are by default, and the start screen says so. Needs root.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || fail "needs root, for a cgroup"
processors=$(nproc)

# A cgroup of version 2 where that has the controller, else of version 1.
if grep -qw cpu /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
    group=/sys/fs/cgroup/gateway-quota-$$ file=cpu.max
    grep -qw cpu /sys/fs/cgroup/cgroup.subtree_control || echo +cpu >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
    limit() { echo "$1 100000" >"$group/cpu.max"; }
else
    group=/sys/fs/cgroup/cpu/gateway-quota-$$ file=cpu.cfs_quota_us
    limit() { echo "$1" >"$group/cpu.cfs_quota_us"; }
fi
# In a container cgroups may not be its own to make.
if ! mkdir "$group" 2>/dev/null || ! limit 50000 2>/dev/null; then
    echo "quota: left out, for no cgroup with a CPU quota can be made in ${group%/*}"
    rmdir "$group" 2>/dev/null || true
    exit 0
fi
cleanup() { rmdir "$group"; }

# screen FLAG…: what a gateway under the quota shows of itself.
screen() { (echo "$BASHPID" >"$group/cgroup.procs" && exec "$gateway" check --config "$here/e2e.toml" "$@") >"$work/screen" 2>&1; }

# expect QUOTA WORKERS LINE: microseconds of each 100 000, and what the screen has of it.
expect() {
    limit "$1"
    screen --set io.workers=0 --set io.backend=epoll || fail "the check failed: $(cat "$work/screen")"
    grep -Eq "$2 workers? ×" "$work/screen" || fail "a quota of $1: not $2 workers: $(grep ' workers\? ' "$work/screen")"
    grep -Eq "^ +system .*$3\$" "$work/screen" || fail "a quota of $1: not \"$3\": $(grep system "$work/screen")"
    grep -E '^ +system ' "$work/screen"
}
plural=s
[ "$processors" != 1 ] || plural=
expect 50000 1 "1 core: $file allows 0.5 of $processors processor$plural"
expect $((processors * 100000)) "$processors" "$processors core$plural"
if [ "$processors" -gt 1 ]; then
    expect 100000 1 "1 core: $file allows 1.0 of $processors processors"
    expect 150000 1 "1 core: $file allows 1.5 of $processors processors"
fi
# What is configured holds.
limit 50000
screen --set io.workers=2 --set io.backend=epoll || fail "the check failed: $(cat "$work/screen")"
grep -q "2 workers ×" "$work/screen" || fail "io.workers = 2 under a quota: $(cat "$work/screen")"
echo "quota: ok"
