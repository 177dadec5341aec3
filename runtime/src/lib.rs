//! An OCI runtime whose containers are microVMs: bundle in, one `supermachine-vmm` out, and the verbs of its life.

pub mod bundle;
pub mod checkpoint;
#[cfg(target_os = "linux")]
pub mod cli;
pub mod console;
pub mod control;
#[cfg(target_os = "linux")]
pub mod create;
pub mod host;
pub mod logging;
pub mod paths;
pub mod plan;
pub mod relay;
pub mod rootfs;
pub mod seccomp;
pub mod state;
#[cfg(target_os = "linux")]
pub mod template;
pub mod time;
#[cfg(target_os = "linux")]
pub mod verbs;
