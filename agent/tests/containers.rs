//! The life of a container: creation, start, hooks, further processes, its end.

mod common;

use common::container::Builder;
use common::{collect, read_until};
use supermachine_agent_protocol::container::Hook;
use supermachine_agent_protocol::{Control, ErrorCode, Exec, ExitStatus, FrameKind, Request, Signal, User, WindowSize};

fn exec(script: &str) -> Exec {
    Exec { env: vec!["PATH=/bin".into()], container: true, ..Exec::new(["sh", "-c", script]) }
}

fn sleeper(builder: &Builder) -> common::Session {
    // Without a shell before it, it is what it will be from the start.
    let mut spec = builder.spec("");
    spec.process.argv = ["sleep", "1000"].map(str::to_owned).to_vec();
    let mut session = builder.create(spec);
    Builder::start_created(&mut session).unwrap();
    session
}

#[test]
fn a_container_has_its_own_root_names_and_processes() {
    let Some(builder) = Builder::start() else { return };
    let output = builder.output(builder.spec("echo $$; hostname; cat /etc/plain; echo; touch /etc/new && ls /etc"));
    assert_eq!(output, "1\nbox\nx\nnew\npasswd\nplain\n");
    let again = builder.run(builder.spec("ls /etc/new; exit 7"));
    assert_eq!(again.exit, Some(ExitStatus::Exited(7)), "a new container starts from its image");
}

#[test]
fn it_runs_nothing_before_its_start_and_only_one_at_a_time() {
    let Some(builder) = Builder::start() else { return };
    let mut session = builder.create(builder.spec("touch /dev/shm/ran; cat /dev/shm/ran && echo ran"));
    let Ok(Control::Processes(all)) = builder.ask(&Request::Processes {}) else { panic!("its processes") };
    assert_eq!((all.len(), all[0].container_pid), (1, 1));
    assert_eq!(builder.create_error(builder.spec("true")).code, ErrorCode::Unavailable);
    Builder::start_created(&mut session).unwrap();
    assert_eq!(collect(&mut session).stdout, b"ran\n");
    assert!(matches!(builder.ask(&Request::Usage {}), Err(error) if error.code == ErrorCode::Unavailable));
    let error = builder.ask(&Request::Start {}).unwrap_err();
    assert_eq!(error.code, ErrorCode::BadRequest);
}

#[test]
fn programs_that_are_not_there_are_known_at_creation() {
    let Some(builder) = Builder::start() else { return };
    let refused = |program: &str, cwd: &str| {
        let mut spec = builder.spec("");
        spec.process.argv = vec![program.to_owned()];
        spec.process.cwd = cwd.to_owned();
        builder.create_error(spec)
    };
    for (program, cwd, code, message) in [
        ("nope", "/", ErrorCode::NotFound, "exec: \"nope\": executable file not found in $PATH"),
        ("/no/pe", "/", ErrorCode::NotFound, "exec: \"/no/pe\": stat /no/pe: no such file or directory"),
        ("/etc/plain", "/", ErrorCode::NotExecutable, "exec: \"/etc/plain\": permission denied"),
        ("/etc", "/", ErrorCode::NotExecutable, "exec: \"/etc\": permission denied"),
        (
            "sh",
            "/etc/plain",
            ErrorCode::BadCwd,
            "chdir to cwd (\"/etc/plain\") set in config.json failed: not a directory",
        ),
    ] {
        let error = refused(program, cwd);
        assert_eq!((error.code, error.message.as_str()), (code, message));
    }
    builder.agent.assert_reaps_all();
}

#[test]
fn a_container_that_waits_can_be_killed() {
    let Some(builder) = Builder::start() else { return };
    for signal in [15, 9] {
        let mut session = builder.create(builder.spec("true"));
        session.writer.send_frame(Signal(28)).unwrap();
        session.writer.send_frame(Signal(signal)).unwrap();
        assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(signal)));
    }
    let mut session = builder.create(builder.spec("true"));
    builder.ask(&Request::KillAll { signal: 9 }).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
    assert_eq!(builder.output(builder.spec("echo next")), "next\n");
}

#[test]
fn a_host_that_goes_away_takes_the_container_along() {
    let Some(builder) = Builder::start() else { return };
    drop(builder.create(builder.spec("true")));
    builder.agent.assert_reaps_all();
    drop(sleeper(&builder));
    builder.agent.assert_reaps_all();
    // It is forgotten once it is reaped.
    assert_eq!(builder.output(builder.spec("echo next")), "next\n");
}

#[test]
fn everything_in_it_ends_with_its_first_process() {
    let Some(builder) = Builder::start() else { return };
    for own_pids in [true, false] {
        let mut spec =
            builder.spec("(trap '' TERM HUP; setsid sleep 1000 & wait) & setsid sleep 1000 & echo last; exit 3");
        if !own_pids {
            spec.namespaces.retain(|kind| *kind != supermachine_agent_protocol::container::Namespace::Pid);
        }
        let done = builder.run(spec);
        // The leftovers held its output open: its end comes before the exit is told, or with it.
        assert_eq!(
            (done.exit, done.stdout.as_slice(), done.after_exit),
            (Some(ExitStatus::Exited(3)), b"last\n".as_slice(), 0)
        );
        builder.agent.assert_reaps_all();
    }
}

