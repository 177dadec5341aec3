//! The host's side of a container: the vmm's process, its control group and namespaces, its files, the hooks that run
//! here.
//!
//! Linux only; the rest of the crate is not. On other hosts the vmm is started without groups and namespaces.

#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(target_os = "linux")]
pub mod files;
#[cfg(target_os = "linux")]
pub mod hooks;
#[cfg(target_os = "linux")]
pub mod launch;
#[cfg(target_os = "linux")]
pub mod mountinfo;
#[cfg(target_os = "linux")]
pub mod process;
