//! A machine that a runtime makes for one container: the inherited control connection, create, start, the end.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use supermachine_agent_protocol::blocking::FrameWriter;
use supermachine_agent_protocol::container::Container;
use supermachine_agent_protocol::{ErrorCode, ErrorReply, ExitStatus, FrameKind, WindowSize};
use supermachine_vmm::ending::{STATUS_KILLED, STATUS_SETUP};
use supermachine_vmm_api::{
    Client, ClientError, ContainerFiles, ContainerState, Create, Reply, Request, State, Status,
};

use crate::harness::{Config, Process, collect, create, finish, noise, wait_for};

const MIB: usize = 1 << 20;

/// A machine with its container; killed when it is dropped.
struct Machine {
    config: Config,
    client: Client,
    child: Option<Child>,
}

impl Machine {
    /// The machine boots; there is no container yet.
    fn boot(config: Config, stdin: Stdio) -> Self {
        let (stream, child) = config.start_inherited(stdin);
        let client = Client::from_stream(stream, "e2e tests").expect("hellos");
        Self { config, client, child: Some(child) }
    }

    /// A container is built around this command.
    fn create(argv: &[&str], stdin: Stdio) -> Self {
        let mut machine = Self::boot(Config::for_container(), stdin);
        machine.build(container(argv));
        machine
    }

    /// Its container is built.
    fn build(&mut self, container: Container) {
        let reply = create(&mut self.client, container);
        assert!(matches!(reply, Ok(Reply::Created { .. })), "{reply:?}: {}", self.config.stderr());
    }

