# make test      what CI runs: formatting, lints, documentation, all tests
# make demo      builds, runs an example on loopback and shows what it does (EXAMPLE=name, or all)
# make bench     gapi beside nginx, HAProxy and a bare relay, one core each: plain HTTP, then gRPC, TLS, TCP and UDP; then
#                layer 4 between namespaces beside plain routing, nftables and HAProxy (this part needs root)
# make deb rpm   packages, in target/package
# make deb rpm ARCH=arm64   the same for arm64, cross-built
# make test-install   packages on a Debian that boots in a container
# make fuzz      any bytes as a ClientHello and as manifests, a minute each (TIME=seconds)
# make bench-reload   from the rename of a manifest to the first answer by it, with 3,000 routes
# make test-arm64     the program of the arm64 package serves an example, under qemu-user
# make test-kernel    the eBPF programs on Debian's kernels 6.1 and 6.12, under qemu (KERNEL=6.1 for one)
# make build, fmt, lint, doc

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO_TARGET_DIR ?= target
EXAMPLE ?= quickstart
ARCH ?= amd64
TIME ?= 60

.PHONY: build release test demo bench fuzz bench-reload deb rpm test-install test-arm64 test-kernel fmt fmt-check lint doc setup
.DEFAULT_GOAL := build

setup:
	@scripts/setup

build: setup
	cargo build --locked

release: setup
	cargo build --locked --release

test: fmt-check lint doc
	@scripts/setup test
	cargo test --locked --no-fail-fast
	PROFILE=debug scripts/test-install

demo: build
	@PATH="$(abspath $(CARGO_TARGET_DIR))/debug:$$PATH" scripts/demo $(EXAMPLE)

bench: release
	@scripts/setup bench
	cargo build --locked --release --manifest-path benches/peers/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/peers
	@benches/peers/run
	@benches/peers/rows
	@benches/peers/lanes

bench-reload: release
	@benches/reload/run

fuzz: setup
	@scripts/setup fuzz
	TIME=$(TIME) fuzz/run

deb rpm: setup
	@scripts/setup package $(ARCH)
	ARCH=$(ARCH) scripts/package $@

test-install: setup
	scripts/test-install

test-arm64: setup
	scripts/test-arm64

test-kernel: setup
	scripts/test-kernel $(KERNEL)

fmt: setup
	cargo fmt
	cargo fmt --manifest-path benches/peers/Cargo.toml
	cargo fmt --manifest-path fuzz/Cargo.toml

fmt-check: setup
	cargo fmt --check
	cargo fmt --check --manifest-path benches/peers/Cargo.toml
	cargo fmt --check --manifest-path fuzz/Cargo.toml

lint: setup
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --manifest-path benches/peers/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/peers -- -D warnings

doc: setup
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
