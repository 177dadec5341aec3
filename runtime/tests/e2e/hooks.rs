//! Hooks of the host.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Place, text};

/// A hook that writes its name and the status that it reads, and ends with `status`.
fn hook(name: &str, file: &str, status: u8) -> Value {
    let script = format!("echo {name} $(grep -o '\"status\":\"[a-z]*\"') >> {file}; exit {status}");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 20}])
}

#[test]
fn hooks_run_in_their_order_with_the_state_of_the_moment() {
    let place = Place::new();
    let file = place.path("hooks");
    let container = place.create_with("c", &["true"], |config| {
        let hook = |name| hook(name, text(&file), 0);
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    place.good(&["start", "c"]);
    assert_eq!(container.wait(), 0);
    container.delete();
    assert_eq!(
        fs::read_to_string(&file).expect("a file"),
        "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\n\
         poststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n"
    );
    place.assert_clean();
}

#[test]
fn a_hook_that_fails_before_the_start_leaves_no_container() {
    let place = Place::new();
    let file = place.path("hooks");
    let bundle = place.bundle(&["true"], |config| {
        config["hooks"] = json!({
            "createRuntime": hook("createRuntime", text(&file), 3), "poststop": hook("poststop", text(&file), 0),
        });
    });
    let error = place.bad(&["create", "-b", text(&bundle), "c"]);
    assert!(error.contains("hooks.createRuntime[0]"), "{error}");
    let ran = fs::read_to_string(&file).expect("a file");
    assert!(ran.starts_with("createRuntime") && ran.contains("\npoststop"), "{ran}");
    place.assert_clean();
}
