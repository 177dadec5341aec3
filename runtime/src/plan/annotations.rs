//! Annotations that say what a container has of the host, besides its mounts.

use std::collections::BTreeMap;

use supermachine_vmm_api::Symlinks;

use super::vm::number;
use super::{MachineSource, PlanError};

/// Size in MiB of a disk for what is written to the root file system.
pub(crate) const DISK_MIB: &str = "dev.supermachine.root.disk-mib";
/// What becomes of symbolic links in shared directories: `deny`, `opaque` or `follow`.
pub(crate) const SYMLINKS: &str = "dev.supermachine.share.symlinks";

/// Where the virtual machine comes from: `base`, a template; `pre-exec` or `listener`, a template with such a container;
/// `off`, a boot; or `auto`, the best of it that costs nothing.
pub(crate) const SNAPSHOT: &str = "dev.supermachine.snapshot";

/// Smallest disk: less has no room for a file system.
const DISK_MIN_MIB: u64 = 8;
/// Largest disk, 16 TiB: what ext4 can be with blocks of 4 KiB and without 64-bit numbers.
pub(super) const DISK_MAX_MIB: u64 = 16 << 20;

/// Size of the disk for what is written to the root; in the guest's memory if there is none.
pub(super) fn disk_mib(annotations: &BTreeMap<String, String>) -> Result<Option<u64>, PlanError> {
    number(annotations, DISK_MIB, DISK_MIN_MIB, DISK_MAX_MIB)
}

/// Where the virtual machine comes from.
pub(super) fn source(annotations: &BTreeMap<String, String>) -> Result<Option<MachineSource>, PlanError> {
    let Some(name) = annotations.get(SNAPSHOT) else { return Ok(None) };
    let unknown = || format!("{name:?} is none of {}", MachineSource::NAMES);
    let source = MachineSource::named(name);
    source.map(Some).ok_or_else(|| PlanError::invalid(format!("annotations[{SNAPSHOT:?}]"), unknown()))
}

/// What becomes of links in shared directories.
pub(super) fn symlinks(annotations: &BTreeMap<String, String>) -> Result<Symlinks, PlanError> {
    match annotations.get(SYMLINKS).map(String::as_str) {
        None | Some("opaque") => Ok(Symlinks::Opaque),
        Some("deny") => Ok(Symlinks::Deny),
        Some("follow") => Ok(Symlinks::Follow),
        Some(other) => {
            let reason = format!("{other:?} is none of deny, opaque and follow");
            Err(PlanError::invalid(format!("annotations[{SYMLINKS:?}]"), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use supermachine_agent_protocol::container::TemplatePoint;

    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let with = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(disk_mib(&BTreeMap::new()), Ok(None));
        assert_eq!(disk_mib(&with(DISK_MIB, "64")), Ok(Some(64)));
        for value in ["7", "16777217", "64M", ""] {
            let error = disk_mib(&with(DISK_MIB, value)).expect_err(value);
            assert_eq!(error.path(), format!("annotations[{DISK_MIB:?}]"));
        }
        assert_eq!(source(&BTreeMap::new()), Ok(None));
        assert_eq!(source(&with(SNAPSHOT, "base")), Ok(Some(MachineSource::Template)));
        assert_eq!(source(&with(SNAPSHOT, "off")), Ok(Some(MachineSource::Boot)));
        let listener = MachineSource::Image(TemplatePoint::Listener);
        assert_eq!(source(&with(SNAPSHOT, "listener")), Ok(Some(listener)));
        assert_eq!(source(&with(SNAPSHOT, "no")).expect_err("no source").path(), format!("annotations[{SNAPSHOT:?}]"));
        assert_eq!(symlinks(&with(SYMLINKS, "follow")), Ok(Symlinks::Follow));
        assert_eq!(
            symlinks(&with(SYMLINKS, "yes")).expect_err("no policy").path(),
            format!("annotations[{SYMLINKS:?}]")
        );
    }
}
