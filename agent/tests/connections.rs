//! Connections: hellos, other requests, hostile peers, peers that go away.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use common::{Agent, collect, read_until, sh};
use supermachine_agent_protocol::blocking::{Connection, ConnectionError, read_frame, write_frame};
use supermachine_agent_protocol::spec::{MAX_PAYLOAD, MAX_STDIN, VERSION, WINDOW};
use supermachine_agent_protocol::{
    Close, Control, ErrorCode, ErrorReply, Exec, ExitStatus, FrameKind, Hello, Mount, Request, Signal, Stream,
    WindowSize,
};

#[test]
fn a_ping_is_answered_and_the_connection_ends() {
    let agent = Agent::start();
    let mut session = agent.session();
    assert_eq!(session.request(&Request::Ping {}).unwrap(), Control::Pong {});
    assert!(session.reader.next_frame().unwrap().is_none());
}

#[test]
fn everything_may_be_sent_at_once() {
    let agent = Agent::start();
    let mut all = Vec::new();
    let hello = r#"{"hello":{"version":3,"software":"burst"}}"#;
    write_frame(&mut all, FrameKind::Control, hello.as_bytes()).unwrap();
    write_frame(&mut all, FrameKind::Request, br#"{"exec":{"argv":["/bin/cat"],"stdin":true}}"#).unwrap();
    write_frame(&mut all, FrameKind::Stdin, b"abc").unwrap();
    write_frame(&mut all, FrameKind::Stdin, b"").unwrap();
    let stream = agent.raw();
    (&stream).write_all(&all).unwrap();
    let mut session = Connection::new(stream.try_clone().unwrap(), stream, MAX_PAYLOAD);
    assert!(matches!(session.reply().unwrap(), Control::Hello(_)));
    assert!(matches!(session.reply().unwrap(), Control::Started { .. }));
    assert_eq!(collect(&mut session).stdout, b"abc");
}

#[test]
fn bytes_may_come_one_by_one() {
    let agent = Agent::start();
    let mut all = Vec::new();
    write_frame(&mut all, FrameKind::Control, br#"{"hello":{"version":3,"software":"slow"}}"#).unwrap();
    write_frame(&mut all, FrameKind::Request, br#"{"ping":{}}"#).unwrap();
    let stream = agent.raw();
    for byte in all {
        (&stream).write_all(&[byte]).unwrap();
    }
    let mut session = Connection::new(stream.try_clone().unwrap(), stream, MAX_PAYLOAD);
    assert!(matches!(session.reply().unwrap(), Control::Hello(_)));
    assert_eq!(session.reply().unwrap(), Control::Pong {});
}

/// Sends raw bytes and gives the agent's last frame, which must be an error, after which the stream ends.
fn refusal(stream: &UnixStream) -> ErrorReply {
    let mut last = None;
    while let Some(frame) = read_frame(&mut &*stream, MAX_PAYLOAD).unwrap() {
        last = Some(frame);
    }
    last.unwrap().expect(FrameKind::Error).unwrap().parse_json().unwrap()
}

#[test]
fn hostile_beginnings_end_their_own_connection_only() {
    let agent = Agent::start();
    let hello = br#"{"hello":{"version":3,"software":"x"}}"#;
    let deep = format!(r#"{{"hello":{}"#, "[".repeat(10_000));
    let beginnings: [(&[u8], ErrorCode); 9] = [
        (b"GET / HTTP/1.1\r\n\r\n", ErrorCode::BadRequest),
        (&[0xff, 0xff, 0xff, 0xff, 0xff], ErrorCode::BadRequest),
        (&[0xfe, 0x01, 0, 0, 1], ErrorCode::BadRequest),
        (&[0, 0, 0, 0, 0], ErrorCode::BadRequest),
        (&[4, 0, 0, 0, 9], ErrorCode::BadRequest),
        (&framed(FrameKind::Request, br#"{"ping":{}}"#), ErrorCode::BadRequest),
        (&framed(FrameKind::Control, br#"{"pong":{}}"#), ErrorCode::BadRequest),
        (&framed(FrameKind::Control, deep.as_bytes()), ErrorCode::BadRequest),
        (&framed(FrameKind::Control, br#"{"hello":{"version":1,"software":"x"}}"#), ErrorCode::BadVersion),
    ];
    for (bytes, code) in beginnings {
        let stream = agent.raw();
        (&stream).write_all(bytes).unwrap();
        assert_eq!(refusal(&stream).code, code, "{bytes:?}");
    }
    for request in [&b"{"[..], b"{}", b"[1]", br#"{"exec":{}}"#, br#"{"exec":{"argv":[]}}"#, br#"{"nope":{}}"#] {
        let stream = agent.raw();
        (&stream).write_all(&framed(FrameKind::Control, hello)).unwrap();
        (&stream).write_all(&framed(FrameKind::Request, request)).unwrap();
        assert_eq!(refusal(&stream).code, ErrorCode::BadRequest, "{request:?}");
    }
    agent.assert_serves();
}

fn framed(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, kind, payload).unwrap();
    bytes
}

#[test]
fn frames_that_are_not_due_end_the_process_too() {
    let agent = Agent::start();
    let sleep = || Exec { stdin: true, ..Exec::new(["/bin/sleep", "1000"]) };
    let refused = |exec: Exec, frames: &[u8]| {
        let session = agent.start_exec(exec);
        let _ = session.writer.get_ref().write_all(frames);
        assert_eq!(refusal(session.reader.get_ref()).code, ErrorCode::BadRequest, "{frames:?}");
        drop(session);
    };
    refused(sleep(), &framed(FrameKind::Request, br#"{"ping":{}}"#));
    refused(sleep(), &framed(FrameKind::Stdout, b"x"));
    refused(sleep(), &framed(FrameKind::Signal, &[0, 0, 1, 0]));
    refused(sleep(), &framed(FrameKind::Signal, &[0xff; 4]));
    refused(sleep(), &framed(FrameKind::Resize, &[0; 4]));
    refused(sleep(), &[0, 0xff, 0, 0, 0]);
    refused(sleep(), &[framed(FrameKind::Stdin, b""), framed(FrameKind::Stdin, b"x")].concat());
    refused(Exec { stdin: false, ..sleep() }, &framed(FrameKind::Stdin, b"x"));
    let mut over = vec![0];
    over.extend_from_slice(&(MAX_STDIN + 1).to_be_bytes());
    refused(sleep(), &over);
    agent.assert_reaps_all();
}

#[test]
fn a_peer_that_goes_away_takes_the_whole_process_group_along() {
    let agent = Agent::start();
    let fifo = agent.folder().join("alive");
    assert_eq!(agent.run(sh(&format!("mkfifo {}", fifo.display()))).exit, Some(ExitStatus::Exited(0)));
    let script = format!("exec 3<>{0}; sleep 1000 & echo ready; wait", fifo.display());
    let mut session = agent.start_exec(sh(&script));
    read_until(&mut session, "ready");
    let mut watch = std::fs::File::open(&fifo).unwrap();
    drop(session);
    // The end of the pipe comes when every process that had it open is dead.
    assert_eq!(watch.read(&mut [0]).unwrap(), 0);
    agent.assert_reaps_all();
}

#[test]
fn a_peer_that_goes_away_is_noticed_behind_unread_input() {
    let agent = Agent::start();
    let fifo = agent.folder().join("alive");
    assert_eq!(agent.run(sh(&format!("mkfifo {}", fifo.display()))).exit, Some(ExitStatus::Exited(0)));
    let script = format!("exec 3<>{0}; echo ready; exec sleep 1000", fifo.display());
    let mut session = agent.start_exec(Exec { stdin: true, ..sh(&script) });
    read_until(&mut session, "ready");
    let mut watch = std::fs::File::open(&fifo).unwrap();
    // More than the process's pipe and the agent's buffer take: the agent stops reading.
    session.writer.get_ref().set_nonblocking(true).unwrap();
    let chunk = framed(FrameKind::Stdin, &[0; 1000]);
    while session.writer.get_ref().write_all(&chunk).is_ok() {}
    drop(session);
    assert_eq!(watch.read(&mut [0]).unwrap(), 0);
}

#[test]
fn signals_pass_input_that_is_not_read() {
    let agent = Agent::start();
    let mut session = agent.start_exec(Exec { stdin: true, ..Exec::new(["/bin/sleep", "1000"]) });
    session.writer.send(FrameKind::Stdin, &vec![0; WINDOW as usize]).unwrap();
    session.writer.send_frame(Signal(15)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(15)));
}

#[test]
fn input_beyond_its_window_is_refused() {
    let agent = Agent::start();
    let mut session = agent.start_exec(Exec { stdin: true, ..Exec::new(["/bin/sleep", "1000"]) });
    session.writer.send(FrameKind::Stdin, &vec![0; WINDOW as usize]).unwrap();
    // The process's pipe takes 64 KiB (pipe(7)), for which the agent may give as much window back in between.
    session.writer.send(FrameKind::Stdin, &vec![0; (64 << 10) + 1]).unwrap();
    let mut frame = session.reader.frame().unwrap();
    if frame.kind == FrameKind::Window {
        frame = session.reader.frame().unwrap();
    }
    assert_eq!(frame.kind, FrameKind::Error, "{frame:?}");
    agent.assert_reaps_all();
}

#[test]
fn a_process_that_closes_its_input_says_so() {
    let agent = Agent::start();
    let mut session = agent.start_exec(Exec { stdin: true, ..sh("exec <&-; echo closed; exec sleep 1000") });
    read_until(&mut session, "closed");
    session.writer.send(FrameKind::Stdin, b"nobody reads this").unwrap();
    let frame = session.reader.frame().unwrap();
    assert_eq!(Close::try_from(&frame).unwrap(), Close(Stream::Stdin));
    session.writer.send(FrameKind::Stdin, b"nor this").unwrap();
    session.writer.send_frame(Signal(15)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(15)));
}

#[test]
fn an_output_without_a_window_holds_up_nothing_and_a_closed_one_ends_its_writer() {
    let agent = Agent::start();
    let script = "trap '' TERM; (yes; kill -9 $$) & while :; do echo err >&2; sleep 0.01; done";
    let mut session = agent.start_exec(sh(script));
    let (mut stdout, mut stderr) = (0, 0);
    while stdout < WINDOW || stderr < 20 {
        let frame = session.reader.frame().unwrap();
        let bytes: u32 = frame.payload.len().try_into().unwrap();
        match frame.kind {
            FrameKind::Stdout => stdout += bytes,
            FrameKind::Stderr => stderr += bytes,
            other => panic!("{other}"),
        }
    }
    assert_eq!(stdout, WINDOW, "no more than the window");
    // `yes` gets SIGPIPE, and its shell kills the other.
    session.writer.send_frame(Close(Stream::Stdout)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
}

#[test]
fn a_reader_that_stops_stops_the_process_and_loses_nothing() {
    let agent = Agent::start();
    let mut session = agent.start_exec(sh("head -c 8388608 /dev/zero; echo end >&2"));
    // Others are served while this connection is full.
    agent.assert_serves();
    let done = collect(&mut session);
    assert_eq!((done.stdout.len(), done.stderr.as_slice()), (8 << 20, b"end\n".as_slice()));
}

#[test]
fn late_frames_for_a_process_that_ended_are_harmless() {
    let agent = Agent::start();
    let mut session =
        agent.start_exec(Exec { tty: Some(WindowSize { rows: 1, cols: 1 }), stdin: true, ..sh("echo x") });
    let mut status = None;
    while let Some(frame) = session.reader.next_frame().unwrap() {
        if frame.kind == FrameKind::Exit {
            status = Some(ExitStatus::try_from(&frame).unwrap());
        }
        let _ = session.writer.send_frame(WindowSize { rows: 2, cols: 2 });
        let _ = session.writer.send_frame(Signal(15));
    }
    assert!(status.is_some());
    agent.assert_serves();
}

#[test]
fn mounts_are_made_and_refused() {
    let agent = Agent::start();
    let target = agent.folder().join("a/b");
    let request = |flags: &[&str]| {
        Request::Mount(Mount {
            source: "none".into(),
            target: target.to_str().unwrap().into(),
            fstype: "tmpfs".into(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            data: "size=4096".into(),
        })
    };
    let unknown = agent.session().request_done(&request(&["sticky"]));
    assert!(matches!(unknown, Err(ConnectionError::Refused(error)) if error.code == ErrorCode::BadRequest));
    agent.session().request_done(&request(&["ro", "nosuid"])).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
    assert!(line.contains("ro,nosuid"), "{line}");
    nix::mount::umount(&target).unwrap();
}

#[test]
fn a_shutdown_is_answered_and_the_agent_ends_well() {
    let mut agent = Agent::start();
    let mut session = agent.session();
    session.request_done(&Request::Shutdown {}).unwrap();
    drop(session);
    assert!(agent.wait().success());
}

#[test]
fn hellos_come_without_being_asked_for() {
    let agent = Agent::start();
    let stream = agent.raw();
    let first = read_frame(&mut &stream, MAX_PAYLOAD).unwrap().unwrap();
    assert!(matches!(first.parse_json().unwrap(), Control::Hello(Hello { version: VERSION, .. })));
}
