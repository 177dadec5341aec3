//! Streams are byte-exact, however much and however many.

use std::io::Write;
use std::process::Stdio;

use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{Exec, ExitStatus, FrameKind, Signal, Stream, Window, WindowSize};

use crate::harness::{Config, collect, finish, noise};

const MIB: usize = 1 << 20;

#[test]
fn twenty_mib_through_stdin_and_stdout() {
    let config = Config::new();
    let mut child = config.spawn(&["cat"], Stdio::piped());
    let input = noise(20 * MIB);
    let expected = input.clone();
    let mut stdin = child.stdin.take().expect("a pipe");
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = finish(child);
    feeder.join().expect("the feeder ends").expect("all was taken");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == expected, "{} bytes came back", output.stdout.len());
}

#[test]
fn a_burst_before_the_exit_arrives_whole() {
    let machine = Config::new().start();
    for _ in 0..3 {
        let result = machine.exec(&["sh", "-c", "dd if=/dev/zero bs=1M count=8 2>/dev/null; exit 5"]);
        assert_eq!((result.stdout.len(), result.stderr.len(), result.status), (8 * MIB, 0, ExitStatus::Exited(5)));
    }
}

#[test]
fn sixty_four_at_once() {
    let machine = Config::new().start();
    std::thread::scope(|scope| {
        for number in 0..64 {
            let machine = &machine;
            scope.spawn(move || {
                let input = noise(100_000 + number);
                let result = machine.exec_with_input(&["cat"], input.clone());
                assert!(result.stdout == input, "process {number}: {} bytes", result.stdout.len());
                let result = machine.exec(&["sh", "-c", &format!("echo {number}; exit {number}")]);
                assert_eq!((result.text(), result.status), (number.to_string(), ExitStatus::Exited(number as u32)));
            });
        }
    });
}

#[test]
fn a_terminal_has_a_size_and_signals() {
    let machine = Config::new().start();
    let spec = |script: &str| Exec {
        tty: Some(WindowSize { rows: 33, cols: 101 }),
        stdin: true,
        ..machine.spec(&["sh", "-c", script])
    };
    assert_eq!(collect(machine.client().exec(spec("stty size")).expect("starts")).text(), "33 101");

    let script = "trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut process = machine.client().exec(spec(script)).expect("starts");
    let first = process.0.frame().expect("output");
    assert!(first.payload.starts_with(b"ready"), "{first:?}");
    process.1.send_frame(WindowSize { rows: 5, cols: 6 }).expect("resize");
    let result = collect(process);
    assert_eq!((result.text().as_str(), result.status), ("5 6", ExitStatus::Exited(4)));

    let mut process = machine.client().exec(spec("echo ready; sleep 1000")).expect("starts");
    process.0.frame().expect("output");
    process.1.send(FrameKind::Stdin, b"\x03").expect("control-C");
    assert_eq!(collect(process).status, ExitStatus::Signaled(2));
}

#[test]
fn a_signal_reaches_a_process_whose_input_is_stalled() {
    let machine = Config::new().start();
    let spec = Exec { stdin: true, ..machine.spec(&["sleep", "1000"]) };
    let mut process = machine.client().exec(spec).expect("starts");
    for _ in 0..4 {
        process.1.send(FrameKind::Stdin, &noise(WINDOW as usize / 4)).expect("a window is taken");
    }
    process.1.send_frame(Signal(15)).expect("signal");
    assert_eq!(collect(process).status, ExitStatus::Signaled(15));
}

#[test]
fn a_stream_that_nobody_reads_does_not_hold_up_the_other() {
    let machine = Config::new().start();
    let script =
        "(yes out &); yes err >&2 & sleep 0.2; dd if=/dev/zero bs=64k count=100 >&2 2>/dev/null; echo done >&2";
    let (mut reader, mut writer, _) = machine.client().exec(machine.spec(&["sh", "-c", script])).expect("starts");
    // Standard output gets no window; standard error goes on for ever as long as it gets one.
    let mut seen = 0usize;
    while seen < 20 * WINDOW as usize {
        let frame = reader.frame().expect("output");
        if frame.kind == FrameKind::Stderr {
            seen += frame.payload.len();
            let bytes = u32::try_from(frame.payload.len()).expect("short");
            writer.send_frame(Window { stream: Stream::Stderr, bytes }).expect("granted");
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    let config = Config::new();
    let mut child = config.spawn(&["yes"], Stdio::null());
    let mut first = [0u8; 2];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut first).expect("output");
    drop(child.stdout.take());
    let output = finish(child);
    // SIGPIPE, or busybox's own complaint about EPIPE.
    assert!(matches!(output.status.code(), Some(141 | 1)), "{}", output.status);
}
