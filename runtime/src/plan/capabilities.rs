//! Capabilities: names to masks.

use oci_spec::runtime::{Capability, LinuxCapabilities};
use supermachine_agent_protocol::container::Capabilities;

/// Capabilities in the order of their numbers (`linux/capability.h` of Linux 6.12), without `CAP_`.
pub(crate) const NAMES: [(Capability, &str); 41] = {
    use Capability::*;
    [
        (Chown, "CHOWN"),
        (DacOverride, "DAC_OVERRIDE"),
        (DacReadSearch, "DAC_READ_SEARCH"),
        (Fowner, "FOWNER"),
        (Fsetid, "FSETID"),
        (Kill, "KILL"),
        (Setgid, "SETGID"),
        (Setuid, "SETUID"),
        (Setpcap, "SETPCAP"),
        (LinuxImmutable, "LINUX_IMMUTABLE"),
        (NetBindService, "NET_BIND_SERVICE"),
        (NetBroadcast, "NET_BROADCAST"),
        (NetAdmin, "NET_ADMIN"),
        (NetRaw, "NET_RAW"),
        (IpcLock, "IPC_LOCK"),
        (IpcOwner, "IPC_OWNER"),
        (SysModule, "SYS_MODULE"),
        (SysRawio, "SYS_RAWIO"),
        (SysChroot, "SYS_CHROOT"),
        (SysPtrace, "SYS_PTRACE"),
        (SysPacct, "SYS_PACCT"),
        (SysAdmin, "SYS_ADMIN"),
        (SysBoot, "SYS_BOOT"),
        (SysNice, "SYS_NICE"),
        (SysResource, "SYS_RESOURCE"),
        (SysTime, "SYS_TIME"),
        (SysTtyConfig, "SYS_TTY_CONFIG"),
        (Mknod, "MKNOD"),
        (Lease, "LEASE"),
        (AuditWrite, "AUDIT_WRITE"),
        (AuditControl, "AUDIT_CONTROL"),
        (Setfcap, "SETFCAP"),
        (MacOverride, "MAC_OVERRIDE"),
        (MacAdmin, "MAC_ADMIN"),
        (Syslog, "SYSLOG"),
        (WakeAlarm, "WAKE_ALARM"),
        (BlockSuspend, "BLOCK_SUSPEND"),
        (AuditRead, "AUDIT_READ"),
        (Perfmon, "PERFMON"),
        (Bpf, "BPF"),
        (CheckpointRestore, "CHECKPOINT_RESTORE"),
    ]
};

/// Whether `name` (with `CAP_`, in capitals) is a capability.
pub(crate) fn is_known(name: &str) -> bool {
    name.strip_prefix("CAP_").is_some_and(|name| NAMES.iter().any(|(_, known)| *known == name))
}

/// The mask of one capability by name, with `CAP_` or without, in any case; for `exec --cap`.
pub fn capability_mask(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|(_, known)| *known == bare).map(|number| 1 << number)
}

fn mask<'a>(set: impl IntoIterator<Item = &'a Capability>) -> u64 {
    set.into_iter()
        .filter_map(|capability| NAMES.iter().position(|(known, _)| known == capability))
        .fold(0, |mask, n| mask | 1 << n)
}

/// Masks of the five sets; a set that is not given is empty.
pub(super) fn plan(sets: &LinuxCapabilities) -> Capabilities {
    Capabilities {
        bounding: mask(sets.bounding().iter().flatten()),
        effective: mask(sets.effective().iter().flatten()),
        inheritable: mask(sets.inheritable().iter().flatten()),
        permitted: mask(sets.permitted().iter().flatten()),
        ambient: mask(sets.ambient().iter().flatten()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_linuxs() {
        let numbers = [
            ("CAP_CHOWN", 0),
            ("KILL", 5),
            ("cap_net_raw", 13),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_AUDIT_READ", 37),
            ("BPF", 39),
        ];
        for (name, number) in numbers {
            assert_eq!(capability_mask(name), Some(1 << number), "{name}");
        }
        assert_eq!(capability_mask("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(capability_mask("CAP_TEST"), None);
        assert!(is_known("CAP_CHOWN") && !is_known("CHOWN") && !is_known("cap_chown"));
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for (capability, name) in NAMES {
            let json = serde_json::to_value(capability).expect("a name");
            assert_eq!(json, format!("CAP_{name}"));
        }
    }
}
