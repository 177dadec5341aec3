//! Processes: output, exit status, input, many at once, start errors, users, roots.

mod common;

use std::fs;
use std::thread;

use common::{Agent, collect, noise, sh, through};
use supermachine_agent_protocol::{ErrorCode, Exec, ExitStatus, FrameKind, Signal, User};

const MIB: usize = 1 << 20;

fn exited(status: u32) -> Option<ExitStatus> {
    Some(ExitStatus::Exited(status))
}

#[test]
fn output_error_output_and_status_arrive() {
    let done = Agent::start().run(sh("echo out; echo err >&2; exit 7"));
    assert_eq!(done.stdout, b"out\n");
    assert_eq!(done.stderr, b"err\n");
    assert_eq!(done.exit, exited(7));
    assert_eq!(done.ends, 2);
}

#[test]
fn twenty_mib_pass_through_cat_exactly() {
    let agent = Agent::start();
    let bytes = noise(20 * MIB, 1);
    let mut session = agent.start_exec(Exec { stdin: true, ..sh("exec cat") });
    let done = through(&mut session, &bytes);
    assert!(done.stdout == bytes, "{} bytes came back", done.stdout.len());
    assert_eq!(done.exit, exited(0));
}

#[test]
fn sixty_four_processes_at_once_keep_their_streams_apart() {
    let agent = Agent::start();
    thread::scope(|scope| {
        for seed in 0..64 {
            let agent = &agent;
            scope.spawn(move || {
                let bytes = noise(2 * MIB, seed);
                let script = format!("cat; echo {seed} >&2; exit {seed}");
                let done = through(&mut agent.start_exec(Exec { stdin: true, ..sh(&script) }), &bytes);
                assert!(done.stdout == bytes, "stream {seed}");
                assert_eq!(done.stderr, format!("{seed}\n").as_bytes());
                assert_eq!(done.exit, exited(seed));
            });
        }
    });
}

#[test]
fn a_burst_before_a_quick_exit_is_whole() {
    let agent = Agent::start();
    let file = agent.folder().join("burst");
    let bytes = noise(8 * MIB, 3);
    fs::write(&file, &bytes).unwrap();
    for _ in 0..3 {
        let done = agent.run(sh(&format!("cat {}; exit 3", file.display())));
        assert!(done.stdout == bytes, "{} bytes came", done.stdout.len());
        assert_eq!((done.exit, done.after_exit), (exited(3), 0));
    }
}

#[test]
fn the_exit_does_not_wait_for_a_child_that_holds_the_pipe() {
    let agent = Agent::start();
    let fifo = agent.folder().join("fifo");
    let script = format!("mkfifo {0}; (read line < {0}; echo late) & echo early; exit 4", fifo.display());
    let mut session = agent.start_exec(sh(&script));
    let mut early = Vec::new();
    let exit = loop {
        let frame = session.reader.frame().unwrap();
        match frame.kind {
            FrameKind::Stdout => early.extend_from_slice(&frame.payload),
            FrameKind::Exit => break ExitStatus::try_from(&frame).unwrap(),
            other => panic!("{other}"),
        }
    };
    assert_eq!((early.as_slice(), exit), (b"early\n".as_slice(), ExitStatus::Exited(4)));
    fs::write(&fifo, "go\n").unwrap();
    let rest = collect(&mut session);
    assert_eq!((rest.stdout.as_slice(), rest.ends, rest.exit), (b"late\n".as_slice(), 2, None));
}

#[test]
fn a_process_that_closes_its_streams_still_gives_its_status() {
    let agent = Agent::start();
    let done = agent.run(sh("exec >&- 2>&-; sleep 0.1; exit 9"));
    assert_eq!((done.exit, done.ends), (exited(9), 2));
}

#[test]
fn input_that_nobody_reads_is_dropped() {
    let agent = Agent::start();
    let mut session = agent.start_exec(Exec { stdin: true, ..sh("exec <&-; sleep 0.2; echo done") });
    let done = through(&mut session, &noise(4 * MIB, 5));
    assert_eq!((done.stdout.as_slice(), done.exit), (b"done\n".as_slice(), exited(0)));
}

#[test]
fn without_input_it_reads_dev_null() {
    let done = Agent::start().run(sh("wc -c; readlink /proc/self/fd/0"));
    assert_eq!(done.stdout, b"0\n/dev/null\n");
}

#[test]
fn signals_reach_the_process() {
    let agent = Agent::start();
    let mut killed = agent.start_exec(Exec::new(["/bin/sleep", "1000"]));
    killed.writer.send_frame(Signal(9)).unwrap();
    assert_eq!(collect(&mut killed).exit, Some(ExitStatus::Signaled(9)));

    let mut trapped = agent.start_exec(sh("trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.01; done"));
    common::read_until(&mut trapped, "ready");
    trapped.writer.send_frame(Signal(15)).unwrap();
    let done = collect(&mut trapped);
    assert_eq!((done.stdout.as_slice(), done.exit), (b"got\n".as_slice(), exited(5)));

    let mut realtime = agent.start_exec(Exec::new(["/bin/sleep", "1000"]));
    realtime.writer.send_frame(Signal(40)).unwrap();
    assert_eq!(collect(&mut realtime).exit, Some(ExitStatus::Signaled(40)));
}

