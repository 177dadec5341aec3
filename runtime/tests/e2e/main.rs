//! Whole containers: the built runtime starts the built vmm, which boots the built guest, and busybox runs in it.
//!
//! The back end is the one that `SUPERMACHINE_HYPERVISOR` names or that the probe finds. `SUPERMACHINE_TEST_KERNEL` and
//! `SUPERMACHINE_TEST_INITRAMFS` say what to boot; `make test` sets them. Each test has directories of its own and says at
//! its end that nothing of it is left.

mod checkpoint;
mod console;
mod crash;
mod cut;
mod exec;
mod harness;
mod hooks;
mod images;
mod join;
mod kinds;
mod layers;
mod lifecycle;
mod mounts;
mod numbers;
mod overlays;
mod refused;
mod streams;
mod templates;
mod together;
