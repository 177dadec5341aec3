use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use nix::poll::PollTimeout;

use super::*;
use crate::host::cgroup::Intent;

/// Starts a shell script as if it were a vmm; gives it, and its standard output.
fn launch(
    script: &str,
    namespaces: &[HostNamespace],
    cgroup: Option<&Cgroup>,
) -> (Result<Launched, LaunchError>, String) {
    let args = ["-c", script].map(OsString::from);
    let (mut reader, writer) = io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let (extra, mut extra_end) = io::pipe().unwrap();
    extra_end.write_all(b"kept").unwrap();
    drop(extra_end);
    let launch = Launch {
        program: Path::new("/bin/sh"),
        args: &args,
        cwd: Path::new("/tmp"),
        stdio: [null.as_fd(), writer.as_fd(), writer.as_fd()],
        keep: &[(extra.as_fd(), 7)],
        session: Session::New,
        cgroup,
        namespaces,
        view: None,
        oom_score_adj: None,
    };
    let launched = launch.start();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    if let Ok(launched) = &launched {
        assert!(launched.process.wait(PollTimeout::from(10_000u16)).unwrap());
        reap(launched.pid);
    }
    (launched, text)
}

/// A program with nothing but its arguments.
fn bare<'a>(program: &'a str, args: &'a [OsString], null: &'a File) -> Launch<'a> {
    Launch {
        program: Path::new(program),
        args,
        cwd: Path::new("/"),
        stdio: [null.as_fd(); 3],
        keep: &[],
        session: Session::New,
        cgroup: None,
        namespaces: &[],
        view: None,
        oom_score_adj: None,
    }
}

/// A control group and its name, if this host lets one be made.
fn group(word: &str) -> Option<(String, Cgroup)> {
    let name = format!("/supermachine-test-{word}-{}", std::process::id());
    match Intent::new(Some(&name), "x").and_then(|intent| intent.make()) {
        Ok(cgroup) => Some((name, cgroup)),
        Err(error) => {
            eprintln!("skipped: no control group can be made here: {error}");
            None
        }
    }
}

fn reap(pid: u32) {
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid.cast_signed()), None).unwrap();
}

fn new(kind: Namespace) -> HostNamespace {
    HostNamespace { kind, path: None }
}

fn own(name: &str) -> u64 {
    fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino()
}

/// Namespaces need rights that not every test host gives.
fn may_make_namespaces() -> bool {
    let allowed = Command::new("unshare").args(["--uts", "--ipc", "--pid", "--fork", "true"]).status();
    let allowed = allowed.is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: this host lets nobody make namespaces; run as root with CAP_SYS_ADMIN");
    }
    allowed
}

#[test]
fn it_has_its_streams_its_descriptors_and_nothing_else() {
    let leak = File::open("/dev/zero").unwrap();
    nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    // Without a pipe of its own the shell has no descriptor of its own.
    let (launched, text) = launch("pwd; cat <&7; echo; ls /proc/$$/fd; cat /proc/$$/stat", &[], None);
    launched.unwrap();
    let lines: Vec<_> = text.lines().collect();
    let (stat, lines) = lines.split_last().unwrap();
    assert_eq!(lines, ["/tmp", "kept", "0", "1", "2", "7"], "{text}");
    // Session and process group are its own: fields 1, 5 and 6.
    let stat: Vec<_> = stat.split_whitespace().collect();
    assert_eq!([stat[4], stat[5]], [stat[0], stat[0]], "{text}");
}

#[test]
fn new_namespaces_are_new_and_others_the_callers() {
    if !may_make_namespaces() {
        return;
    }
    let kinds = [Namespace::User, Namespace::Pid, Namespace::Uts, Namespace::Ipc, Namespace::Mount].map(new);
    let (launched, text) =
        launch("stat -Lc %i /proc/self/ns/uts /proc/self/ns/net /proc/self/ns/user; echo $$", &kinds, None);
    launched.unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_ne!(lines[0], own("uts").to_string(), "{text}");
    assert_eq!([lines[1], lines[3]], [own("net").to_string().as_str(), "1"], "{text}");
    assert_ne!(lines[2], own("user").to_string(), "{text}");
    assert_eq!(own("pid"), fs::metadata("/proc/self/ns/pid_for_children").unwrap().ino());
}

