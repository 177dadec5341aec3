//! The root file system that `--root-disk` asks for: mounted in the guest before anything runs there.

use supermachine_agent_protocol::{Mount, Request};

use crate::agent::{Agent, AgentError};

/// Where the root disk is mounted in the guest.
pub const ROOT: &str = "/run/supermachine/root";

/// Mounts the squashfs of disk `slot` read-only, with the kernel's own file systems in it.
pub fn mount(agent: &Agent, slot: usize) -> Result<(), AgentError> {
    let letter = char::from(b'a'.saturating_add(u8::try_from(slot).unwrap_or(u8::MAX)));
    let disk = format!("/dev/vd{letter}");
    let (proc, dev) = (format!("{ROOT}/proc"), format!("{ROOT}/dev"));
    for (source, target, fstype, flags) in [
        (disk.as_str(), ROOT, "squashfs", ["ro", "nodev"].as_slice()),
        ("proc", &proc, "proc", &["nosuid", "nodev", "noexec"]),
        ("devtmpfs", &dev, "devtmpfs", &["nosuid", "noexec"]),
    ] {
        let mount = Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            fstype: fstype.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            data: String::new(),
        };
        agent.call()?.request_done(&Request::Mount(mount))?;
    }
    Ok(())
}
