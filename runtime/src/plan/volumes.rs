//! Volumes: mounts of type `ext4` whose source is an image in a file of the host.

use std::path::Path;

use oci_spec::runtime::Mount;
use supermachine_agent_protocol::container::{ContainerMount, MountSource};

use super::annotations::DISK_MAX_MIB;
use super::mount_options::Options;
use super::{HostVolume, PlanError};

/// The type of file system of volumes.
pub(super) const FSTYPE: &str = "ext4";
/// Disks for volumes that a machine has, by their names in the guest.
const DEVICES: [&str; 6] = ["/dev/vdc", "/dev/vdd", "/dev/vde", "/dev/vdf", "/dev/vdg", "/dev/vdh"];
/// Size in MiB of an image that is made, unless an option says another: it is sparse.
const DEFAULT_MIB: u64 = 8 << 10;
/// Smallest size that can be asked for.
const MIN_MIB: u64 = 8;

/// Plans a mount of an image. Several mounts of one image are one volume.
pub(super) fn plan(
    index: usize,
    mount: &Mount,
    bundle: &Path,
    destination: String,
    options: &Options,
    volumes: &mut Vec<HostVolume>,
) -> Result<ContainerMount, PlanError> {
    let at = format!("mounts[{index}]");
    let source = super::mounts::host_source(mount, bundle, &at)?.into();
    let (size_mib, data) = size(&options.data, &format!("{at}.options"))?;
    let read_only = options.is_read_only();
    let number = match volumes.iter_mut().position(|volume| volume.source == source) {
        Some(number) => number,
        None if volumes.len() == DEVICES.len() => {
            return Err(PlanError::unsupported(at, format!("a machine has disks for {} volumes", DEVICES.len())));
        }
        None => {
            volumes.push(HostVolume { mount: index, source, size_mib, read_only });
            volumes.len().saturating_sub(1)
        }
    };
    if let Some(volume) = volumes.get_mut(number) {
        volume.read_only &= read_only;
    }
    let device = DEVICES.get(number).copied().unwrap_or_default().to_owned();
    let source = MountSource::Volume { device, fstype: FSTYPE.to_owned() };
    Ok(ContainerMount { destination, source, flags: options.guest_flags(), data })
}

/// Takes the size in MiB from the options for the file system.
fn size(data: &str, at: &str) -> Result<(u64, String), PlanError> {
    let (sizes, rest): (Vec<&str>, Vec<&str>) = data.split(',').partition(|option| option.starts_with("size="));
    let size = match sizes.last().map(|option| option.trim_start_matches("size=")) {
        None => DEFAULT_MIB,
        Some(text) => mib(text).filter(|mib| (MIN_MIB..=DISK_MAX_MIB).contains(mib)).ok_or_else(|| {
            let reason = format!("size {text:?} is no number with M, G or T from 8M to 16T");
            PlanError::invalid(at, reason)
        })?,
    };
    Ok((size, rest.join(",")))
}

fn mib(text: &str) -> Option<u64> {
    let unit = text.bytes().last()?.to_ascii_uppercase();
    let shift = match unit {
        b'M' => 0,
        b'G' => 10,
        b'T' => 20,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_taken_from_the_options() {
        assert_eq!(size("", "x"), Ok((8192, String::new())));
        assert_eq!(size("noatime,size=2g,commit=1", "x"), Ok((2048, "noatime,commit=1".to_owned())));
        for bad in ["size=", "size=5", "size=7M", "size=17T", "size=-1G", "size=1\u{e9}", "size=99999999999999999999T"]
        {
            assert_eq!(size(bad, "mounts[1].options").expect_err(bad).path(), "mounts[1].options");
        }
    }
}
