//! From create to delete, as callers do it.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Place, text, wait_for, wait_pid};

#[test]
fn a_run_gives_output_and_status_and_leaves_nothing() {
    let place = Place::new();
    let done = place.run(&["sh", "-c", "echo out; echo err >&2; uname -r; exit 9"], |_| ());
    assert_eq!(done.status, 9, "{}", done.stderr);
    assert!(done.stdout.starts_with("out\n6.") && done.stdout.contains("supermachine"), "{}", done.stdout);
    assert_eq!(done.stderr, "err\n");
    let killed = place.run(&["sh", "-c", "kill -USR1 $$; sleep 9"], |_| ());
    // Process 1 of a pid namespace takes no signal from inside that it has no handler for.
    assert_eq!(killed.status, 0, "{}", killed.stderr);
    place.assert_clean();
}

#[test]
fn a_detached_container_lives_and_dies_as_its_caller_says() {
    let place = Place::new();
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let container = place.create("life", &["sh", "-c", script]);
    let state = place.state("life");
    assert_eq!((state["status"].as_str(), state["pid"].as_u64()), (Some("created"), Some(container.pid.into())));
    assert_eq!((state["id"].as_str(), state["ociVersion"].as_str()), (Some("life"), Some("1.0.2")));
    assert_eq!(container.output(), "", "nothing runs before the start");
    assert!(place.bad(&["delete", "nobody"]).contains("does not exist"));
    place.good(&["start", "life"]);
    container.wait_for_output("ready");
    assert_eq!(place.status("life"), "running");
    assert!(place.bad(&["start", "life"]).contains("cannot start an already running container"));
    assert!(place.bad(&["delete", "life"]).contains("cannot delete container life that is not stopped: running"));
    place.good(&["kill", "life", "TERM"]);
    assert_eq!(container.wait(), 3);
    assert_eq!(container.output(), "ready\nbye\n");
    let state = place.state("life");
    assert_eq!((state["status"].as_str(), state["pid"].as_u64()), (Some("stopped"), Some(0)));
    assert!(place.bad(&["kill", "life", "9"]).contains("container not running"));
    assert!(place.bad(&["start", "life"]).contains("cannot start a container that has stopped"));
    assert!(place.bad(&["pause", "life"]).contains("container not running"));
    assert!(place.bad(&["exec", "life", "true"]).contains("cannot exec in a stopped container"));
    assert!(place.bad(&["update", "--pids-limit", "5", "life"]).contains("container not running"));
    place.good(&["kill", "--all", "life", "9"]);
    container.delete();
    for verb in ["delete", "state", "start", "kill", "pause", "resume", "ps", "events", "update"] {
        assert!(place.bad(&[verb, "life"]).contains("container does not exist"), "{verb}");
    }
    place.good(&["delete", "--force", "life"]);
    place.assert_clean();
}

#[test]
fn pipes_close_with_the_container_and_its_status_is_right_at_once() {
    let place = Place::new();
    let bundle = place.bundle(&["sh", "-c", "echo one; echo two >&2"], |_| ());
    let pid_file = place.path("pid");
    let mut command = place.command(&["create", "--bundle", text(&bundle), "--pid-file", text(&pid_file), "pipes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    assert!(child.wait().expect("ends").success());
    place.good(&["start", "pipes"]);
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("reads to the end");
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("reads to the end");
    assert_eq!((out.as_str(), err.as_str()), ("one\n", "two\n"));
    wait_for(|| place.status("pipes") == "stopped", "the state to be stopped");
    assert_eq!(wait_pid(fs::read_to_string(&pid_file).expect("a file").parse().expect("a number")), 0);
    place.good(&["delete", "pipes"]);
    place.assert_clean();
}

#[test]
fn a_container_can_be_ended_before_its_start() {
    let place = Place::new();
    let first = place.create("first", &["sleep", "100"]);
    place.good(&["kill", "first", "KILL"]);
    assert_eq!(first.wait(), 137);
    assert_eq!(place.status("first"), "stopped");
    first.delete();
    let second = place.create("second", &["sleep", "100"]);
    second.delete();
    second.wait();
    place.assert_clean();
}

#[test]
fn force_deletes_what_runs_or_stands_still() {
    let place = Place::new();
    let running = place.start("running", &["sleep", "100"]);
    place.good(&["delete", "--force", "running"]);
    assert_eq!(running.wait(), 137);
    let paused = place.start("paused", &["sleep", "100"]);
    place.good(&["pause", "paused"]);
    assert_eq!(place.status("paused"), "paused");
    place.good(&["delete", "--force", "paused"]);
    assert_eq!(paused.wait(), 137);
    place.assert_clean();
}

#[test]
fn a_paused_container_stands_still() {
    let place = Place::new();
    let container = place.start("still", &["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"]);
    container.wait_for_output("3\n");
    place.good(&["pause", "still"]);
    assert_eq!(place.status("still"), "paused");
    assert!(place.bad(&["exec", "still", "true"]).contains("cannot exec in a paused container"));
    assert!(place.bad(&["start", "still"]).contains("cannot start a container in the paused state"));
    // What was on its way before the pause may still come.
    let mut before = container.output().len();
    wait_for(
        || {
            let now = container.output().len();
            std::mem::replace(&mut before, now) == now
        },
        "the output to stand still",
    );
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(container.output().len(), before);
    place.good(&["resume", "still"]);
    assert!(place.bad(&["resume", "still"]).contains("container not paused"));
    wait_for(|| container.output().len() > before, "more output");
    place.good(&["kill", "still", "9"]);
    assert_eq!(container.wait(), 137);
    container.delete();
    place.assert_clean();
}

#[test]
fn a_run_passes_signals_on() {
    let place = Place::new();
    let bundle = place.bundle(&["sh", "-c", "trap 'exit 21' USR1; echo ready; while :; do sleep 0.1; done"], |_| ());
    let mut command = place.command(&["run", "--bundle", text(&bundle), "signals"]);
    let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().expect("starts");
    let mut line = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut line).expect("a line");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGUSR1).expect("lives");
    assert_eq!(child.wait().expect("ends").code(), Some(21));
    place.assert_clean();
}

#[test]
fn a_run_can_be_kept_or_left_alone() {
    let place = Place::new();
    let bundle = place.bundle(&["sh", "-c", "exit 4"], |_| ());
    assert_eq!(place.call(&["run", "--keep", "-b", text(&bundle), "kept"]).status, 4);
    assert_eq!(place.status("kept"), "stopped");
    place.good(&["delete", "kept"]);
    let sleeper = place.bundle(&["sleep", "100"], |_| ());
    let pid_file = place.path("pid");
    place.leave(&["run", "-d", "--pid-file", text(&pid_file), "-b", text(&sleeper), "alone"]);
    assert_eq!(place.status("alone"), "running");
    let pid: u32 = fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    place.good(&["kill", "alone", "SIGKILL"]);
    assert_eq!(wait_pid(pid), 137);
    place.good(&["delete", "alone"]);
    place.assert_clean();
}

#[test]
fn a_configuration_from_elsewhere_and_options_behind_the_id_are_taken() {
    let place = Place::new();
    let bundle = place.bundle(&["echo", "elsewhere"], |_| ());
    let config = place.path("other.json");
    fs::rename(bundle.join("config.json"), &config).expect("moves");
    let done = place.call(&["run", "c", "--config", text(&config), "--bundle", text(&bundle), "--no-pivot"]);
    assert_eq!((done.status, done.stdout.as_str()), (0, "elsewhere\n"), "{}", done.stderr);
    place.assert_clean();
}
