//! Killed anywhere, a verb leaves what the next one can tell and take away.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Place, text, wait_for};

/// Points at which a `create` is killed.
const POINTS: u32 = 12;

#[test]
fn a_create_that_is_killed_anywhere_can_be_deleted() {
    let place = Place::new();
    let bundle = place.bundle(&["sleep", "1000"], |_| ());
    let begin = Instant::now();
    place.leave(&["create", "-b", text(&bundle), "whole"]);
    let whole = begin.elapsed();
    place.good(&["delete", "-f", "whole"]);
    for point in 0..POINTS {
        let id = format!("cut{point}");
        let mut child = place.command(&["create", "-b", text(&bundle), &id]).spawn().expect("starts");
        std::thread::sleep(whole * point / (POINTS - 1));
        child.kill().expect("a child");
        child.wait().expect("ends");
        let done = place.call(&["state", &id]);
        assert!(done.status == 0 || done.stderr.contains("container does not exist"), "{point}: {done:?}");
        if done.status == 0 {
            // Without the one that wanted it the machine ends; if it was there before, it is created and stays.
            wait_for(|| matches!(place.status(&id).as_str(), "stopped" | "created"), "a state that stays");
        }
        assert!(place.good(&["list", "-q"]).lines().all(|line| line == id));
        place.good(&["delete", "--force", &id]);
        place.assert_clean();
    }
}

#[test]
fn a_machine_that_is_killed_is_a_stopped_container() {
    let place = Place::new();
    for (point, pause) in [(0, false), (1, false), (2, true)] {
        let container = place.create("c", &["sleep", "1000"]);
        if point > 0 {
            place.good(&["start", "c"]);
        }
        if pause {
            place.good(&["pause", "c"]);
        }
        kill(Pid::from_raw(container.pid.cast_signed()), Signal::SIGKILL).expect("lives");
        assert_eq!(container.wait(), 137);
        assert_eq!(place.status("c"), "stopped");
        assert!(place.bad(&["kill", "c", "9"]).contains("container not running"));
        container.delete();
        place.assert_clean();
    }
}

#[test]
fn a_machine_that_is_killed_ends_what_talks_to_it() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    let mut exec = place.command(&["exec", "c", "sleep", "1000"]).spawn().expect("starts");
    wait_for(|| container.exec(&["ps"]).stdout.matches("sleep 1000").count() == 2, "the exec");
    kill(Pid::from_raw(container.pid.cast_signed()), Signal::SIGKILL).expect("lives");
    assert!(!exec.wait().expect("ends").success());
    assert_eq!(container.wait(), 137);
    container.delete();
    place.assert_clean();
}

#[test]
fn a_machine_that_is_killed_while_it_boots_or_goes_on_from_a_template_fails_its_create() {
    let place = Place::new();
    place.good(&["templates", "bake"]);
    for (snapshot, option) in [("off", "--kernel"), ("base", "--restore")] {
        // The machine waits for the end of a hook of the host.
        let bundle = place.bundle(&["sleep", "1000"], |config| {
            config["annotations"] = json!({"dev.supermachine.snapshot": snapshot});
            config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "2"]}]});
        });
        let mut child = place.command(&["create", "-b", text(&bundle), "c"]).spawn().expect("starts");
        let vmm = || {
            let ours = place.processes().into_iter().filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(option)
            });
            ours.max()
        };
        wait_for(|| vmm().is_some(), "the vmm");
        kill(Pid::from_raw(vmm().expect("lives").cast_signed()), Signal::SIGKILL).expect("lives");
        assert_eq!(child.wait().expect("ends").code(), Some(1), "{option}");
        place.assert_clean();
    }
}

#[test]
fn a_delete_that_is_killed_can_be_done_again() {
    let place = Place::new();
    for delay_ms in [0, 5, 10, 20, 40] {
        let container = place.start("c", &["sleep", "1000"]);
        let mut child = place.command(&["delete", "--force", "c"]).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().expect("a child");
        child.wait().expect("ends");
        place.good(&["delete", "--force", "c"]);
        container.wait();
        place.assert_clean();
    }
}

#[test]
fn a_run_and_an_exec_that_are_killed_leave_what_can_be_deleted() {
    let place = Place::new();
    let bundle = place.bundle(&["sh", "-c", "echo ready; sleep 1000"], |_| ());
    for killed_while_ready in [false, true] {
        let output = place.path("out");
        let mut command = place.command(&["run", "-b", text(&bundle), "c"]);
        let mut run = command.stdout(std::fs::File::create(&output).expect("a file")).spawn().expect("starts");
        let ready = || std::fs::read_to_string(&output).is_ok_and(|text| text == "ready\n");
        wait_for(|| if killed_while_ready { ready() } else { !place.processes().is_empty() }, "the container");
        if killed_while_ready {
            let mut exec = place.command(&["exec", "c", "sleep", "987"]).spawn().expect("starts");
            wait_for(|| place.good(&["ps", "c"]).contains("sleep 987"), "the exec");
            exec.kill().expect("a child");
            exec.wait().expect("ends");
            wait_for(|| !place.good(&["ps", "c"]).contains("sleep 987"), "the end of the exec");
        }
        run.kill().expect("a child");
        run.wait().expect("ends");
        assert!(!killed_while_ready || place.status("c") == "running", "the container does not need who ran it");
        place.good(&["delete", "--force", "c"]);
        place.assert_clean();
    }
}
