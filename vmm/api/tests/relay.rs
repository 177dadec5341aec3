//! The relay against a peer that this test plays.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{
    Close, ErrorCode, ErrorReply, ExitStatus, Frame, FrameKind, Signal, Stream, Window, WindowSize,
};
use supermachine_vmm_api::{FRAME_MAX, Input, Output, Relay, Sender, Streams};

struct Peer {
    reader: FrameReader<UnixStream>,
    writer: FrameWriter<UnixStream>,
}

impl Peer {
    fn send(&mut self, frame: impl Into<Frame>) {
        self.writer.send_frame(frame).expect("sent");
    }

    fn output(&mut self, kind: FrameKind, bytes: &[u8]) {
        self.writer.send(kind, bytes).expect("sent");
    }

    fn expect(&mut self, frame: impl Into<Frame>) {
        assert_eq!(self.reader.frame().expect("a frame"), frame.into());
    }

    /// Everything after which nothing comes.
    fn expect_end(&mut self) {
        assert!(self.reader.next_frame().expect("no error").is_none());
    }
}

/// Relays `streams` while `peer` plays the process.
fn relay<T: Send>(
    streams: Streams,
    peer: impl FnOnce(Peer, Sender) -> T + Send,
) -> (Result<ExitStatus, ConnectionError>, T) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let half = |stream: &UnixStream| stream.try_clone().expect("a descriptor");
    let relay = Relay::start(FrameReader::new(half(&ours), FRAME_MAX), Sender::new(FrameWriter::new(ours)), streams);
    let relay = relay.expect("threads");
    let sender = relay.sender();
    let peer_end = Peer { reader: FrameReader::new(half(&theirs), FRAME_MAX), writer: FrameWriter::new(theirs) };
    thread::scope(|scope| {
        let played = scope.spawn(move || peer(peer_end, sender));
        let status = relay.wait();
        (status, played.join().expect("the peer plays to its end"))
    })
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn captured() -> (Streams, Capture, Capture) {
    let (out, err) = (Capture::default(), Capture::default());
    (Streams { stdin: None, stdout: Some(Box::new(out.clone())), stderr: Some(Box::new(err.clone())) }, out, err)
}

#[test]
fn output_is_written_before_the_status_is_given_and_each_byte_is_granted() {
    let (streams, out, err) = captured();
    let (status, granted) = relay(streams, |mut peer, _| {
        for _ in 0..1000 {
            peer.output(FrameKind::Stdout, b"out ");
        }
        peer.output(FrameKind::Stderr, b"err");
        peer.output(FrameKind::Stdout, b"");
        peer.send(ExitStatus::Signaled(15));
        let mut granted = [0u32; 2];
        while let Some(frame) = peer.reader.next_frame().expect("frames") {
            let window = Window::try_from(&frame).expect("a window");
            granted[usize::from(window.stream == Stream::Stderr)] += window.bytes;
        }
        granted
    });
    assert_eq!(status.expect("a status"), ExitStatus::Signaled(15));
    assert_eq!(granted, [4000, 3]);
    assert_eq!(out.0.lock().expect("no panic").len(), 4000);
    assert_eq!(err.0.lock().expect("no panic").as_slice(), b"err");
}

#[test]
fn input_stays_within_its_window_and_its_end_is_told() {
    let (theirs, mut ours) = UnixStream::pair().expect("a pair");
    let sent: Vec<u8> = (0..3 * WINDOW).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let feeder = thread::spawn(move || ours.write_all(&sent));
    // A descriptor that somebody made non-blocking is one like any other.
    theirs.set_nonblocking(true).expect("set");
    let (streams, ..) = captured();
    let streams = Streams { stdin: Some(Input::new(theirs.as_fd()).expect("a descriptor")), ..streams };
    let (status, got) = relay(streams, |mut peer, _| {
        let mut got = Vec::new();
        while got.len() < WINDOW as usize {
            got.extend(peer.reader.frame().expect("input").payload);
        }
        assert_eq!(got.len(), WINDOW as usize, "not more than the window");
        let socket = peer.reader.get_ref().try_clone().expect("a descriptor");
        socket.set_nonblocking(true).expect("set");
        assert!(peer.reader.next_frame().is_err(), "nothing comes before a grant");
        socket.set_nonblocking(false).expect("set");
        peer.send(Window { stream: Stream::Stdin, bytes: WINDOW });
        loop {
            let frame = peer.reader.frame().expect("input");
            assert_eq!(frame.kind, FrameKind::Stdin);
            if frame.payload.is_empty() {
                break;
            }
            peer.send(Window { stream: Stream::Stdin, bytes: frame.payload.len() as u32 });
            got.extend(frame.payload);
        }
        peer.send(ExitStatus::Exited(0));
        got
    });
    assert_eq!(status.expect("a status"), ExitStatus::Exited(0));
    assert!(got == expected, "{} bytes", got.len());
    feeder.join().expect("no panic").expect("all was taken");
}