#[test]
fn its_end_ends_the_processes_that_joined_it() {
    let Some(builder) = Builder::start() else { return };
    let mut session = sleeper(&builder);
    let mut joined = builder.agent.start_exec(exec("echo in; exec sleep 1000"));
    read_until(&mut joined, "in");
    session.writer.send_frame(Signal(9)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
    assert_eq!(collect(&mut joined).exit, Some(ExitStatus::Signaled(9)));
    builder.agent.assert_reaps_all();
}

#[test]
fn further_processes_join_it() {
    let Some(builder) = Builder::start() else { return };
    let mut session = sleeper(&builder);
    let done = builder
        .agent
        .run(exec("hostname; cat /proc/1/comm /etc/plain; echo; cat /proc/self/cgroup | tail -1; ls /run"));
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "box\nsleep\nx\n0::/\n",
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let done = builder.agent.run(Exec {
        user: User { uid: 9, gid: 8, additional_gids: vec![] },
        cwd: "/tmp".into(),
        ..exec("id -u; id -g; pwd")
    });
    assert_eq!(done.stdout, b"9\n8\n/tmp\n");
    // The agent itself stays where it is.
    let outside = builder.agent.run(common::sh("test -e /etc/plain || echo outside"));
    assert_eq!(outside.stdout, b"outside\n");
    assert_eq!(builder.agent.refused(Exec { argv: vec!["nope".into()], ..exec("") }).code, ErrorCode::NotFound);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // What was refused last may be on its way out still.
    let all = loop {
        let Ok(Control::Processes(all)) = builder.ask(&Request::Processes {}) else { panic!("its processes") };
        if all.len() == 1 {
            break all;
        }
        assert!(std::time::Instant::now() < deadline, "{all:?}");
    };
    assert_eq!((all[0].command.as_str(), all[0].container_pid, all[0].tty.as_str()), ("sleep 1000", 1, "?"));
    let Ok(Control::Usage(usage)) = builder.ask(&Request::Usage {}) else { panic!("its usage") };
    assert!(usage.files["cpu.stat"].contains("usage_usec") && usage.net_dev.contains("lo:"), "{usage:?}");
    builder.ask(&Request::KillAll { signal: 15 }).unwrap();
    builder.ask(&Request::KillAll { signal: 9 }).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
    assert_eq!(builder.agent.refused(exec("true")).code, ErrorCode::Unavailable);
}

#[test]
fn terminals_have_a_name_in_the_container() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("tty; stty size; echo console >/dev/console; stat -c %u $(tty); cat");
    spec.process.tty = Some(WindowSize { rows: 7, cols: 70 });
    spec.process.stdin = true;
    spec.process.user.uid = 12;
    let mut session = builder.create(spec);
    session.writer.send_frame(WindowSize { rows: 8, cols: 80 }).unwrap();
    Builder::start_created(&mut session).unwrap();
    let seen = read_until(&mut session, "12\r\n");
    assert_eq!(seen, "/dev/pts/0\r\n8 80\r\nconsole\r\n12\r\n");
    let joined = Exec { tty: Some(WindowSize { rows: 3, cols: 30 }), stdin: true, ..exec("tty; stty size") };
    let done = builder.agent.run(joined);
    assert_eq!(done.stdout, b"/dev/pts/1\r\n3 30\r\n");
    session.writer.send(FrameKind::Stdin, b"\x04").unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Exited(0)));
}

fn hook(script: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".into(), "A=b".into()],
        timeout_secs: Some(5),
    }
}

#[test]
fn hooks_run_in_order_at_their_points() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("cat /dev/shm/log");
    spec.hook_state = r#"{"id":"test","status":"x","annotations":{}}"#.into();
    spec.create_hooks = vec![hook("{ cat; echo \" create $A\"; } >/dev/shm/log")];
    spec.start_hooks = vec![hook("{ cat; echo; } >>/dev/shm/log"), hook("echo second >>/dev/shm/log")];
    let output = builder.output(spec.clone());
    let lines: Vec<&str> = output.lines().collect();
    let [create, start, "second"] = lines.as_slice() else { panic!("{output}") };
    assert!(create.contains(r#""status":"creating""#) && create.ends_with("create b"), "{create}");
    assert!(start.contains(r#""status":"created""#) && start.contains(r#""pid":1"#), "{start}");
    spec.start_hooks = vec![hook("echo why >&2; exit 4")];
    let mut session = builder.create(spec.clone());
    let error = Builder::start_created(&mut session).unwrap_err();
    let message = "error running startContainer hook #0 (\"/bin/sh\"): exit status 4, output: why";
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Hook, message));
    spec.create_hooks = vec![Hook { timeout_secs: Some(1), ..hook("sleep 1000") }];
    let error = builder.create_error(spec);
    assert!(error.message.ends_with("it took longer than 1 s"), "{error}");
    builder.agent.assert_reaps_all();
}
