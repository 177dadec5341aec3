//! Messages on the wire, byte for byte, and the blocking helpers.

use std::io::{Cursor, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use supermachine_agent_protocol::blocking::{Connection, ConnectionError, read_frame, write_frame};
use supermachine_agent_protocol::spec::{MAX_PAYLOAD, VERSION};
use supermachine_agent_protocol::{
    Close, Control, ErrorCode, ErrorReply, Exec, ExitStatus, Frame, FrameError, FrameKind, Hello, Mount, Request,
    Signal, Stream, User, Window, WindowSize,
};

fn json<T: serde::Serialize>(message: &T) -> String {
    serde_json::to_string(message).unwrap()
}

#[test]
fn messages_have_the_documented_form() {
    assert_eq!(json(&Control::Hello(Hello::new("x 1"))), r#"{"hello":{"version":3,"software":"x 1"}}"#);
    assert_eq!(json(&Request::Ping {}), r#"{"ping":{}}"#);
    assert_eq!(json(&Request::Shutdown {}), r#"{"shutdown":{}}"#);
    assert_eq!(json(&Control::Pong {}), r#"{"pong":{}}"#);
    assert_eq!(json(&Control::Ok {}), r#"{"ok":{}}"#);
    assert_eq!(json(&Control::Started { pid: 9 }), r#"{"started":{"pid":9}}"#);
    let error = ErrorReply { code: ErrorCode::NotExecutable, errno: None, message: "m".into() };
    assert_eq!(json(&error), r#"{"code":"not-executable","errno":null,"message":"m"}"#);
    let mount = Request::Mount(Mount {
        source: "/dev/vda".into(),
        target: "/run/sm/rootfs".into(),
        fstype: "squashfs".into(),
        flags: vec!["ro".into()],
        data: String::new(),
    });
    let wire =
        r#"{"mount":{"source":"/dev/vda","target":"/run/sm/rootfs","fstype":"squashfs","flags":["ro"],"data":""}}"#;
    assert_eq!(json(&mount), wire);
}

/// The exchange at the end of `docs/agent-protocol.md`.
#[test]
fn the_documented_exchange_has_these_bytes() {
    let bytes = |frame: Frame| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        bytes
    };
    let hello = Frame::json(FrameKind::Control, &Control::Hello(Hello::new("doc"))).unwrap();
    assert_eq!(bytes(hello), [b"\xfe\0\0\0\x28".as_slice(), br#"{"hello":{"version":3,"software":"doc"}}"#].concat());
    let request: Request = serde_json::from_str(r#"{"exec":{"argv":["cat"],"stdin":true}}"#).unwrap();
    assert_eq!(request, Request::Exec(Exec { stdin: true, ..Exec::new(["cat"]) }));
    let started = Frame::json(FrameKind::Control, &Control::Started { pid: 52 }).unwrap();
    assert_eq!(bytes(started), [b"\xfe\0\0\0\x16".as_slice(), br#"{"started":{"pid":52}}"#].concat());
    let window = Window { stream: Stream::Stdout, bytes: 3 };
    assert_eq!(bytes(window.into()), [7, 0, 0, 0, 5, 1, 0, 0, 0, 3]);
    assert_eq!(bytes(Close(Stream::Stdin).into()), [8, 0, 0, 0, 1, 0]);
    assert_eq!(bytes(ExitStatus::Exited(0).into()), [5, 0, 0, 0, 5, 0, 0, 0, 0, 0]);
}

#[test]
fn exec_takes_the_whole_and_the_short_form() {
    let whole = r#"{"exec":{"argv":["sh","-c","x"],"env":["A=b"],"cwd":"/tmp","user":{"uid":1,"gid":2,
        "additional_gids":[3]},"root":"/run/sm/rootfs","tty":{"rows":24,"cols":80},"stdin":true}}"#;
    let want = Request::Exec(Exec {
        env: vec!["A=b".into()],
        cwd: "/tmp".into(),
        user: User { uid: 1, gid: 2, additional_gids: vec![3] },
        root: Some("/run/sm/rootfs".into()),
        tty: Some(WindowSize { rows: 24, cols: 80 }),
        stdin: true,
        ..Exec::new(["sh", "-c", "x"])
    });
    assert_eq!(serde_json::from_str::<Request>(whole).unwrap(), want);
    let short: Request = serde_json::from_str(r#"{"exec":{"argv":["true"]}}"#).unwrap();
    assert_eq!(short, Request::Exec(Exec::new(["true"])));
}

#[test]
fn unknown_fields_and_messages_are_refused() {
    for bad in [
        r#"{"ping":{"x":1}}"#,
        r#"{"pong":{}}"#,
        r#"{"exec":{"argv":["a"],"argz":1}}"#,
        r#"{"exec":{"argv":["a"],"user":{"uid":1,"gid":1,"name":"x"}}}"#,
        r#"{"exec":{"argv":["a"],"tty":{"rows":70000,"cols":1}}}"#,
        r#"{"exec":{"argv":["a"]},"ping":{}}"#,
        r#""ping""#,
        "[]",
        "",
    ] {
        assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
    }
}

#[test]
fn fixed_payloads_round_trip() {
    let size = WindowSize { rows: 24, cols: 300 };
    let frame = Frame::from(size);
    assert_eq!(frame.payload, [0, 24, 1, 44]);
    assert_eq!(WindowSize::try_from(&frame).unwrap(), size);
    assert!(matches!(Signal::try_from(&frame), Err(FrameError::WrongKind { .. })));
    assert_eq!(Signal::try_from(&Frame::from(Signal(15))).unwrap(), Signal(15));
    for status in [ExitStatus::Exited(7), ExitStatus::Signaled(9), ExitStatus::Exited(u32::MAX)] {
        assert_eq!(ExitStatus::try_from(&Frame::from(status)).unwrap(), status);
    }
    assert_eq!(ExitStatus::Signaled(9).shell_status(), 137);
    let odd = Frame { kind: FrameKind::Exit, payload: vec![2, 0, 0, 0, 0] };
    assert!(matches!(ExitStatus::try_from(&odd), Err(FrameError::UnknownExit(2))));
}

#[test]
fn a_blocking_reader_tells_an_end_from_a_cut() {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, FrameKind::Stdout, b"abc").unwrap();
    assert_eq!(bytes, [1, 0, 0, 0, 3, b'a', b'b', b'c']);
    let mut whole = Cursor::new(&bytes);
    assert_eq!(read_frame(&mut whole, MAX_PAYLOAD).unwrap().unwrap().payload, b"abc");
    assert!(read_frame(&mut whole, MAX_PAYLOAD).unwrap().is_none());
    for cut in 1..bytes.len() {
        let got = read_frame(&mut bytes[..cut].as_ref(), MAX_PAYLOAD);
        assert!(matches!(got, Err(ConnectionError::Closed)), "cut at {cut}");
    }
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let mut claim = [1, 1, 0, 0, 0].as_slice().chain(Cursor::new(b"x"));
    assert!(matches!(read_frame(&mut claim, MAX_PAYLOAD), Err(ConnectionError::Closed)));
}

#[test]
fn hellos_are_exchanged_and_versions_compared() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        let mut peer = Connection::new(&theirs, &theirs, MAX_PAYLOAD);
        peer.hello(&Hello { version: VERSION + 1, ..Hello::new("peer") })
    });
    let mut connection = Connection::new(&ours, &ours, MAX_PAYLOAD);
    let refused = connection.hello(&Hello::new("us"));
    assert!(matches!(refused, Err(ConnectionError::Version { theirs }) if theirs == VERSION + 1), "{refused:?}");
    assert_eq!(peer.join().unwrap().unwrap(), Hello::new("us"));
}

#[test]
fn an_error_frame_is_an_error_of_the_request() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let reply = ErrorReply { code: ErrorCode::Os, errno: Some(2), message: "no".into() };
    write_frame(&mut &theirs, FrameKind::Error, json(&reply).as_bytes()).unwrap();
    let got = Connection::new(&ours, &ours, MAX_PAYLOAD).request_done(&Request::Ping {});
    assert!(matches!(got, Err(ConnectionError::Refused(refused)) if refused == reply));
}
