//! Terminals over a console socket, as callers with a terminal of their own use them.
// UNSAFETY: a received descriptor is a number, and a terminal's size is set by an ioctl.
#![expect(unsafe_code, reason = "SCM_RIGHTS, TIOCSWINSZ")]

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

use crate::harness::{Place, text, wait_for, wait_pid};

/// Listens for one terminal, as conmon does.
pub(crate) fn listen(path: &Path) -> JoinHandle<File> {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a connection");
        let (mut bytes, mut space) = ([0; 64], nix::cmsg_space!(i32));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).expect("a message");
        match got.cmsgs().expect("whole").next() {
            // SAFETY: the kernel has just made this descriptor for us.
            Some(ControlMessageOwned::ScmRights(fds)) => unsafe { File::from_raw_fd(fds[0]) },
            other => panic!("no descriptor: {other:?}"),
        }
    })
}

/// Reads until `word` has come; gives all that came.
pub(crate) fn read_until(master: &mut File, word: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(word) {
        let count = master.read(&mut buffer).unwrap_or(0);
        assert!(count > 0, "the terminal ended before {word:?} came: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

fn resize(master: &File, rows: u16, cols: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize` from the address, which is a live local of that type.
    assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
}

fn pid(path: &PathBuf) -> u32 {
    fs::read_to_string(path).expect("a file").parse().expect("a number")
}

#[test]
fn a_container_has_a_terminal() {
    let place = Place::new();
    let bundle = place.bundle(&["sh"], |config| config["process"]["terminal"] = json!(true));
    let (socket, pid_file) = (place.path("console"), place.path("pid"));
    let master = listen(&socket);
    place.leave(&[
        "create",
        "-b",
        text(&bundle),
        "--console-socket",
        text(&socket),
        "--pid-file",
        text(&pid_file),
        "c",
    ]);
    let mut master = master.join().expect("a terminal");
    resize(&master, 33, 111);
    place.good(&["start", "c"]);
    master.write_all(b"tty; test -t 0 && test -t 2 && echo is-$((40+2))-terminal\n").expect("writes");
    let seen = read_until(&mut master, "is-42-terminal\r\n");
    assert!(seen.contains("/dev/"), "{seen}");
    wait_for(
        || {
            master.write_all(b"echo size-$(stty size)-\n").expect("writes");
            read_until(&mut master, "-\r\n").contains("size-33 111-")
                || read_until(&mut master, "-\r\n").contains("size-33 111-")
        },
        "the size given before the start",
    );
    resize(&master, 44, 55);
    wait_for(
        || {
            master.write_all(b"echo now-$(stty size)-\n").expect("writes");
            read_until(&mut master, "-\r\n").contains("now-44 55-")
                || read_until(&mut master, "-\r\n").contains("now-44 55-")
        },
        "the new size",
    );
    master.write_all(b"echo begin-$((40+2)); sleep 1000\n").expect("writes");
    read_until(&mut master, "begin-42\r\n");
    wait_for(|| place.good(&["ps", "c"]).contains("sleep 1000"), "the program to interrupt");
    master.write_all(b"\x03").expect("writes");
    master.write_all(b"echo after-$((1+1))\n").expect("writes");
    read_until(&mut master, "after-2\r\n");
    master.write_all(b"exit 12\n").expect("writes");
    assert_eq!(wait_pid(pid(&pid_file)), 12);
    place.good(&["delete", "c"]);
    place.assert_clean();
}

#[test]
fn an_exec_has_a_terminal() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    let (socket, pid_file) = (place.path("console"), place.path("exec.pid"));
    let master = listen(&socket);
    let line = ["exec", "--tty", "--console-socket", text(&socket), "--pid-file", text(&pid_file), "-d", "c", "sh"];
    place.leave(&line);
    let mut master = master.join().expect("a terminal");
    master.write_all(b"test -t 1 && echo a-$((40+2))\n").expect("writes");
    read_until(&mut master, "a-42\r\n");
    master.write_all(b"exit 13\n").expect("writes");
    assert_eq!(wait_pid(pid(&pid_file)), 13);
    place.good(&["delete", "--force", "c"]);
    container.wait();
    place.assert_clean();
}

#[test]
fn a_terminal_without_a_socket_and_a_socket_without_a_terminal_are_refused() {
    let place = Place::new();
    let bundle = place.bundle(&["sh"], |config| config["process"]["terminal"] = json!(true));
    let plain = place.bundle(&["true"], |_| ());
    assert!(place.bad(&["create", "-b", text(&bundle), "c"]).contains("without setting console socket"));
    assert!(
        place.bad(&["create", "-b", text(&plain), "--console-socket", "/x", "c"]).contains("cannot use console socket")
    );
    assert!(
        place.bad(&["create", "-b", text(&bundle), "--console-socket", "/no/such", "c"]).contains("dial unix /no/such")
    );
    place.assert_clean();
}

#[test]
fn a_run_and_an_exec_use_the_callers_terminal() {
    let place = Place::new();
    let script = "stty size; trap 'stty size; exit 14' WINCH; echo ready; while :; do sleep 0.1; done";
    let bundle = place.bundle(&["sh", "-c", script], |config| config["process"]["terminal"] = json!(true));
    let run = place.command(&["run", "--bundle", text(&bundle), "c"]);
    let (mut master, mut child) = on_a_terminal(&run, 33, 111);
    assert_eq!(read_until(&mut master, "ready\r\n"), "33 111\r\nready\r\n");
    let exec = place.command(&["exec", "--tty", "c", "sh", "-c", "stty size; read line; echo got-$line; exit 15"]);
    let (mut second, mut other) = on_a_terminal(&exec, 22, 88);
    read_until(&mut second, "22 88\r\n");
    second.write_all(b"line\n").expect("writes");
    read_until(&mut second, "got-line\r\n");
    assert_eq!(other.wait().expect("ends").code(), Some(15));
    resize(&master, 44, 55);
    read_until(&mut master, "44 55\r\n");
    assert_eq!(child.wait().expect("ends").code(), Some(14));
    place.assert_clean();
}

#[test]
fn a_machine_that_is_killed_leaves_the_callers_terminal_as_it_was() {
    let place = Place::new();
    let bundle =
        place.bundle(&["sh", "-c", "echo ready; sleep 1000"], |config| config["process"]["terminal"] = json!(true));
    let (mut master, mut child) = on_a_terminal(&place.command(&["run", "--bundle", text(&bundle), "c"]), 24, 80);
    read_until(&mut master, "ready\r\n");
    let is_raw = |master: &File| {
        let modes = nix::sys::termios::tcgetattr(master).expect("a terminal");
        !modes.local_flags.contains(nix::sys::termios::LocalFlags::ICANON)
    };
    assert!(is_raw(&master));
    let pid = place.state("c")["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a number");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("lives");
    assert_eq!(child.wait().expect("ends").code(), Some(137));
    assert!(!is_raw(&master));
    place.assert_clean();
}

/// Starts a command whose terminal is a new one; gives its other end.
fn on_a_terminal(command: &Command, rows: u16, cols: u16) -> (File, Child) {
    let pair = nix::pty::openpty(None, None).expect("a terminal");
    let master = File::from(pair.master);
    resize(&master, rows, cols);
    let stream = || Stdio::from(pair.slave.try_clone().expect("a copy"));
    let mut session = Command::new("setsid");
    session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
    session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = session.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("starts");
    (master, child)
}
