#!/usr/bin/env bash
# snippets.sh: the snippets of README and docs do what they say (snippets.py), in a network namespace of their own. Needs root.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || fail "needs root, for a network namespace"
unshare --net sh -ec 'ip link set lo up && exec python3 "$@"' sh "$here/snippets.py" "$root" || fail "a snippet does not do what it should"
