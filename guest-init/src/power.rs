//! The end of the guest.

use std::fs;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;

/// The guest has no ACPI: with `reboot=k` on the command line a reboot is a reset by the keyboard controller, and
/// that is the end of the VM.
#[cfg(target_arch = "x86_64")]
const END: RebootMode = RebootMode::RB_AUTOBOOT;
/// PSCI has a call for it.
#[cfg(not(target_arch = "x86_64"))]
const END: RebootMode = RebootMode::RB_POWER_OFF;

/// Writes everything back, unmounts what can be, and ends the guest.
pub(crate) fn off() -> ! {
    sync();
    detach_disks();
    let Err(error) = reboot(END);
    crate::console::line(&format!("cannot end the guest: {error}"));
    // The end of PID 1 is a kernel panic, which ends the guest too.
    std::process::abort()
}

/// Only what a device backs and can be written has anything to lose.
fn detach_disks() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ');
        let (Some(source), Some(target), _, Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if !source.starts_with("/dev/") || options.split(',').any(|option| option == "ro") {
            continue;
        }
        if umount2(target, MntFlags::empty()).is_err() {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            // Everything is written back already: nothing is left to try.
            let _ = nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>);
        }
    }
}