#[test]
fn what_a_process_that_closed_its_input_does_not_want_stays_there() {
    let (theirs, mut ours) = UnixStream::pair().expect("a pair");
    let (streams, ..) = captured();
    let streams = Streams { stdin: Some(Input::new(theirs.as_fd()).expect("a descriptor")), ..streams };
    let (status, ()) = relay(streams, |mut peer, _| {
        peer.send(Close(Stream::Stdin));
        peer.send(ExitStatus::Exited(3));
        peer.expect_end();
    });
    assert_eq!(status.expect("a status"), ExitStatus::Exited(3));
    ours.write_all(b"for the next").expect("taken");
    ours.shutdown(Shutdown::Write).expect("closed");
    let mut rest = String::new();
    let mut theirs = theirs;
    theirs.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "for the next");
}

#[test]
fn a_closed_output_is_told_and_holds_up_nothing() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(ours);
    let err = Capture::default();
    let streams = Streams {
        stdin: None,
        stdout: Some(Box::new(Output::new(theirs.as_fd()).expect("a descriptor"))),
        stderr: Some(Box::new(err.clone())),
    };
    let (status, ()) = relay(streams, |mut peer, _| {
        peer.output(FrameKind::Stdout, b"nobody reads this");
        peer.expect(Close(Stream::Stdout));
        peer.output(FrameKind::Stdout, b"nor this");
        peer.output(FrameKind::Stderr, b"but this");
        peer.expect(Window { stream: Stream::Stderr, bytes: 8 });
        peer.send(ExitStatus::Exited(1));
    });
    assert_eq!(status.expect("a status"), ExitStatus::Exited(1));
    assert_eq!(err.0.lock().expect("no panic").as_slice(), b"but this");
}

#[test]
fn an_output_that_is_not_there_is_closed_at_once() {
    let (status, ()) = relay(Streams::default(), |mut peer, _| {
        let mut closed = [peer.reader.frame().expect("a frame"), peer.reader.frame().expect("a frame")];
        closed.sort_by(|a, b| a.payload.cmp(&b.payload));
        assert_eq!(closed, [Close(Stream::Stdout).into(), Close(Stream::Stderr).into()]);
        peer.send(ExitStatus::Exited(0));
    });
    assert_eq!(status.expect("a status"), ExitStatus::Exited(0));
}

#[test]
fn a_full_non_blocking_output_is_waited_for() {
    let (theirs, mut ours) = UnixStream::pair().expect("a pair");
    theirs.set_nonblocking(true).expect("set");
    let streams = Streams {
        stdout: Some(Box::new(Output::new(theirs.as_fd()).expect("a descriptor"))),
        stderr: Some(Box::new(Capture::default())),
        ..Streams::default()
    };
    drop(theirs);
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        ours.read_to_end(&mut all).map(|_| all.len())
    });
    let (status, ()) = relay(streams, |mut peer, _| {
        let mut window = WINDOW;
        for _ in 0..64 {
            let chunk = vec![7u8; 64 << 10];
            while (window as usize) < chunk.len() {
                let frame = peer.reader.frame().expect("a window");
                window += Window::try_from(&frame).expect("a window").bytes;
            }
            peer.output(FrameKind::Stdout, &chunk);
            window -= chunk.len() as u32;
        }
        peer.send(ExitStatus::Exited(0));
    });
    assert_eq!(status.expect("a status"), ExitStatus::Exited(0));
    assert_eq!(reader.join().expect("no panic").expect("read"), 4 << 20);
}

#[test]
fn signals_and_sizes_pass_while_it_waits() {
    let (streams, ..) = captured();
    let (status, ()) = relay(streams, |mut peer, sender| {
        assert!(sender.resize(WindowSize { rows: 3, cols: 4 }));
        peer.expect(WindowSize { rows: 3, cols: 4 });
        assert!(sender.signal(2));
        peer.expect(Signal(2));
        peer.send(ExitStatus::Exited(0));
        peer.expect_end();
        assert!(!sender.signal(2), "it has ended");
    });
    assert_eq!(status.expect("a status"), ExitStatus::Exited(0));
}

#[test]
fn a_peer_that_breaks_the_rules_is_an_error() {
    let run = |play: fn(&mut Peer)| {
        let (streams, ..) = captured();
        relay(streams, |mut peer, _| play(&mut peer)).0
    };
    assert!(matches!(run(|_| {}), Err(ConnectionError::Closed)));
    assert!(matches!(run(|peer| peer.send(WindowSize { rows: 1, cols: 1 })), Err(ConnectionError::Frame(_))));
    let refusal = ErrorReply { code: ErrorCode::Os, errno: Some(5), message: "no".into() };
    let refused = run(|peer| {
        let refusal = ErrorReply { code: ErrorCode::Os, errno: Some(5), message: "no".into() };
        peer.writer.send_json(FrameKind::Error, &refusal).expect("sent");
    });
    assert!(matches!(refused, Err(ConnectionError::Refused(reply)) if reply == refusal));
}
