//! `features`: what this runtime can do, as JSON (runtime specification, "Features Structure").

use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cli::SPEC_VERSION;
use crate::paths::Parts;
use crate::plan::{capabilities, mount_options};

use super::VerbError;

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];
/// Those a profile may name; the guest runs the first alone.
const ARCHS: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
const FLAGS: [&str; 3] = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];

/// Prints the features; gives the exit status.
pub fn run() -> Result<u8, VerbError> {
    let failed = |source| VerbError::Io { what: "print the features", source };
    let text = serde_json::to_string_pretty(&features(&hypervisor())).map_err(|error| failed(error.into()))?;
    writeln!(io::stdout(), "{text}").map_err(failed)?;
    Ok(0)
}

/// The features, with the back end that machines would run on.
fn features(hypervisor: &str) -> Value {
    let capabilities: Vec<String> = capabilities::NAMES.iter().map(|(_, name)| format!("CAP_{name}")).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": HOOKS,
        "mountOptions": mount_options::names().collect::<Vec<_>>(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false},
            "seccomp": {
                "enabled": true,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": ARCHS,
                "knownFlags": FLAGS,
                "supportedFlags": FLAGS,
            },
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
            "netDevices": {"enabled": false},
        },
        "annotations": {
            "dev.supermachine.version": env!("CARGO_PKG_VERSION"),
            "dev.supermachine.hypervisor": hypervisor,
        },
        "potentiallyUnsafeConfigAnnotations": ["dev.supermachine."],
    })
}

/// The back end that the vmm would choose here; `none` if there is no vmm, or none for it.
fn hypervisor() -> String {
    let asked = Parts::find().ok().and_then(|parts| {
        let mut probe = Command::new(parts.vmm);
        probe.arg("--probe").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()
    });
    let printed =
        asked.filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    printed.map_or_else(|| "none".to_owned(), |printed| printed.lines().next().unwrap_or("none").to_owned())
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Features, LinuxSeccomp};

    use super::*;
    use crate::plan::GuestArch;
    use crate::seccomp;

    #[test]
    fn features_have_the_specifications_form() {
        let features: Features = serde_json::from_value(features("soft")).expect("features");
        assert_eq!(features.oci_version_min(), "1.0.0");
        let linux = features.linux().as_ref().expect("Linux");
        assert_eq!(linux.namespaces().as_ref().map(Vec::len), Some(8));
        assert_eq!(linux.capabilities().as_ref().map(Vec::len), Some(41));
        let annotations = features.annotations().as_ref().expect("annotations");
        assert_eq!(annotations["dev.supermachine.hypervisor"], "soft");
    }

    #[test]
    fn what_seccomp_names_compiles() {
        for action in ACTIONS {
            let rules: Vec<Value> = OPERATORS
                .iter()
                .map(|operator| json!({"names": ["dup"], "action": action, "args": [{"index": 0, "value": 1, "op": operator}]}))
                .collect();
            let profile = json!({"defaultAction": action, "architectures": ARCHS, "flags": FLAGS, "syscalls": rules});
            let profile: LinuxSeccomp = serde_json::from_value(profile).expect("a profile");
            assert!(seccomp::compile(&profile, "s", GuestArch::X86_64).is_ok(), "{action}");
        }
    }
}
