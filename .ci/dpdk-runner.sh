#!/usr/bin/env bash
# dpdk-runner.sh TEST…: cargo's runner for `make dpdk`. The tests are built for the whole workspace, with the features that the
# other tests were built with, so that only what the port changes is built again. Of what was built, dpdk-backend's tests all run,
# the others' only where "dpdk" is in their name: without the port they have run already.
set -euo pipefail
case $CARGO_MANIFEST_DIR in
*/dpdk-backend) exec "$@" ;;
*) exec "$@" dpdk ;;
esac
