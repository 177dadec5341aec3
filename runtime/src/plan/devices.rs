//! Device nodes of a container.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use supermachine_agent_protocol::container::{Device, DeviceKind};

use super::PlanError;
use super::paths::clean;
use super::process::no_nul;

/// Nodes that every container has (runtime specification, "Default Devices"), with their numbers.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Mode of a node whose bundle gives none.
const DEFAULT_MODE: u32 = 0o666;
/// Major numbers of devices that are the kernel's own and so in the guest as well: memory, terminals, miscellaneous,
/// pseudo terminals.
const KERNELS_OWN: [u32; 4] = [1, 5, 10, 136];

/// Plans the nodes at `at`, and those that every container has.
pub(super) fn plan(devices: &[LinuxDevice], at: &str, warnings: &mut Vec<String>) -> Result<Vec<Device>, PlanError> {
    let mut planned = Vec::with_capacity(devices.len());
    for (index, device) in devices.iter().enumerate() {
        planned.push(node(device, &format!("{at}[{index}]"))?);
    }
    let foreign: Vec<&str> = planned
        .iter()
        .filter(|device| device.kind != DeviceKind::Fifo && !KERNELS_OWN.contains(&device.major))
        .map(|device| device.path.as_str())
        .collect();
    if let Some(first) = foreign.first() {
        warnings.push(format!(
            "{at}: {} nodes ({first}, …) are made, but the host's devices behind them are not in the guest",
            foreign.len()
        ));
    }
    for (path, major, minor) in DEFAULTS {
        if !planned.iter().any(|device| device.path == path) {
            let kind = DeviceKind::Character;
            planned.push(Device { path: path.to_owned(), kind, major, minor, mode: DEFAULT_MODE, uid: 0, gid: 0 });
        }
    }
    Ok(planned)
}

fn node(device: &LinuxDevice, at: &str) -> Result<Device, PlanError> {
    let path = device.path().to_string_lossy();
    no_nul(&format!("{at}.path"), &path)?;
    if !path.starts_with('/') || clean(&path) == "/" {
        return Err(PlanError::invalid(format!("{at}.path"), format!("{path:?} is not the absolute path of a file")));
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(PlanError::invalid(format!("{at}.type"), "must be b, c, u or p")),
    };
    let number = |field: &str, number: i64, bits: u32| {
        u32::try_from(number)
            .ok()
            .filter(|number| number >> bits == 0)
            .ok_or_else(|| PlanError::invalid(format!("{at}.{field}"), format!("{number} is no device number")))
    };
    // MINORBITS of linux/kdev_t.h: 12 bits of major and 20 of minor number.
    let (major, minor) = match kind {
        DeviceKind::Fifo => (0, 0),
        _ => (number("major", device.major(), 12)?, number("minor", device.minor(), 20)?),
    };
    Ok(Device {
        path: clean(&path),
        kind,
        major,
        minor,
        // Some callers leave the bits of the node's kind in.
        mode: device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
        uid: device.uid().unwrap_or_default(),
        gid: device.gid().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(json: &str) -> Result<(Vec<Device>, Vec<String>), PlanError> {
        let devices: Vec<LinuxDevice> = serde_json::from_str(json).expect("devices");
        let mut warnings = Vec::new();
        plan(&devices, "d", &mut warnings).map(|devices| (devices, warnings))
    }

    #[test]
    fn every_container_has_six_nodes() {
        let (devices, warnings) = nodes("[]").expect("no devices");
        assert_eq!(devices.len(), 6);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn nodes_are_as_the_bundle_says() {
        let json = r#"[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":8630,"uid":7},
                       {"path":"/dev/fifo","type":"p"},{"path":"/dev/sda","type":"b","major":8,"minor":0,"fileMode":432}]"#;
        let (devices, warnings) = nodes(json).expect("devices");
        assert_eq!(devices.len(), 8);
        assert_eq!((devices[0].mode, devices[0].uid), (0o666, 7));
        assert_eq!((devices[1].kind, devices[1].mode), (DeviceKind::Fifo, 0o666));
        assert_eq!((devices[2].kind, devices[2].mode), (DeviceKind::Block, 0o660));
        assert!(warnings.len() == 1 && warnings[0].contains("/dev/sda"), "{warnings:?}");
    }
}
