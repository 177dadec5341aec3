//! Processes with a terminal.

mod common;

use common::{Agent, collect, read_until, sh};
use supermachine_agent_protocol::{Exec, ExitStatus, FrameKind, Signal, User, WindowSize};

fn terminal(script: &str) -> Exec {
    Exec { tty: Some(WindowSize { rows: 24, cols: 80 }), stdin: true, ..sh(script) }
}

#[test]
fn size_and_resize_reach_the_process() {
    let agent = Agent::start();
    let script = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut session = agent.start_exec(terminal(script));
    assert!(read_until(&mut session, "ready").contains("24 80\r\n"));
    session.writer.send_frame(WindowSize { rows: 50, cols: 132 }).unwrap();
    let done = collect(&mut session);
    assert!(String::from_utf8_lossy(&done.stdout).contains("50 132\r\n"), "{done:?}");
    assert_eq!((done.exit, done.ends), (Some(ExitStatus::Exited(0)), 1), "a terminal has one stream");
}

#[test]
fn the_interrupt_key_interrupts() {
    let agent = Agent::start();
    let mut session = agent.start_exec(terminal("echo ready; exec sleep 1000"));
    read_until(&mut session, "ready");
    session.writer.send(FrameKind::Stdin, &[3]).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(2)));
}

#[test]
fn it_is_the_controlling_terminal_of_a_session_of_its_own() {
    let agent = Agent::start();
    let user = User { uid: 1234, gid: 1234, additional_gids: vec![] };
    let script =
        "echo from tty > /dev/tty; test -t 0 && test -t 1 && test -t 2 && ps -o sid=,pid= $$; stat -c %u $(tty)";
    let done = agent.run(Exec { user, ..terminal(script) });
    let text = String::from_utf8_lossy(&done.stdout);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("from tty"));
    let ids: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(ids.first(), ids.get(1), "session leader: {text}");
    assert_eq!(lines.next(), Some("1234"), "the terminal belongs to the user");
}

#[test]
fn job_control_works_in_a_shell() {
    let agent = Agent::start();
    let exec = Exec { env: vec!["PATH=/usr/bin:/bin".into(), "PS1=> ".into()], ..terminal("") };
    let mut session = agent.start_exec(Exec { argv: vec!["sh".into(), "-i".into()], ..exec });
    read_until(&mut session, "> ");
    // The job speaks once it has the terminal; before that the key would reach the shell, which ignores it. The
    // terminal echoes what is typed, so the words to wait for are computed.
    session.writer.send(FrameKind::Stdin, b"sh -c 'echo up $((40 + 1)); exec sleep 1000'\n").unwrap();
    read_until(&mut session, "up 41");
    session.writer.send(FrameKind::Stdin, b"\x03").unwrap();
    session.writer.send(FrameKind::Stdin, b"echo still $((40 + 2))\n").unwrap();
    read_until(&mut session, "still 42");
    session.writer.send(FrameKind::Stdin, b"exit 6\n").unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Exited(6)));
}

#[test]
fn the_last_bytes_of_a_terminal_are_whole() {
    let agent = Agent::start();
    for _ in 0..10 {
        let done = agent.run(terminal("seq 1 20000; exit 3"));
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(text.lines().count(), 20_000);
        assert!(text.ends_with("20000\r\n"));
        assert_eq!((done.exit, done.after_exit), (Some(ExitStatus::Exited(3)), 0));
    }
}

#[test]
fn a_job_in_the_background_does_not_hold_up_the_exit() {
    let agent = Agent::start();
    // It ignores the hang-up of its terminal and keeps it open.
    let mut session = agent.start_exec(terminal("trap '' HUP; sleep 1000 & echo $!; exit 2"));
    let mut text = String::new();
    let exit = loop {
        let frame = session.reader.frame().unwrap();
        match frame.kind {
            FrameKind::Stdout => text.push_str(&String::from_utf8_lossy(&frame.payload)),
            FrameKind::Exit => break ExitStatus::try_from(&frame).unwrap(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(exit, ExitStatus::Exited(2));
    let job = text.trim().to_owned();
    assert_eq!(agent.run(sh(&format!("kill -9 {job}"))).exit, Some(ExitStatus::Exited(0)));
    assert_eq!(collect(&mut session).ends, 1);
}

#[test]
fn signals_reach_the_leader() {
    let agent = Agent::start();
    let mut session = agent.start_exec(terminal("echo ready; exec sleep 1000"));
    read_until(&mut session, "ready");
    session.writer.send_frame(Signal(15)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(15)));
}
