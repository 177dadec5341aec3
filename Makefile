# The few commands of this repository; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo setup kernel guest build install run-guest run-bundle test testbed check-macos fuzz fuzz-soft fuzz-hostile fuzz-shares bench-soft bench-start bench-layers conformance test-mounts test-podman soak programs

CMD ?= uname -a
PREFIX ?= /usr/local
SECONDS ?= 60

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: ## set everything up, then let a container print its own kernel version
	@$(MAKE) --no-print-directory run-bundle CMD='uname -srm'

setup: ## install the Debian packages that are missing (as root)
	@conformance/setup

kernel: ## build the guest kernel, print its folder; ARCH=arm64 for the other architecture
	@kernel/build $(ARCH)

guest: ## build the guest's initramfs, print its path
	@guest-init/build $(ARCH)

build: ## build the release binaries into target/release
	cargo build --release -p supermachine-vmm -p supermachine-runtime

install: setup build ## put runtime, vmm and guest below PREFIX=/usr/local
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' conformance/with-guest conformance/install

run-bundle: setup build ## run CMD="uname -a" as a container of supermachine-runtime
	@conformance/run-bundle $(CMD)

run-guest: setup build ## run CMD="uname -a" in a microVM, without a container
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

fuzz: ## hostile guests, peers and files against devices, protocols and snapshots, SECONDS=60 for each property
	SUPERMACHINE_FUZZ_SECONDS=$(SECONDS) cargo test --release -p supermachine-devices
	SUPERMACHINE_FUZZ_SECONDS=$(SECONDS) cargo test --release -p supermachine-share --test hostile
	PROPTEST_CASES=$$(( $(SECONDS) * 10000 )) cargo test --release -p supermachine-agent-protocol -p supermachine-vmm-api
	PROPTEST_CASES=$$(( $(SECONDS) * 10000 )) cargo test --release -p supermachine-snapshot --test files hostile

fuzz-soft: ## compare the soft CPU with this machine's own for SECONDS=60, one instruction at a time and in blocks
	cargo build --release --quiet -p supermachine-soft-oracle
	@for mode in "" --blocks; do for model in v1 v2; do \
		$${CARGO_TARGET_DIR:-target}/release/soft-oracle --seconds $$(( ($(SECONDS) + 3) / 4 )) --model $$model $$mode || exit 1; done; done

fuzz-hostile: ## random guests against the soft CPU and against all devices, SECONDS=60 in all
	SUPERMACHINE_FUZZ_SECONDS=$$(( ($(SECONDS) + 1) / 2 )) cargo test -p supermachine-hv-soft --test hostile -- --nocapture
	SUPERMACHINE_FUZZ_SECONDS=$$(( ($(SECONDS) + 1) / 2 )) conformance/with-guest cargo test -p supermachine-vmm --test hostile_devices -- --nocapture

fuzz-shares: ## random and lying guests against the server of shares, SECONDS=60 in all
	SUPERMACHINE_FUZZ_SECONDS=$$(( ($(SECONDS) + 1) / 2 )) cargo test --release -p supermachine-share --test hostile -- --test-threads=1

bench-soft: setup build ## measure the soft back end against QEMU's emulator; fails while a bound is missed
	@conformance/bench-soft

bench-start: ## measure the start of containers against runc, crun and a boot; fails while a bound is missed
	@conformance/setup runc:runc crun:crun
	@$(MAKE) --no-print-directory build
	@conformance/with-guest sh -c 'SUPERMACHINE_KERNEL=$$SUPERMACHINE_TEST_KERNEL SUPERMACHINE_INITRAMFS=$$SUPERMACHINE_TEST_INITRAMFS exec conformance/bench-start $(BENCH)'

bench-layers: setup ## measure the squashfs writer against mksquashfs (as root); fails while a bound is missed
	cargo build --release -p supermachine-layers --examples
	@conformance/bench-layers

test-mounts: setup build ## root file systems and shares beside this host's, their rates, bench-layers (as root); MOUNTS=--quick for minutes less, --kvm for the trees on KVM
	$(if $(MOUNTS),,cargo build --release -p supermachine-layers --examples)
	@conformance/setup cpio:cpio umoci:umoci skopeo:skopeo
	@conformance/with-guest conformance/mounts/run $(MOUNTS)

programs: setup build ## run the same programs here and in soft guests, compare what they print (as root); PROGRAMS=--quick for some
	@conformance/programs/run $(PROGRAMS)

conformance: setup build ## OCI's own validation programs against supermachine-runtime, with runc as control; NAMES="default kill" for some
	@conformance/setup runc:runc
	@conformance/with-guest conformance/runtime-tools/run $(NAMES)

soak: setup build ## run and delete containers for about ten minutes, see that nothing grows; SOAK="--seconds 30 …" for less
	@conformance/with-guest conformance/soak $(SOAK)

test-podman: setup build ## containers of podman through supermachine-runtime; NAMES="exec logs" for some
	@conformance/setup podman:podman conmon:conmon
	@conformance/with-guest conformance/podman/run $(NAMES)
