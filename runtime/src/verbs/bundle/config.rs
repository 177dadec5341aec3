//! From an image's configuration to a bundle's: what docker would run, where OCI's image specification leaves it open.
//!
//! An image decides about its process. What it says about itself becomes annotations, but for those by which a bundle tells this
//! runtime what machine to make.

use serde_json::{Map, Value, json};
use supermachine_layers::image::Config;
use supermachine_layers::image::accounts::User;

use crate::plan::ANNOTATION_PREFIX;
use crate::verbs::{VerbError, spec};

/// Where programs are searched if the image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Capabilities that docker gives.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A bundle's configuration.
#[derive(Debug)]
pub(super) struct Made {
    /// `config.json`.
    pub(super) json: String,
    /// What of the image is left out, one line each.
    pub(super) warnings: Vec<String>,
}

/// Makes the configuration; `args` replace the image's command, not its entrypoint.
pub(super) fn config(image: &Config, user: &User, args: &[String]) -> Result<Made, VerbError> {
    let mut warnings = Vec::new();
    let mut config: Value = serde_json::from_str(spec::DEFAULT).unwrap_or_default();
    let of = &image.config;
    let command = if args.is_empty() { &of.cmd } else { args };
    let args: Vec<_> = of.entrypoint.iter().chain(command).collect();
    if args.is_empty() {
        let message = "the image has neither entrypoint nor command: name one behind --";
        return Err(VerbError::Argument(message.to_owned()));
    }
    let sets = ["bounding", "effective", "permitted"].map(|set| (set.to_owned(), json!(CAPABILITIES)));
    let process = json!({
        "terminal": false,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids},
        "args": args,
        "env": environment(&of.env, &user.home),
        "cwd": working_dir(&of.working_dir),
        "capabilities": Value::Object(sets.into_iter().collect::<Map<_, _>>()),
        "noNewPrivileges": false,
    });
    config["process"] = process;
    config["root"] = json!({"path": "rootfs", "readonly": false});
    config["annotations"] = Value::Object(annotations(image, &mut warnings));
    let json = serde_json::to_string_pretty(&config)
        .map_err(|error| VerbError::Io { what: "write config.json", source: error.into() })?;
    Ok(Made { json: json + "\n", warnings })
}

/// What the image says, and what programs need and it does not say.
fn environment(own: &[String], home: &str) -> Vec<String> {
    let has = |name: &str| own.iter().any(|entry| entry.split('=').next() == Some(name));
    let mut all = Vec::new();
    if !has("PATH") {
        all.push(PATH.to_owned());
    }
    all.extend_from_slice(own);
    if !has("HOME") {
        all.push(format!("HOME={home}"));
    }
    all
}

fn working_dir(own: &str) -> String {
    match own {
        "" => "/".to_owned(),
        own if own.starts_with('/') => own.to_owned(),
        own => format!("/{own}"),
    }
}

/// What the image says about itself, under the names that the image specification has for it; labels win.
fn annotations(image: &Config, warnings: &mut Vec<String>) -> Map<String, Value> {
    let of = &image.config;
    let (features, ports) = (image.os_features.join(","), of.exposed_ports.join(","));
    let own = [
        ("os", image.platform.os.as_str()),
        ("architecture", &image.platform.architecture),
        ("variant", image.platform.variant.as_deref().unwrap_or_default()),
        ("os.version", &image.os_version),
        ("os.features", &features),
        ("author", &image.author),
        ("created", &image.created),
        ("stopSignal", &of.stop_signal),
        ("exposedPorts", &ports),
    ];
    let said = own.iter().filter(|(_, value)| !value.is_empty());
    let mut all: Map<_, _> =
        said.map(|(name, value)| (format!("org.opencontainers.image.{name}"), json!(value))).collect();
    for (name, value) in &of.labels {
        if name.is_empty() || name.starts_with(ANNOTATION_PREFIX) {
            warnings.push(format!("label {name:?} of the image is left out: an image does not configure its machine"));
            continue;
        }
        all.insert(name.clone(), json!(value));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::plan::{self, GuestArch, Plan, PlanSettings};

    fn user() -> User {
        User { uid: 7, gid: 8, additional_gids: vec![9], home: "/home/me".to_owned() }
    }

    fn image(json: Value) -> Config {
        serde_json::from_value(json).expect("a configuration")
    }

    fn planned(made: &Made) -> Plan {
        let bundle = Bundle::parse("/bundle".into(), made.json.as_bytes()).expect("a bundle");
        let settings = PlanSettings {
            id: "x".to_owned(),
            systemd_cgroup: false,
            rootless: false,
            arch: GuestArch::X86_64,
            host_memory_mib: None,
        };
        plan::plan(&bundle, &settings).expect("a plan")
    }

    #[test]
    fn what_an_image_says_becomes_its_process() {
        let image = image(json!({
            "os": "linux", "architecture": "amd64", "author": "me", "created": "2026-01-01T00:00:00Z",
            "config": {
                "Entrypoint": ["/entry", "-x"], "Cmd": ["a", "b"], "Env": ["A=1", "PATH=/only"], "WorkingDir": "/srv",
                "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
                "Labels": {"org.example": "label", "org.opencontainers.image.author": "label wins"},
            },
        }));
        let made = config(&image, &user(), &[]).expect("a configuration");
        assert_eq!(made.warnings, [""; 0]);
        let plan = planned(&made);
        let process = &plan.container.process;
        assert_eq!(process.argv, ["/entry", "-x", "a", "b"]);
        assert_eq!(process.env, ["A=1", "PATH=/only", "HOME=/home/me"]);
        assert_eq!(process.cwd, "/srv");
        assert!(!plan.container.root.read_only && !plan.terminal);
        let annotation = |name: &str| plan.annotations.get(name).map(String::as_str);
        assert_eq!(annotation("org.opencontainers.image.stopSignal"), Some("SIGQUIT"));
        assert_eq!(annotation("org.opencontainers.image.exposedPorts"), Some("53/udp,80/tcp"));
        assert_eq!(annotation("org.opencontainers.image.author"), Some("label wins"));
        assert_eq!(annotation("org.example"), Some("label"));
        let json: Value = serde_json::from_str(&made.json).expect("JSON");
        assert_eq!(json["process"]["user"], json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
    }

    #[test]
    fn what_it_does_not_say_is_as_docker_has_it() {
        let image = image(json!({"config": {"Cmd": ["sh"], "Env": null, "Entrypoint": null, "Labels": null}}));
        let made = config(&image, &user(), &["ls".to_owned()]).expect("a configuration");
        let plan = planned(&made);
        assert_eq!(plan.container.process.argv, ["ls"]);
        assert_eq!(plan.container.process.env, [PATH, "HOME=/home/me"]);
        assert_eq!(plan.container.process.cwd, "/");
        assert!(plan.annotations.is_empty(), "{:?}", plan.annotations);
        let error = config(&Config::default(), &user(), &[]).expect_err("nothing to run");
        assert!(error.to_string().contains("neither entrypoint nor command"), "{error}");
    }

    #[test]
    fn no_label_configures_the_machine() {
        let labels =
            json!({"dev.supermachine.vcpus": "64", "dev.supermachine.x": "y", "": "z", "dev.supermachin": "ok"});
        let image = image(json!({"config": {"Cmd": ["sh"], "Labels": labels}}));
        let made = config(&image, &user(), &[]).expect("a configuration");
        assert_eq!(made.warnings.len(), 3, "{:?}", made.warnings);
        let plan = planned(&made);
        assert_eq!((plan.vm.vcpus, plan.annotations.len()), (1, 1));
    }
}