#[test]
fn signals_and_limits_of_the_agent_are_not_inherited() {
    let done = Agent::start().run(sh("grep -E 'Sig(Blk|Ign)' /proc/self/status; cat /proc/self/oom_score_adj"));
    assert_eq!(done.stdout, b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n");
}

#[test]
fn no_descriptor_of_the_agent_is_inherited() {
    let agent = Agent::start();
    let _other = agent.start_exec(Exec { stdin: true, ..sh("exec cat") });
    // The fourth is that of the listing itself.
    assert_eq!(agent.run(sh("ls /proc/self/fd")).stdout, b"0\n1\n2\n3\n");
}

#[test]
fn start_errors_have_their_classes() {
    let agent = Agent::start();
    let plain = agent.folder().join("plain");
    fs::write(&plain, "no program").unwrap();
    let cases = [
        (Exec::new(["no-such-program"]), ErrorCode::NotFound, Some(2), "not found in $PATH"),
        (Exec::new(["/no/such/program"]), ErrorCode::NotFound, Some(2), "no such file"),
        (Exec::new([plain.to_str().unwrap()]), ErrorCode::NotExecutable, Some(13), "permission denied"),
        (Exec::new(["/tmp"]), ErrorCode::NotExecutable, Some(13), "permission denied"),
        (Exec { cwd: "/no/such".into(), ..sh("true") }, ErrorCode::BadCwd, Some(2), "chdir to cwd"),
        (Exec { cwd: "tmp".into(), ..sh("true") }, ErrorCode::BadCwd, None, "not an absolute path"),
        (Exec { root: Some("/no/such".into()), ..sh("true") }, ErrorCode::Os, Some(2), "cannot enter root"),
        (Exec { root: Some("tmp".into()), ..sh("true") }, ErrorCode::BadRequest, None, "absolute"),
        (Exec { user: uid(u32::MAX), ..sh("true") }, ErrorCode::BadUser, Some(22), "cannot become user"),
        (Exec { user: User { gid: u32::MAX, ..uid(1) }, ..sh("true") }, ErrorCode::BadUser, Some(22), "become user"),
        (Exec::new([""]), ErrorCode::BadRequest, None, "argv is empty"),
        (Exec::new(["a\0b"]), ErrorCode::BadRequest, None, "zero byte"),
        (Exec { env: vec!["novalue".into()], ..sh("true") }, ErrorCode::BadRequest, None, "NAME=value"),
    ];
    for (exec, code, errno, words) in cases {
        let what = format!("{exec:?}");
        let error = agent.refused(exec);
        assert_eq!((error.code, error.errno), (code, errno), "{what}: {error}");
        assert!(error.message.contains(words), "{what}: {error}");
    }
    agent.assert_serves();
}

fn uid(uid: u32) -> User {
    // A group that exists: only the user is at fault.
    User { uid, gid: 1, additional_gids: Vec::new() }
}

#[test]
fn the_user_and_its_groups_are_taken_on() {
    let user = User { uid: 1234, gid: 2345, additional_gids: vec![34, 56] };
    let agent = Agent::start();
    let done = agent.run(Exec { user, ..sh("id -u; id -g; id -G; echo again > /dev/stderr") });
    assert_eq!(String::from_utf8_lossy(&done.stdout), "1234\n2345\n2345 34 56\n");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "again\n", "its streams are its own");
}

#[test]
fn environment_and_folder_are_those_asked_for() {
    let exec = Exec { env: vec!["A=b c".into(), "E=".into()], cwd: "/usr".into(), ..Exec::new(["/usr/bin/env"]) };
    let agent = Agent::start();
    assert_eq!(agent.run(exec).stdout, b"A=b c\nE=\n");
    assert_eq!(agent.run(Exec { cwd: "/usr".into(), ..Exec::new(["pwd"]) }).stdout, b"/usr\n");
}

#[test]
fn a_root_is_where_program_and_folder_are_looked_up() {
    let agent = Agent::start();
    let root = agent.folder().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("inner")).unwrap();
    if fs::copy("/bin/busybox", root.join("bin/only-here")).is_err() {
        eprintln!("skipped: no static program at /bin/busybox (package busybox-static)");
        return;
    }
    let argv = ["only-here", "sh", "-c", "pwd; only-here ls /"];
    let exec = Exec {
        root: Some(root.to_str().unwrap().into()),
        cwd: "/inner".into(),
        env: vec!["PATH=/no/such:/bin".into()],
        ..Exec::new(argv)
    };
    // busybox decides by its name what it is: this is an unknown applet, which shows that it was executed.
    let done = agent.run(exec);
    assert!(done.exit.is_some_and(|exit| exit == ExitStatus::Exited(127)), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("applet not found"), "{done:?}");
}

#[test]
fn two_hundred_processes_leave_nothing_behind() {
    let agent = Agent::start();
    let before = agent.descriptors();
    for round in 0..200 {
        let done = agent.run(sh(&format!("exit {}", round % 250)));
        assert_eq!(done.exit, exited(round % 250));
    }
    for _ in 0..20 {
        agent.refused(Exec::new(["no-such-program"]));
    }
    agent.assert_reaps_all();
    agent.assert_descriptors(before);
}
