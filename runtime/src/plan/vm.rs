//! Size of the virtual machine, and the annotations that may change it.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;

use super::annotations::{DISK_MIB, SNAPSHOT, SYMLINKS};
use super::{PlanError, VmSize};

/// What annotations of this runtime begin with. Only those listed here are accepted.
pub(crate) const PREFIX: &str = "dev.supermachine.";
/// Number of vCPUs.
pub(crate) const VCPUS: &str = "dev.supermachine.vcpus";
/// RAM of the machine in MiB.
pub(crate) const MEMORY_MIB: &str = "dev.supermachine.memory-mib";

/// Smallest machine. Sizes double from here, so that few templates serve all containers.
const MEMORY_MIN_MIB: u64 = 256;
/// Largest machine that the vmm makes.
const MEMORY_MAX_MIB: u64 = 1 << 20;
/// RAM without a limit.
const MEMORY_DEFAULT_MIB: u64 = 1024;
/// What the guest's kernel, its agent and the page cache need beside the container.
const MEMORY_GUEST_MIB: u64 = 128;
/// Most vCPUs that may be asked for; what the back end offers may be less.
const VCPUS_MAX: u32 = 64;

/// Plans the machine.
pub(super) fn plan(
    resources: Option<&LinuxResources>,
    annotations: &BTreeMap<String, String>,
    host_memory_mib: Option<u64>,
) -> Result<VmSize, PlanError> {
    for name in annotations.keys() {
        if name.is_empty() {
            return Err(PlanError::invalid("annotations", "a name is empty"));
        }
        if name.starts_with(PREFIX) && ![VCPUS, MEMORY_MIB, DISK_MIB, SYMLINKS, SNAPSHOT].contains(&name.as_str()) {
            return Err(PlanError::unsupported(
                format!("annotations[{name:?}]"),
                "is none of this runtime's annotations",
            ));
        }
    }
    let vcpus = number(annotations, VCPUS, 1, u64::from(VCPUS_MAX))?;
    let memory_mib = number(annotations, MEMORY_MIB, MEMORY_MIN_MIB, MEMORY_MAX_MIB)?;
    let needed = memory_limit(resources).map(|bytes| (bytes >> 20).saturating_add(MEMORY_GUEST_MIB));
    Ok(VmSize {
        vcpus: vcpus.and_then(|vcpus| u32::try_from(vcpus).ok()).unwrap_or(1),
        memory_mib: memory_mib.unwrap_or_else(|| step(needed.unwrap_or(MEMORY_DEFAULT_MIB), host_memory_mib)),
    })
}

/// The smallest step that holds `mib`. A limit far above what the host has is like none: the machine need not hold it.
fn step(mib: u64, host_memory_mib: Option<u64>) -> u64 {
    let max = host_memory_mib.map_or(MEMORY_MAX_MIB, |host| host.clamp(MEMORY_DEFAULT_MIB, MEMORY_MAX_MIB));
    mib.clamp(MEMORY_MIN_MIB, max).next_power_of_two()
}

/// The number that an annotation is, if it is there.
pub(super) fn number(
    annotations: &BTreeMap<String, String>,
    name: &str,
    min: u64,
    max: u64,
) -> Result<Option<u64>, PlanError> {
    let Some(text) = annotations.get(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
        _ => {
            let reason = format!("{text:?} is no number between {min} and {max}");
            Err(PlanError::invalid(format!("annotations[{name:?}]"), reason))
        }
    }
}

/// The container's limit of memory in bytes, rounded up to whole MiB.
fn memory_limit(resources: Option<&LinuxResources>) -> Option<u64> {
    let resources = resources?;
    let unified = resources.unified().as_ref().and_then(|files| files.get("memory.max"));
    let bytes = match unified {
        Some(text) => text.trim().parse().ok()?,
        None => u64::try_from(resources.memory().as_ref()?.limit()?).ok()?,
    };
    Some(bytes).filter(|bytes| *bytes > 0).map(|bytes| bytes.saturating_add((1 << 20) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(resources: &str, annotations: &[(&str, &str)]) -> Result<VmSize, PlanError> {
        let resources: LinuxResources = serde_json::from_str(resources).expect("resources");
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        plan(Some(&resources), &annotations, Some(24_000))
    }

    #[test]
    fn memory_grows_in_steps() {
        let cases = [
            ("{}", 1024),
            (r#"{"memory":{"limit":-1}}"#, 1024),
            (r#"{"memory":{"limit":0}}"#, 1024),
            (r#"{"memory":{"limit":1}}"#, 256),
            (r#"{"memory":{"limit":134217728}}"#, 256),
            (r#"{"memory":{"limit":134217729}}"#, 512),
            (r#"{"memory":{"limit":1073741824}}"#, 2048),
            (r#"{"memory":{"limit":9223372036854775807}}"#, 32_768),
            (r#"{"memory":{"limit":1},"unified":{"memory.max":"1073741824"}}"#, 2048),
            (r#"{"unified":{"memory.max":"max"}}"#, 1024),
        ];
        for (resources, memory_mib) in cases {
            assert_eq!(size(resources, &[]), Ok(VmSize { vcpus: 1, memory_mib }), "{resources}");
        }
    }

    #[test]
    fn annotations_size_the_machine() {
        let asked = size("{}", &[(VCPUS, "4"), (MEMORY_MIB, "300"), ("org.example", "x")]);
        assert_eq!(asked, Ok(VmSize { vcpus: 4, memory_mib: 300 }));
        for (name, value) in
            [(VCPUS, "0"), (VCPUS, "65"), (VCPUS, "two"), (MEMORY_MIB, "1"), ("dev.supermachine.kernel", "/x")]
        {
            let error = size("{}", &[(name, value)]).expect_err(value);
            assert_eq!(error.path(), format!("annotations[{name:?}]"));
        }
    }
}
