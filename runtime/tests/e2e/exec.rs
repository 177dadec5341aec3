//! Further processes in a container.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Container, Place, text, wait_for, wait_pid, with_input};

fn end(place: &Place, container: &Container<'_>) {
    place.good(&["delete", "--force", &container.id]);
    container.wait();
    place.assert_clean();
}

#[test]
fn a_process_has_its_own_everything() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    let done = container.exec(&["sh", "-c", "echo out; echo err >&2; hostname; exit 7"]);
    assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (7, "out\nbox\n", "err\n"));
    let killed = container.exec(&["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status, 137);
    let line = ["exec", "--cwd", "/tmp", "-e", "WORD=x y", "-u", "7:8", "-g", "9", "c", "sh", "-c"];
    let shown =
        place.call(&[line.as_slice(), &["pwd; echo $WORD; id -u; id -g; id -G; readlink /proc/1/ns/pid"]].concat());
    let lines: Vec<_> = shown.stdout.lines().collect();
    assert_eq!(&lines[..4], ["/tmp", "x y", "7", "8"], "{shown:?}");
    assert!(lines[4].contains('9'), "{shown:?}");
    let first = container.exec(&["sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]);
    assert_eq!(first.stdout, "sleep 1000 ", "it is in the container's pid namespace");
    let output = with_input(place.command(&["exec", "c", "cat"]), b"given\n".to_vec());
    assert_eq!(output.stdout, b"given\n");
    end(&place, &container);
}

#[test]
fn what_cannot_run_is_told_in_runc_s_words() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    for (args, words) in [
        (["nope"].as_slice(), "exec: \\\"nope\\\": executable file not found in $PATH"),
        (&["/nope"], "no such file or directory"),
        (&["/etc/data"], "permission denied"),
    ] {
        let done = container.exec(args);
        assert!(done.status == 255 && done.stderr.contains(words), "{args:?}: {done:?}");
        assert!(done.stderr.contains("exec failed: unable to start container process"), "{done:?}");
        let detached = place.detached(&[&["exec", "-d", "c"], args].concat());
        assert!(detached.status == 255 && detached.stderr.contains(words), "{args:?}: {detached:?}");
    }
    let cwd = place.bad(&["exec", "--cwd", "/nope", "c", "true"]);
    assert!(cwd.contains("/nope"), "{cwd}");
    assert!(place.bad(&["exec", "-u", "nobody", "c", "true"]).contains("parsing nobody as int for uid"));
    assert!(place.bad(&["exec", "c"]).contains("process args cannot be empty"));
    assert!(place.bad(&["exec", "-d", "-t", "c", "true"]).contains("without setting console socket"));
    assert!(place.bad(&["exec", "--preserve-fds", "1", "c", "true"]).contains("--preserve-fds"));
    assert!(place.bad(&["exec", "--cgroup", "sub", "c", "true"]).contains("--cgroup"));
    assert!(place.bad(&["exec", "nobody", "true"]).contains("container does not exist"));
    end(&place, &container);
}

#[test]
fn a_detached_process_has_one_on_the_host_that_stands_for_it() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    let process = place.path("process.json");
    let json = serde_json::json!({
        "user": {"uid": 0, "gid": 0}, "cwd": "/",
        "args": ["sh", "-c", "trap 'echo told; exit 6' TERM; echo begun; while :; do sleep 0.1; done"],
        "env": ["PATH=/bin"],
    });
    fs::write(&process, json.to_string()).expect("a file");
    let (output, pid_file) = (place.path("out"), place.path("exec.pid"));
    let file = fs::File::create(&output).expect("a file");
    let line = ["exec", "--pid-file", text(&pid_file), "--process", text(&process), "--detach", "c"];
    let status = place.command(&line).stdout(file).stderr(Stdio::null()).status().expect("runs");
    assert!(status.success());
    let pid: u32 = fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    let shown = || fs::read_to_string(&output).expect("a file");
    wait_for(|| shown() == "begun\n", "its output");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).expect("lives");
    assert_eq!(wait_pid(pid), 6);
    assert_eq!(shown(), "begun\ntold\n");
    // Without the one that stands for it the process has no use.
    place.leave(&["exec", "-d", "--pid-file", text(&pid_file), "c", "sleep", "987"]);
    assert!(container.exec(&["ps"]).stdout.contains("sleep 987"));
    let pid: u32 = fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("lives");
    assert_eq!(wait_pid(pid), 137);
    wait_for(|| !container.exec(&["ps"]).stdout.contains("sleep 987"), "the end of the process");
    end(&place, &container);
}

#[test]
fn processes_end_with_their_container() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    let pid_file = place.path("exec.pid");
    place.leave(&["exec", "-d", "--pid-file", text(&pid_file), "c", "sleep", "1000"]);
    let pid: u32 = fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    place.good(&["kill", "c", "9"]);
    assert_eq!(container.wait(), 137);
    assert_eq!(wait_pid(pid), 137, "the kernel ends them with the first process");
    container.delete();
    place.assert_clean();
}
