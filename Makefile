# The few commands of this repository; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo setup kernel guest build run-guest test testbed check-macos fuzz fuzz-soft bench-soft

CMD ?= uname -a
SECONDS ?= 60

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: ## set everything up, then let a microVM print its own kernel version
	@$(MAKE) --no-print-directory run-guest CMD='uname -srm'

setup: ## install the Debian packages that are missing (as root)
	@conformance/setup

kernel: ## build the guest kernel, print its folder; ARCH=arm64 for the other architecture
	@kernel/build $(ARCH)

guest: ## build the guest's initramfs, print its path
	@guest-init/build $(ARCH)

build: ## build the release binaries into target/release
	cargo build --release -p supermachine-vmm

run-guest: setup build ## run CMD="uname -a" in a microVM
	@conformance/run-guest $(CMD)

test: setup ## check format, lints and sizes, run every test that needs no KVM
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo run --quiet -p supermachine-conformance --bin size_check
	conformance/with-guest cargo test --workspace --no-fail-fast

testbed: setup ## run the tests that need KVM, in an emulated machine that has it
	cargo test -p supermachine-conformance --test testbed -- --ignored
	conformance/with-guest conformance/testbed/suite

check-macos: setup ## type-check what macOS needs, without a Mac (as root)
	conformance/check-macos

fuzz: ## hostile guests and peers against devices and protocols, SECONDS=60 for each property
	SUPERMACHINE_FUZZ_SECONDS=$(SECONDS) cargo test --release -p supermachine-devices
	PROPTEST_CASES=$$(( $(SECONDS) * 10000 )) cargo test --release -p supermachine-agent-protocol -p supermachine-vmm-api

fuzz-soft: ## compare the soft CPU with this machine's own for SECONDS=60, one instruction at a time and in blocks
	cargo build --release --quiet -p supermachine-soft-oracle
	@for mode in "" --blocks; do for model in v1 v2; do \
		$${CARGO_TARGET_DIR:-target}/release/soft-oracle --seconds $$(( ($(SECONDS) + 3) / 4 )) --model $$model $$mode || exit 1; done; done

bench-soft: setup build ## measure the soft back end against QEMU's emulator; fails while a bound is missed
	@conformance/bench-soft
