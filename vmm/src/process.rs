//! The main process: started when the guest is up, its streams joined to the vmm's own, its end the machine's end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader};
use supermachine_agent_protocol::{ErrorReply, Exec, ExitStatus, FrameError, FrameKind, Mount, Request};

use crate::agent::{AgentError, Link};
use crate::ending::{self, Ending};
use crate::life::Lifecycle;

/// Where the root disk is mounted in the guest.
pub const ROOT: &str = "/run/supermachine/root";
/// Bytes of standard input in one frame.
const STDIN_CHUNK: usize = 64 << 10;

/// Runs `exec` on the root disk of slot `root_disk` (or in the guest's own root) until it ends.
///
/// Blocks until the guest is up, then for as long as the process runs.
pub fn run(life: &Arc<Lifecycle>, exec: Exec, root_disk: Option<usize>) -> Ending {
    start(life, exec, root_disk)
        .and_then(|link| Ok(copy_output(link.reader)?))
        .map_or_else(|error| ending_of(&error), Ending::Process)
}

fn start(life: &Arc<Lifecycle>, mut exec: Exec, root_disk: Option<usize>) -> Result<Link, AgentError> {
    let agent = life.agent();
    if let Some(slot) = root_disk {
        for mount in root_mounts(slot) {
            agent.call()?.request_done(&Request::Mount(mount))?;
        }
        exec.root = Some(ROOT.to_owned());
    }
    let mut link = agent.call()?;
    let pid = link.exec(exec)?;
    log::info!("main process has pid {pid} in the guest");
    let writer = supermachine_agent_protocol::blocking::FrameWriter::new(link.writer.get_ref().try_clone()?);
    life.set_main(writer);
    let life = life.clone();
    std::thread::Builder::new().name("stdin".into()).spawn(move || copy_stdin(&life))?;
    Ok(link)
}

/// The root file system, read-only, with the kernel's own file systems in it.
fn root_mounts(slot: usize) -> Vec<Mount> {
    let letter = char::from(b'a'.saturating_add(u8::try_from(slot).unwrap_or(u8::MAX)));
    let mount = |source: String, target: String, fstype: &str, flags: &[&str]| Mount {
        source,
        target,
        fstype: fstype.to_owned(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        data: String::new(),
    };
    vec![
        mount(format!("/dev/vd{letter}"), ROOT.to_owned(), "squashfs", &["ro", "nodev"]),
        mount("proc".to_owned(), format!("{ROOT}/proc"), "proc", &["nosuid", "nodev", "noexec"]),
        mount("devtmpfs".to_owned(), format!("{ROOT}/dev"), "devtmpfs", &["nosuid", "noexec"]),
    ]
}

fn ending_of(error: &AgentError) -> Ending {
    if let AgentError::Conversation(ConnectionError::Refused(ErrorReply { code, message, .. })) = error {
        let status = u8::try_from(code.shell_status()).unwrap_or(u8::MAX);
        return Ending::NotStarted { status, message: message.clone() };
    }
    Ending::Agent { message: ending::chain(error) }
}

/// Copies output until the process has ended and both streams are at their end.
fn copy_output<R: Read>(mut reader: FrameReader<R>) -> Result<ExitStatus, ConnectionError> {
    let (mut stdout, mut stderr) = (Output::new(io::stdout().as_fd())?, Output::new(io::stderr().as_fd())?);
    loop {
        let frame = reader.frame()?;
        match frame.kind {
            FrameKind::Stdout => stdout.write(&frame.payload),
            FrameKind::Stderr => stderr.write(&frame.payload),
            // The agent sends this after all that the process itself wrote.
            FrameKind::Exit => return Ok(ExitStatus::try_from(&frame)?),
            FrameKind::Error => return Err(ConnectionError::Refused(frame.parse_json()?)),
            got => return Err(FrameError::WrongKind { got, want: FrameKind::Exit }.into()),
        }
    }
}

/// One of the vmm's own output streams.
struct Output {
    /// Gone once nobody reads it any more.
    file: Option<File>,
}

impl Output {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { file: Some(File::from(fd.try_clone_to_owned()?)) })
    }

    /// Writes all of `bytes`, also to a descriptor that somebody made non-blocking.
    fn write(&mut self, mut bytes: &[u8]) {
        while let Some(file) = self.file.as_mut().filter(|_| !bytes.is_empty()) {
            match file.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or(&[]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(file.as_fd(), PollFlags::POLLOUT),
                Err(error) => {
                    log::debug!("output stream closed: {error}");
                    self.file = None;
                }
            }
        }
    }
}

/// Copies the vmm's standard input to the process until one of the two has enough.
fn copy_stdin(life: &Lifecycle) {
    let Ok(mut stdin) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else { return };
    let mut chunk = vec![0u8; STDIN_CHUNK];
    loop {
        match stdin.read(&mut chunk) {
            Ok(count) => {
                // An empty frame is the end of the input.
                if !life.stdin(chunk.get(..count).unwrap_or(&[])) || count == 0 {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(stdin.as_fd(), PollFlags::POLLIN),
            Err(error) => {
                log::debug!("standard input: {error}");
                life.stdin(&[]);
                return;
            }
        }
    }
}

fn wait(fd: BorrowedFd<'_>, events: PollFlags) {
    // Whatever comes of it, the caller tries again and sees the error itself.
    let _ = poll(&mut [PollFd::new(fd, events)], PollTimeout::NONE);
}