#[test]
fn a_namespace_is_joined_by_its_path() {
    if !may_make_namespaces() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--uts", "--pid", "--fork", "--kill-child", "sh", "-c", "echo up; read line"]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    holder.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let path = |name: &str| PathBuf::from(format!("/proc/{}/ns/{name}", holder.id()));
    let uts = fs::metadata(path("uts")).unwrap().ino();
    let pid = fs::metadata(path("pid_for_children")).unwrap().ino();
    let joined = [
        HostNamespace { kind: Namespace::Pid, path: Some(path("pid_for_children")) },
        HostNamespace { kind: Namespace::Uts, path: Some(path("uts")) },
    ];
    let (launched, text) = launch("stat -Lc %i /proc/self/ns/uts; sleep 0", &joined, None);
    launched.unwrap();
    assert_eq!(text.trim(), uts.to_string());
    assert_ne!(pid, own("pid"));
    assert_eq!(own("pid"), fs::metadata("/proc/self/ns/pid_for_children").unwrap().ino());
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn namespaces_that_cannot_be_joined_are_named() {
    let missing = [HostNamespace { kind: Namespace::Network, path: Some("/does/not/exist".into()) }];
    let error = launch("true", &missing, None).0.unwrap_err().to_string();
    assert_eq!(error, "linux.namespaces: cannot open network namespace /does/not/exist");
    let wrong = [HostNamespace { kind: Namespace::Network, path: Some("/proc/self/ns/uts".into()) }];
    let error = launch("true", &wrong, None).0.unwrap_err().to_string();
    assert_eq!(error, "linux.namespaces: cannot join network namespace /proc/self/ns/uts");
}

#[test]
fn a_program_that_is_not_there_leaves_no_process() {
    let null = File::open("/dev/null").unwrap();
    let launch = bare("/does/not/exist", &[], &null);
    let error = launch.start().unwrap_err().to_string();
    assert_eq!(error, "cannot start /does/not/exist: execute it");
}

#[test]
fn it_is_in_its_control_group_from_the_start() {
    let Some((_, cgroup)) = group("launch") else { return };
    let (launched, text) = launch("cat /proc/self/cgroup", &[new(Namespace::Cgroup)], Some(&cgroup));
    let folders: Vec<_> = cgroup.folders().map(|(_, folder)| folder.to_owned()).collect();
    let removed = cgroup.remove();
    launched.unwrap();
    removed.unwrap();
    // From inside its own cgroup namespace the group is the top.
    assert!(text.lines().any(|line| line.ends_with(":/")), "{text}");
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
}

#[test]
fn a_group_of_version_2_alone_is_where_it_is_born() {
    let Some((name, all)) = group("born") else { return };
    let mut json = serde_json::to_value(&all).unwrap();
    json["places"].as_array_mut().unwrap().retain(|place| place["controllers"].as_array().unwrap().is_empty());
    let unified: Cgroup = serde_json::from_value(json).unwrap();
    if unified.doors().unwrap().unified.is_none() {
        all.remove().unwrap();
        return eprintln!("skipped: this host has no control groups of version 2; mount a cgroup2 somewhere");
    }
    let (launched, text) = launch("cat /proc/self/cgroup; sleep 0", &[], Some(&unified));
    all.remove().unwrap();
    launched.unwrap();
    assert!(text.lines().any(|line| line.starts_with("0::") && line.ends_with(&name)), "{text}");
}

/// Whoever starts it may give it something to do once `start` has returned.
#[test]
fn it_is_in_its_control_group_when_it_was_started() {
    let Some((_, cgroup)) = group("late") else { return };
    let null = File::open("/dev/null").unwrap();
    let args = [OsString::from("1000")];
    let launch = Launch { cgroup: Some(&cgroup), ..bare("/bin/sleep", &args, &null) };
    let launched = launch.start().unwrap();
    let folders: Vec<_> = cgroup.folders().map(|(_, folder)| folder.to_owned()).collect();
    let is_in = |folder: &PathBuf| {
        let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        processes.lines().any(|line| line == launched.pid.to_string())
    };
    let missing: Vec<_> = folders.iter().filter(|folder| !is_in(folder)).collect();
    drop(Unreaped { pid: launched.pid });
    cgroup.remove().unwrap();
    assert!(!folders.is_empty() && missing.is_empty(), "{missing:?} of {folders:?}");
}

#[test]
fn a_control_group_that_takes_nobody_is_named() {
    let Some((_, cgroup)) = group("gone") else { return };
    let folder = cgroup.folders().find(|(controller, _)| !controller.is_empty()).map(|(_, folder)| folder.to_owned());
    cgroup.remove().unwrap();
    let Some(folder) = folder else { return eprintln!("skipped: this host has no control groups of version 1") };
    let null = File::open("/dev/null").unwrap();
    let launch = Launch { cgroup: Some(&cgroup), ..bare("/bin/true", &[], &null) };
    let error = launch.start().unwrap_err().to_string();
    assert_eq!(error, format!("control group {}: cannot add a process", folder.join("tasks").display()));
}

#[test]
fn a_child_whose_parent_dies_before_it_may_go_ends() {
    let null = File::open("/dev/null").unwrap();
    let args = [OsString::from("1000")];
    let launch = bare("/bin/sleep", &args, &null);
    let plan = launch.plan(&[], &Doors::default()).unwrap();
    let ((report, report_end), (go_end, go)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let of_parent = [go.as_raw_fd(), report.as_raw_fd()];
    let pipes = Pipes { go: go_end.as_raw_fd(), report: report_end.as_raw_fd(), of_parent };
    let child = Unreaped { pid: child::fork_into(&plan, 0, pipes, None).unwrap() };
    let process = Process::open(child.pid).unwrap();
    // What its death does.
    drop((go, report));
    assert!(process.wait(PollTimeout::from(10_000u16)).unwrap());
}
