//! Whole machines: the built vmm boots the built kernel and initramfs, and a program runs from a squashfs image.
//!
//! The back end is the one that `SUPERMACHINE_HYPERVISOR` names or that the probe finds; `make testbed` runs the same
//! binary on a true KVM. `SUPERMACHINE_TEST_KERNEL` and `SUPERMACHINE_TEST_INITRAMFS` say what to boot; `make test` sets
//! them. Without them nothing here can run, and each test says so.

mod bad_input;
mod checkpoint;
mod container;
mod control;
mod create;
mod devices;
mod files;
mod harness;
mod leaks;
mod lifecycle;
mod process;
mod snapshot;
mod snapshot_hostile;
mod streams;
