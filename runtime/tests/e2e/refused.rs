//! What cannot be is refused with its name, and leaves nothing.

use std::fs;

use serde_json::json;

use crate::harness::{Place, text};

#[test]
fn ids_that_are_no_names_touch_nothing() {
    let place = Place::new();
    let bundle = place.bundle(&["true"], |_| ());
    let long = "x".repeat(1025);
    for id in ["", ".", "..", "../x", "a/b", "a b", "a\nb", "/etc", &long] {
        let error = place.bad(&["create", "-b", text(&bundle), id]);
        assert!(error.contains("container id") || error.contains("invalid container ID format"), "{id:?}: {error}");
        assert!(place.bad(&["state", id]).contains("container"), "{id:?}");
    }
    assert!(!place.path("root").exists());
    place.assert_clean();
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    let place = Place::new();
    let pid_file = place.path("pid");
    let missing = place.bundle(&["nope"], |_| ());
    let error = place.bad(&["create", "-b", text(&missing), "--pid-file", text(&pid_file), "c"]);
    assert!(error.contains("exec: \\\"nope\\\": executable file not found in $PATH"), "{error}");
    assert!(error.contains("create failed: unable to start container process"), "{error}");
    let no_cwd = place.bundle(&["true"], |config| config["process"]["cwd"] = json!("/bin/busybox/no"));
    assert!(place.call(&["run", "-b", text(&no_cwd), "c"]).status == 1);
    let no_root = place.bundle(&["true"], |config| config["root"]["path"] = json!("/no/such"));
    assert!(place.bad(&["create", "-b", text(&no_root), "c"]).contains("/no/such"));
    let good = place.bundle(&["true"], |_| ());
    assert!(place.bad(&["create", "-b", text(&good), "--pid-file", "/no/such/pid", "c"]).contains("pid file"));
    assert!(place.bad(&["create", "-b", text(&good), "--preserve-fds", "3", "c"]).contains("--preserve-fds"));
    assert!(place.bad(&["create", "-b", "/no/such", "c"]).contains("/no/such"));
    fs::write(good.join("config.json"), "{").expect("a file");
    assert!(place.bad(&["create", "-b", text(&good), "c"]).contains("config.json"));
    assert!(!pid_file.exists());
    place.assert_clean();
}

#[test]
fn parts_that_are_missing_are_named() {
    let place = Place::new();
    let bundle = place.bundle(&["true"], |_| ());
    for variable in ["SUPERMACHINE_VMM", "SUPERMACHINE_KERNEL", "SUPERMACHINE_INITRAMFS"] {
        let output = place.command(&["create", "-b", text(&bundle), "c"]).env(variable, "/no/such").output();
        let output = output.expect("runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(variable) && error.contains("/no/such"), "{error}");
    }
    let kernel = place.path("kernel");
    fs::write(&kernel, "no kernel").expect("a file");
    let output = place.command(&["create", "-b", text(&bundle), "c"]).env("SUPERMACHINE_KERNEL", &kernel).output();
    let error = String::from_utf8_lossy(&output.expect("runs").stderr).into_owned();
    assert!(error.contains("neither a vmlinux"), "{error}");
    place.assert_clean();
}

#[test]
fn of_two_creates_of_one_id_one_wins() {
    let place = Place::new();
    let bundle = place.bundle(&["sleep", "1000"], |_| ());
    let mut children: Vec<_> =
        (0..3).map(|_| place.command(&["create", "-b", text(&bundle), "c"]).spawn().expect("starts")).collect();
    let statuses: Vec<_> = children.iter_mut().map(|child| child.wait().expect("ends").code()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == Some(0)).count(), 1, "{statuses:?}");
    assert!(place.bad(&["create", "-b", text(&bundle), "c"]).contains("container with given ID already exists"));
    assert_eq!(place.status("c"), "created");
    place.good(&["delete", "-f", "c"]);
    place.assert_clean();
}

#[test]
fn usage_errors_and_missing_verbs_are_told() {
    let place = Place::new();
    assert_eq!(place.call(&["no-such-verb"]).status, 3);
    for line in [["create"].as_slice(), &["state"], &["kill"], &["create", "a", "b"], &["state", "a", "--no-such"]] {
        assert_eq!(place.call(line).status, 1, "{line:?}");
    }
    assert!(place.bad(&["checkpoint", "c"]).contains("container does not exist"));
    assert!(place.bad(&["restore", "--image-path", "/no/such", "c"]).contains("no checkpoint"));
    let log = place.path("log");
    let error = place.bad(&["--log", text(&log), "--log-format", "json", "state", "nobody"]);
    assert_eq!(error, "container does not exist\n");
    let line = fs::read_to_string(&log).expect("a log");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("error"), Some("container does not exist")));
    assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    let plain = place.bad(&["state", "nobody"]);
    assert!(
        plain.starts_with("time=\"") && plain.ends_with("level=error msg=\"container does not exist\"\n"),
        "{plain}"
    );
    assert!(place.good(&["--version"]).starts_with("supermachine-runtime version "));
}