    /// Its container is refused.
    fn build_refusal(&mut self, container: Container) -> ErrorReply {
        match create(&mut self.client, container) {
            Err(ClientError::Refused(reply)) => reply,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    /// It runs.
    fn run(argv: &[&str], stdin: Stdio) -> Self {
        let mut machine = Self::create(argv, stdin);
        machine.start();
        machine
    }

    fn start(&mut self) {
        let reply = self.request(&Request::Start {});
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
    }

    fn request(&mut self, request: &Request) -> Reply {
        self.client.request(request).unwrap_or_else(|error| panic!("{error}: {}", self.config.stderr()))
    }

    fn refusal(&mut self, request: &Request) -> ErrorReply {
        match self.client.request(request) {
            Err(ClientError::Refused(reply)) => reply,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    fn status(&mut self) -> Status {
        let Reply::Status(status) = self.request(&Request::Status {}) else { panic!("not a status") };
        *status
    }

    fn exec(&self, client: Client, argv: &[&str]) -> Process {
        let exec = serde_json::from_value(json!({"argv": argv, "env": ["PATH=/bin"], "container": true}));
        client.exec(exec.expect("an exec")).unwrap_or_else(|error| panic!("{error}: {}", self.config.stderr()))
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("not ended")
    }

    /// Waits for the machine's end; gives what the container wrote and the vmm's status.
    fn end(mut self) -> (Vec<u8>, Option<i32>) {
        let output = finish(self.child.take().expect("not ended"));
        (output.stdout, output.status.code())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A container on the busybox image.
fn container(argv: &[&str]) -> Container {
    let filesystem = |destination: &str, fstype: &str| json!({"destination": destination, "source": {"filesystem": {"fstype": fstype, "source": fstype}}});
    let container = json!({
        "id": "test",
        "root": {},
        "process": {"argv": argv, "env": ["PATH=/bin"], "stdin": true},
        "namespaces": ["pid", "ipc", "uts", "mount", "cgroup"],
        "hook_state": "{}",
        "mounts": [filesystem("/proc", "proc"), filesystem("/dev", "tmpfs")],
        "devices": [
            {"path": "/dev/null", "kind": "character", "major": 1, "minor": 3, "mode": 0o666, "uid": 0, "gid": 0},
            {"path": "/dev/zero", "kind": "character", "major": 1, "minor": 5, "mode": 0o666, "uid": 0, "gid": 0},
        ],
    });
    serde_json::from_value(container).expect("a container")
}

fn signal(child: &Child, name: &str) {
    let killed = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
}

fn read_line(child: &mut Child) -> String {
    let stdout = child.stdout.as_mut().expect("a pipe");
    let mut line = Vec::new();
    let mut byte = [0u8];
    while stdout.read(&mut byte).expect("output") == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

#[test]
fn what_cannot_be_set_up_is_told_to_the_client_and_to_the_log_only() {
    let config = Config::for_container().arg("--kernel=/no/such").arg("--log-format=json");
    let log = config.dir().join("log");
    let mut config = config.arg(&format!("--log={}", log.display()));
    config.args.remove(0);
    let (stream, child) = config.start_inherited(Stdio::null());
    let refused =
        Client::from_stream(stream, "e2e tests").and_then(|mut client| create(&mut client, container(&["true"])));
    let Err(ClientError::Refused(reply)) = refused else { panic!("{refused:?}") };
    assert!(reply.message.contains("kernel /no/such: No such file"), "{reply:?}");
    assert_eq!(finish(child).status.code(), Some(i32::from(STATUS_SETUP)));
    assert_eq!(config.stderr(), "");
    let lines = std::fs::read_to_string(log).expect("a log");
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "error");
    assert_eq!(last["msg"], reply.message);
}

#[test]
fn a_log_that_is_a_link_is_refused_and_told() {
    let config = Config::for_container();
    let log = config.dir().join("log");
    std::os::unix::fs::symlink("/dev/null", &log).expect("a link");
    let config = config.arg(&format!("--log={}", log.display()));
    let (stream, child) = config.start_inherited(Stdio::null());
    let refused = Client::from_stream(stream, "e2e tests").and_then(|mut client| client.request(&Request::Status {}));
    assert!(matches!(&refused, Err(ClientError::Refused(reply)) if reply.message.contains("log")), "{refused:?}");
    assert_eq!(finish(child).status.code(), Some(i32::from(STATUS_SETUP)));
}

#[test]
fn a_guest_that_panics_is_told_to_who_waits_for_the_container() {
    // Without an initramfs there is no init.
    let mut machine = Machine::boot(Config::bare(), Stdio::null());
    let reply = machine.build_refusal(container(&["true"]));
    assert!(reply.message.contains("the guest kernel panicked"), "{reply:?}");
    machine.end();
}

#[test]
fn an_abandoned_machine_ends() {
    // Before any request, before or while the guest boots. Nothing is said where the container would speak.
    let config = Config::for_container();
    let config = {
        let log = config.dir().join("log");
        config.arg(&format!("--log={}", log.display()))
    };
    let (stream, child) = config.start_inherited(Stdio::null());
    drop(stream);
    assert_eq!(finish(child).status.code(), Some(i32::from(STATUS_SETUP)));
    assert_eq!(config.stderr(), "");

    // While a create waits for the boot: the frame is sent by hand, nobody waits for the reply.
    let config = Config::for_container();
    let (stream, child) = config.start_inherited(Stdio::null());
    let hello = json!({"hello": {"version": supermachine_vmm_api::VERSION, "software": "e2e tests"}});
    let mut writer = FrameWriter::new(&stream);
    writer.send_json(FrameKind::Control, &hello).expect("sent");
    let wanted = Create { container: container(&["true"]), files: ContainerFiles::default(), template: None };
    writer.send_json(FrameKind::Request, &Request::Create(Box::new(wanted))).expect("sent");
    let started = Instant::now();
    drop(stream);
    assert_eq!(finish(child).status.code(), Some(i32::from(STATUS_SETUP)), "{}", config.stderr());
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_descriptor_must_be_a_connected_socket() {
    for fd in ["1", "77", "-1"] {
        let config = Config::for_container().arg(&format!("--control-fd={fd}"));
        let output = finish(config.spawn(&[], Stdio::null()));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{stderr}");
        assert!(stderr.contains("--control-fd"), "{stderr}");
    }
}

#[test]
fn before_and_without_a_container_its_requests_are_refused() {
    let mut machine = Machine::boot(Config::for_container(), Stdio::null());
    assert_eq!(machine.status().container, None);
    for request in [Request::Start {}, Request::KillAll { signal: 15 }, Request::Processes {}, Request::Usage {}] {
        let reply = machine.refusal(&request);
        assert_eq!(reply.code, ErrorCode::Unavailable, "{request:?}: {reply:?}");
    }
    let reply = machine.refusal(&Request::Kill { signal: 15 });
    assert!(reply.message.contains("no process to signal"), "{reply:?}");
    machine.request(&Request::Kill { signal: 9 });
    assert_eq!(machine.end().1, Some(i32::from(STATUS_KILLED)));
}

#[test]
fn create_then_start_then_the_containers_own_end() {
    let mut machine = Machine::create(&["sh", "-c", "echo out; echo err >&2; exit 7"], Stdio::null());
    let status = machine.status();
    assert_eq!((status.state, status.container), (State::Running, Some(ContainerState::Created)));
    let reply = machine.build_refusal(container(&["true"]));
    assert!(reply.message.contains("has its container already"), "{reply:?}");
    machine.start();
    let output = finish(machine.child.take().expect("not ended"));
    assert_eq!((output.stdout.as_slice(), output.status.code()), (b"out\n".as_slice(), Some(7)));
    assert!(machine.config.stderr().lines().any(|line| line == "err"), "{}", machine.config.stderr());
}

#[test]
fn twenty_mib_through_the_container() {
    let mut machine = Machine::run(&["cat"], Stdio::piped());
    let input = noise(20 * MIB);
    let expected = input.clone();
    let mut stdin = machine.child().stdin.take().expect("a pipe");
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let (stdout, status) = machine.end();
    feeder.join().expect("no panic").expect("all was taken");
    assert_eq!(status, Some(0));
    assert!(stdout == expected, "{} bytes came back", stdout.len());
}

#[test]
fn a_burst_before_the_containers_exit_arrives_whole() {
    let machine = Machine::run(&["sh", "-c", "dd if=/dev/zero bs=1M count=8 2>/dev/null; exit 5"], Stdio::null());
    let (stdout, status) = machine.end();
    assert_eq!((stdout.len(), status), (8 * MIB, Some(5)));
}

#[test]
fn a_container_can_be_killed_before_its_start() {
    let mut machine = Machine::create(&["echo", "never"], Stdio::null());
    let started = Instant::now();
    assert_eq!(machine.request(&Request::Kill { signal: 9 }), Reply::Ok {});
    assert_eq!(machine.end(), (Vec::new(), Some(137)));
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_was_written_before_a_kill_arrives() {
    let script = "dd if=/dev/zero bs=64k count=3 2>/dev/null; echo; echo written; while :; do sleep 1; done";
    let mut machine = Machine::run(&["sh", "-c", script], Stdio::null());
    // All of it fits into the window: the guest holds nothing back.
    let zeroes = read_line(machine.child());
    assert_eq!(zeroes.len(), 3 << 16);
    machine.request(&Request::Kill { signal: 9 });
    let (stdout, status) = machine.end();
    assert_eq!((String::from_utf8_lossy(&stdout).as_ref(), status), ("written\n", Some(137)));
}

#[test]
fn a_paused_container_answers_so_and_can_be_killed() {
    let mut machine = Machine::run(&["sleep", "1000"], Stdio::null());
    machine.request(&Request::Pause {});
    assert_eq!(machine.status().state, State::Paused);
    for request in [Request::Processes {}, Request::Usage {}, Request::KillAll { signal: 15 }, Request::Shutdown {}] {
        let reply = machine.refusal(&request);
        assert_eq!(reply.code, ErrorCode::Unavailable);
        assert!(reply.message.contains("paused"), "{reply:?}");
    }
    machine.request(&Request::Resume {});
    assert!(matches!(machine.request(&Request::Usage {}), Reply::Usage(_)));
    machine.request(&Request::Pause {});
    machine.request(&Request::Kill { signal: 9 });
    assert_eq!(machine.end().1, Some(137));
}

#[test]
fn what_cannot_be_built_is_refused_and_the_machine_ends_with_its_client() {
    let mut machine = Machine::boot(Config::for_container(), Stdio::null());
    let mut bad = container(&["true"]);
    let mount = json!({"destination": "/x", "source": {"filesystem": {"fstype": "nofs", "source": "x"}}});
    bad.mounts.push(serde_json::from_value(mount).expect("a mount"));
    let reply = machine.build_refusal(bad);
    assert!(reply.message.contains("/x"), "{reply:?}");
    assert_eq!(machine.status().container, None);
    let child = machine.child.take().expect("not ended");
    drop(machine);
    assert_eq!(finish(child).status.code(), Some(i32::from(STATUS_SETUP)));

    let mut machine = Machine::boot(Config::for_container(), Stdio::null());
    let missing = machine.build_refusal(container(&["/no/such"]));
    assert_eq!(missing.code, ErrorCode::NotFound, "{missing:?}");
}

#[test]
fn a_program_that_goes_away_before_the_start_is_told_and_ends_the_machine() {
    let mut wanted = container(&["/bin/sleep", "1"]);
    let hook = json!({"path": "/bin/busybox", "args": ["rm", "/bin/sleep"]});
    wanted.start_hooks.push(serde_json::from_value(hook).expect("a hook"));
    let mut machine = Machine::boot(Config::for_container(), Stdio::null());
    machine.build(wanted);
    let reply = machine.refusal(&Request::Start {});
    assert_eq!(reply.code, ErrorCode::NotFound, "{reply:?}");
    assert_eq!(machine.end().1, Some(127));
}

#[test]
fn signals_to_the_vmm_reach_the_container() {
    let script = "trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut machine = Machine::run(&["sh", "-c", script], Stdio::null());
    assert_eq!(read_line(machine.child()), "ready");
    signal(machine.child(), "-TERM");
    assert_eq!(machine.end(), (b"term\n".to_vec(), Some(9)));
}

#[test]
fn several_clients_at_once() {
    let config = Config::for_container();
    let control = config.control_path();
    let config = config.arg(&format!("--control={}", control.display()));
    let mut machine = Machine::boot(config, Stdio::null());
    machine.build(container(&["sleep", "1000"]));
    machine.start();
    let connect = || Client::connect(&control, "e2e tests").expect("the control socket answers");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = connect();
                for _ in 0..10 {
                    assert!(matches!(client.request(&Request::Usage {}), Ok(Reply::Usage(_))));
                    let Ok(Reply::Processes(processes)) = client.request(&Request::Processes {}) else { panic!() };
                    assert!(processes.iter().any(|process| process.command == "sleep 1000"), "{processes:?}");
                }
            });
        }
    });
    let process = machine.exec(connect(), &["sh", "-c", "echo $$; exit 4"]);
    let result = collect(process);
    assert_eq!(result.status, ExitStatus::Exited(4));
    // The client that made the container may go: it is built.
    machine.client = connect();
    assert_eq!(machine.status().container, Some(ContainerState::Running));
    machine.request(&Request::KillAll { signal: 15 });
    machine.request(&Request::Kill { signal: 9 });
    assert_eq!(machine.end().1, Some(137));
    wait_for(|| !control.exists(), "the control socket to go");
}

/// Reads what the terminal shows until `text` is there.
fn shown(terminal: &mut std::fs::File, text: &str) -> String {
    let mut seen = Vec::new();
    let mut chunk = [0u8; 1000];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = terminal.read(&mut chunk).expect("the terminal shows something");
        seen.extend(&chunk[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_terminal_is_the_containers_from_create_to_the_end() {
    use nix::sys::termios::{LocalFlags, tcgetattr};
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(&size, None).expect("a pty");
    let slave = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
    let cooked = || tcgetattr(&pty.slave).expect("modes").local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO);
    let config = Config::for_container();
    let (stream, child) = config.start_inherited_on(slave(), slave());
    let client = Client::from_stream(stream, "e2e tests").expect("hellos");
    let mut machine = Machine { config, client, child: Some(child) };
    let script = "trap 'stty size' WINCH; stty size; until read line; do :; done; echo got $line; exit 3";
    let mut wanted = container(&["sh", "-c", script]);
    wanted.process.tty = Some(WindowSize { rows: 1, cols: 1 });
    assert!(cooked());
    machine.build(wanted);
    assert!(!cooked(), "the terminal is raw once the container is there");
    machine.start();
    let mut terminal = std::fs::File::from(pty.master);
    shown(&mut terminal, "33 101\r\n");
    let resized = std::process::Command::new("stty").args(["rows", "5", "cols", "6"]).stdin(slave()).status();
    assert!(resized.expect("stty runs").success());
    signal(machine.child(), "-WINCH");
    shown(&mut terminal, "5 6\r\n");
    terminal.write_all(b"hello\r").expect("typed");
    let seen = shown(&mut terminal, "got hello\r\n");
    assert!(seen.starts_with("hello\r\n"), "the guest's terminal echoes: {seen:?}");
    assert_eq!(machine.end().1, Some(3));
    assert!(cooked(), "the terminal is as it was");
}
