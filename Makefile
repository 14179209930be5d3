# What people and CI run. `make help` lists it.
.DEFAULT_GOAL := help
CACHE := $(CURDIR)/.cache
CONFIG ?= configs/gateway.dev.toml
BACKEND ?= io_uring
TRANSPORT ?= tcp
CONNECTIONS ?= 1m
ROUNDS ?= 3
REPORT ?= docs/reports/million$(if $(filter-out io_uring,$(BACKEND)),-$(BACKEND))$(if $(filter ws,$(TRANSPORT)),-ws)
FEATURES ?=
DPDK := --features gateway/dpdk,loadtest/dpdk
MILLION_DPDK := --features gateway/dpdk,million/dpdk
HOST = $(shell rustc --print host-tuple | tr a-z- A-Z_)
HAS_DPDK = $(shell pkg-config --exists libdpdk && echo yes)
export CARGO_TERM_COLOR ?= auto

.PHONY: help run build test unit e2e conformance dpdk check bench memory fairness hostile browsers sanitize million docs arm64 setup-tests fuzz clean

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## build the gateway and start it with its embedded router (CONFIG=… for another profile)
	cargo run --release -p gateway -- run --config $(CONFIG)

build: ## release binaries of gateway and loadtest
	cargo build --release -p gateway -p loadtest

# The tests end to end use one release build, which has the port to DPDK too; by themselves they need no DPDK.
test: FEATURES = $(DPDK)
test: setup-tests unit e2e conformance dpdk ## install what the tests need, then run every test

unit: ## unit, contract, simulation, session and tidy tests
	cargo test --workspace

setup-tests: ## what the tests need besides Rust: promtool, Chromium, Python and Node clients, Autobahn
	.ci/setup-tests.sh $(CACHE)

e2e: setup-tests ## a real gateway with a browser, Python and Node clients, promtool; nginx and HAProxy; 60 000 connections on four rings; the image, a CPU quota, the snippets of the documents (need root)
	cargo build --release -p gateway -p loadtest -p hostile -p million $(FEATURES)
	cargo test -p netpoll-tls --test interop -- --ignored
	gateway/tests/e2e/image.sh
	gateway/tests/e2e/quota.sh
	gateway/tests/e2e/snippets.sh
	gateway/tests/e2e/run.sh $(CACHE)
	gateway/tests/e2e/proxies.sh $(CACHE)
	gateway/tests/e2e/scale.sh
	gateway/tests/e2e/million.sh
	gateway/tests/e2e/shortage.sh
	gateway/tests/e2e/restart.sh
	gateway/tests/e2e/hostile.sh

conformance: setup-tests ## Autobahn's WebSocket suite: 301 cases, then once more under production limits
	cargo build --release -p gateway -p loadtest $(FEATURES)
	gateway/tests/e2e/conformance.sh $(CACHE)

dpdk: setup-tests ## the port: TAP devices with the kernel as the peer, memif with the load generator (needs root)
	CARGO_TARGET_$(HOST)_RUNNER=$(CURDIR)/.ci/dpdk-runner.sh cargo test --workspace $(DPDK),bench/dpdk --lib --test port \
		--test sessions --test websocket --test control_messages --test last_word --test memory_pressure --test shortage --test zero_allocations --test quick
	cargo build --release -p gateway -p loadtest $(DPDK)
	gateway/tests/e2e/dpdk.sh $(CACHE)
	gateway/tests/e2e/memif.sh

# All of it by --workspace: what is built here is built with the features that `make unit` needs, and so only once.
check: ## formatting, lints, docs, style, licenses and versions of dependencies, the protocol crate without std
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	! pkg-config --exists libdpdk || cargo clippy --workspace $(DPDK),bench/dpdk --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	cargo test --quiet --workspace --test tidy --test dependencies --test no_std

# The tables are of the stored reports, also where a bar was missed.
bench: ## gateway beside bare floors, threads, WebSocket libraries and a protobuf codec; writes the tables of the documents (under 15 minutes; with libdpdk also past the kernel)
	$(if $(HAS_DPDK),,@echo "no libdpdk here: the rows past the kernel are left out (docs/dpdk.md says how to install it)")
	cargo build --release -p gateway -p bench $(if $(HAS_DPDK),--features bench/dpdk)
	target/release/bench; status=$$?; target/release/bench tables --write && exit $$status

memory: ## resident memory of an idle session in three rooms, on io_uring and on epoll: 512 bytes at most; writes the table of the documents
	cargo build --release -p gateway -p loadtest -p bench
	gateway/tests/e2e/memory.sh --store docs/reports/memory/report.json
	target/release/bench tables --write

fairness: ## echo latency of well-behaved connections beside troublemakers, against its quiet value
	cargo build --release -p gateway -p loadtest
	gateway/tests/e2e/fairness.sh
	gateway/tests/e2e/flood.sh

hostile: ## over a hundred abuses, each beside 2 000 well-behaved connections that must not notice (BACKEND=io_uring|epoll ROUNDS=3)
	cargo build --release -p gateway -p hostile
	target/release/hostile all --well-behaved 2000 --backend $(BACKEND) --budget-ms 3000 --quiet-ms 2000 --rounds $(ROUNDS) --ratio-max 3 --pin \
		--report target/hostile-$(BACKEND).json

browsers: ## how Chromium and Firefox see a kick while they write (needs chromium and firefox-esr)
	cargo build --release -p gateway
	gateway/tests/e2e/browsers.sh

sanitize: ## netpoll's tests and the gateway's over real sockets under AddressSanitizer; with rust-src under ThreadSanitizer, too
	.ci/sanitize.sh

million: ## a million connections through every stage (BACKEND=io_uring|epoll|dpdk CONNECTIONS=1m TRANSPORT=tcp|ws REPORT=folder)
	cargo build --release -p gateway -p million -p bench $(if $(filter dpdk,$(BACKEND)),$(MILLION_DPDK))
	target/release/million --scenario configs/loadtest.million.toml --floor target/release/bench \
		--gateway-backend $(BACKEND) --connections $(CONNECTIONS) --transport $(TRANSPORT) --report $(REPORT); status=$$?; target/release/bench tables --write && exit $$status

arm64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
arm64: export RUSTFLAGS = -C target-feature=+crt-static
arm64: ## the gateway for arm64, one static file below target/aarch64-unknown-linux-gnu; it is run under emulation (installs a cross compiler and qemu-user; needs root)
	.ci/setup-arm64.sh
	cargo build --release --locked -p gateway --target aarch64-unknown-linux-gnu
	gateway/tests/e2e/arm64.sh

docs: ## the documents as a book, target/docs/book/index.html (installs mdBook the first time, some minutes)
	.ci/docs.sh $(CACHE)

fuzz: ## each fuzz body for ten million executions, frames for fifty (needs cargo-fuzz)
	.ci/fuzz.sh 10000000 frame bodies handshake auth websocket config
	.ci/fuzz.sh 50000000 frames
	.ci/fuzz.sh 10000000 cutter forged content hello ticket

clean: ## remove build output and the test tools' cache
	cargo clean
	rm -rf $(CACHE)
