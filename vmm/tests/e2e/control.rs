//! The control socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use supermachine_agent_protocol::blocking::FrameWriter;
use supermachine_agent_protocol::{ExitStatus, FrameKind};
use supermachine_vmm_api::{Client, ClientError, Reply, Request, State};

use crate::harness::{Config, Machine, noise, wait_for};

fn status(client: &mut Client) -> supermachine_vmm_api::Status {
    match client.request(&Request::Status {}).expect("a reply") {
        Reply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn status_and_stats_tell_what_is() {
    let machine = Config::new().arg("--memory=128M").start();
    let mut client = machine.client();
    let status = status(&mut client);
    assert_eq!((status.state, status.memory_mib, status.vcpus), (State::Running, 128, 1));
    assert_eq!(status.pid, machine.pid());
    assert!(status.kernel.is_some_and(|kernel| kernel.starts_with("6.12.")), "the guest's kernel");
    assert!(status.boot_ms.is_some_and(|ms| ms > 0 && ms <= status.uptime_ms));
    machine.exec(&["md5sum", "/bin/busybox"]);
    let Reply::Stats(stats) = client.request(&Request::Stats {}).expect("a reply") else { panic!("not stats") };
    assert!(stats.vcpus[0].exits > 0);
    assert!(stats.disks[0].read_bytes > 100_000, "{stats:?}");
    let mode = std::fs::metadata(machine.config.control_path()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_pause_stops_the_guest_and_a_resume_lets_it_go_on() {
    let machine = Config::new().start();
    let mut client = machine.client();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let (mut reader, _writer, _) = machine.client().exec(machine.spec(&["sh", "-c", script])).expect("starts");
    reader.frame().expect("the first number");
    for _ in 0..2 {
        assert_eq!(client.request(&Request::Pause {}).expect("a reply"), Reply::Ok {});
    }
    assert_eq!(status(&mut client).state, State::Paused);
    // All that was on its way before the pause comes out; then nothing more may come.
    let socket = reader.get_ref().try_clone().expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
    while reader.next_frame().is_ok() {}
    assert!(reader.next_frame().is_err(), "output of a paused guest");
    let refused = client.request(&Request::Shutdown {});
    assert!(matches!(refused, Err(ClientError::Refused(reply)) if reply.message.contains("resume it")));
    assert_eq!(client.request(&Request::Resume {}).expect("a reply"), Reply::Ok {});
    socket.set_read_timeout(None).expect("no timeout");
    assert!(reader.frame().is_ok(), "output after the resume");
    assert_eq!(status(&mut client).state, State::Running);
}

#[test]
fn an_empty_disk_gets_its_backing_while_the_guest_runs() {
    let config = Config::new().arg("--disk=none").arg("--disk=none");
    let image = config.dir().join("image");
    let content = noise(3 << 20);
    std::fs::write(&image, &content).expect("an image");
    let machine = config.start();
    let sectors = |disk: &str| {
        let result = machine.exec(&["sh", "-c", &format!("grep ' {disk}$' /proc/partitions | tr -s ' '")]);
        result.text()
    };
    assert_eq!(sectors("vdb"), "", "an empty disk has no size");
    let mut client = machine.client();
    let attach = |slot, path: &std::path::Path, read_only| Request::AttachDisk { slot, path: path.into(), read_only };
    assert_eq!(client.request(&attach(1, &image, false)).expect("a reply"), Reply::Ok {});
    wait_for(|| sectors("vdb").contains(" 3072 "), "the new capacity");
    let sum = machine.exec(&["sh", "-c", "md5sum < /dev/vdb"]).text();
    let expected = machine.exec_with_input(&["md5sum"], content.clone()).text();
    assert_eq!(sum, expected);
    let written = machine
        .exec_with_input(&["sh", "-c", "dd of=/dev/vdb bs=4096 seek=1 conv=notrunc 2>/dev/null; sync"], vec![7; 4096]);
    assert_eq!(written.status, ExitStatus::Exited(0));
    let after = std::fs::read(&image).expect("the image");
    assert!(after[4096..8192].iter().all(|byte| *byte == 7) && after[..4096] == content[..4096]);
    for (request, word) in [
        (attach(9, &image, true), "there is no disk 9"),
        (attach(1, &image, false), "disk 1 has a backing already"),
        (attach(0, &image, true), "disk 0 has a backing already"),
        (attach(2, "/no/such".as_ref(), true), "/no/such"),
    ] {
        let refused = client.request(&request);
        assert!(matches!(&refused, Err(ClientError::Refused(reply)) if reply.message.contains(word)), "{refused:?}");
    }
}

#[test]
fn clients_that_misbehave_are_let_go() {
    let machine = Config::new().start();
    let path = machine.config.control_path();
    for garbage in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 64], &[0xff, 0xff, 0xff, 0xff, 0xff], &[0xfe, 0, 0, 0, 1, b'{']]
    {
        let mut socket = UnixStream::connect(&path).expect("connects");
        socket.write_all(garbage).expect("taken");
        socket.shutdown(std::net::Shutdown::Write).expect("closed");
        let mut answer = Vec::new();
        // A reset says that it closed without reading on.
        let closed = socket.read_to_end(&mut answer);
        assert!(
            closed.as_ref().is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    let mut client = machine.client();
    assert!(matches!(client.request(&Request::Kill { signal: 99 }), Err(ClientError::Refused(_))));
    assert_eq!(machine.exec(&["true"]).status, ExitStatus::Exited(0));
}

#[test]
fn the_guest_reaches_the_users_sockets_and_no_others() {
    let config = Config::new();
    let base = config.dir().join("vsock");
    let listener = UnixListener::bind(config.dir().join("vsock_5000")).expect("a socket");
    let machine = config.arg(&format!("--vsock={}", base.display())).start();
    let server = std::thread::spawn(move || {
        let (mut guest, _) = listener.accept().expect("a call");
        let mut call = [0u8; 5];
        guest.read_exact(&mut call).expect("five bytes");
        guest.write_all(b"answer to ").and_then(|()| guest.write_all(&call)).expect("taken");
    });
    let called = machine.exec(&["vsock-call", "5000"]);
    assert_eq!((called.text().as_str(), called.status), ("answer to call", ExitStatus::Exited(0)));
    server.join().expect("no panic");
    // The agent's own port takes one call in the machine's life, and that was before any process.
    for port in ["1028", "5001", "0"] {
        assert_eq!(machine.exec(&["vsock-call", port]).status, ExitStatus::Exited(1), "port {port}");
    }
}

#[test]
fn the_user_socket_reaches_guest_ports() {
    let config = Config::new();
    let socket = config.dir().join("vsock");
    let machine = config.arg(&format!("--vsock={}", socket.display())).start();
    let mut client = UnixStream::connect(&socket).expect("connects");
    client.write_all(b"CONNECT 1028\n").expect("taken");
    let mut answer = [0u8; 8];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"OK 1028\n");
    // Nobody listens on port 9: the stream ends.
    let mut client = UnixStream::connect(&socket).expect("connects");
    client.write_all(b"CONNECT 9\n").expect("taken");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"OK 9\n");
    drop(machine);
}

/// Asks for a process and does not wait for the answer.
fn ask_for_a_process(machine: &Machine) -> UnixStream {
    let client = machine.client();
    let stream = client.stream().try_clone().expect("a descriptor");
    let request = Request::Exec(Box::new(machine.spec(&["true"])));
    FrameWriter::new(&stream).send_json(FrameKind::Request, &request).expect("sent");
    stream
}

fn is_answered_within(mut stream: &UnixStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).expect("set");
    stream.read(&mut [0u8; 1]).is_ok()
}

#[test]
fn a_guest_that_hangs_holds_nobody() {
    let machine = Config::new().start();
    let pid = machine.pid();
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).expect("/proc of the vmm").count();
    let stop = "kill -STOP $(grep -l supermachine-ag /proc/[0-9]*/comm | tr -dc '0-9\\n')";
    let held = machine.client().exec(machine.spec(&["sh", "-c", stop])).expect("starts");
    let with_one = threads();
    // The agent is stopped sooner or later: from then on nobody is answered any more.
    let mut waiting = vec![ask_for_a_process(&machine)];
    while waiting.last().is_some_and(|stream| is_answered_within(stream, Duration::from_secs(3))) {
        waiting.push(ask_for_a_process(&machine));
    }
    drop((held, waiting));
    wait_for(|| threads() < with_one, "the threads of all of them to end");
    let mut client = machine.client();
    let started = Instant::now();
    let refused = client.request(&Request::Shutdown {});
    assert!(
        matches!(&refused, Err(ClientError::Refused(reply)) if reply.message.contains("does not answer")),
        "{refused:?}"
    );
    assert!(started.elapsed() >= Duration::from_secs(9), "after {:?}", started.elapsed());
    client.request(&Request::Kill { signal: 9 }).expect("a reply");
    assert_eq!(machine.finish().status.code(), Some(137));
}

#[test]
fn cpu_time_is_not_that_of_the_last_question() {
    let machine = Config::new().start();
    let mut client = machine.client();
    let mut cpu_ns = || match client.request(&Request::Stats {}) {
        Ok(Reply::Stats(stats)) => stats.vcpus.iter().map(|vcpu| vcpu.cpu_ns).sum::<u64>(),
        other => panic!("{other:?}"),
    };
    let before = cpu_ns();
    assert!(before > 0);
    machine.exec(&["sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done"]);
    let after = cpu_ns();
    assert!(after > before, "{before} ns before, {after} ns after");
    client.request(&Request::Pause {}).expect("a reply");
}
