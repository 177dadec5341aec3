//! Programs that are run at points of the container's life, by its first process before its own program.
// UNSAFETY: what the forked hook does before its program.
#![expect(unsafe_code, reason = "pre_exec")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use supermachine_agent_protocol::ErrorCode;
use supermachine_agent_protocol::container::Hook;

use crate::reply::{Step, bad_request, reply};
use crate::sys;

/// Output of a failed hook that is told, bytes.
const TOLD: u64 = 1024;

/// Hooks of one point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooks<'a> {
    /// The point's name in the container's configuration.
    pub(super) name: &'static str,
    /// The hooks in order.
    pub(super) hooks: &'a [Hook],
    /// What they read, see [`state`].
    pub(super) state: &'a str,
}

/// Checks hooks before there is a child.
pub(super) fn check(hooks: &[Hook], text: &str) -> Step {
    if hooks.is_empty() {
        return Ok(());
    }
    state(text, "created").map(drop)?;
    match hooks.iter().find(|hook| !hook.path.starts_with('/')) {
        Some(odd) => Err(bad_request(format!("hook {:?}: its path is not absolute", odd.path))),
        None => Ok(()),
    }
}

/// The container's state as its hooks read it.
pub(super) fn state(text: &str, status: &str) -> Step<String> {
    let mut state: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| bad_request(format!("the state for hooks: {error}")))?;
    state.insert("status".to_owned(), status.into());
    state.insert("pid".to_owned(), std::process::id().into());
    Ok(serde_json::Value::Object(state).to_string())
}

impl Hooks<'_> {
    /// Runs them one after the other, inside `root` if it is not this process's own. The first failure ends it.
    pub(super) fn run(&self, root: Option<BorrowedFd<'_>>) -> Step {
        for (number, hook) in self.hooks.iter().enumerate() {
            run_one(hook, self.state, root).map_err(|why| {
                let message = format!("error running {} hook #{number} ({:?}): {why}", self.name, hook.path);
                reply(ErrorCode::Hook, None, message)
            })?;
        }
        Ok(())
    }
}

fn run_one(hook: &Hook, state: &str, root: Option<BorrowedFd<'_>>) -> Result<(), String> {
    let mut output = in_memory("").map_err(|error| error.to_string())?;
    // A file instead of a pipe: a hook that does not read it holds nobody up.
    let input = in_memory(state).map_err(|error| error.to_string())?;
    let mut child = spawn(hook, input, &output, root).map_err(|error| error.to_string())?;
    let status = wait(&mut child, hook.timeout_secs)?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = output.seek(SeekFrom::Start(0)).map(|_| output.take(TOLD).read_to_string(&mut text));
    let how = match status.signal() {
        Some(signal) => format!("ended by signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or(-1)),
    };
    Err(format!("{how}, output: {}", text.trim_end()))
}

fn in_memory(text: &str) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("hook", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0)).map(|_| file)
}

fn spawn(hook: &Hook, input: File, output: &File, root: Option<BorrowedFd<'_>>) -> std::io::Result<Child> {
    let mut command = Command::new(&hook.path);
    if let [name, args @ ..] = hook.args.as_slice() {
        command.arg0(name).args(args);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(input).stdout(output.try_clone()?).stderr(output.try_clone()?);
    if let Some(root) = root {
        let root = root.as_raw_fd();
        let enter = move || {
            // SAFETY: system calls on a descriptor that the caller keeps open and a C string literal.
            let entered = unsafe { libc::fchdir(root) | libc::chroot(c".".as_ptr()) };
            Errno::result(entered).map(drop).map_err(Into::into)
        };
        // SAFETY: the closure makes two system calls and touches no memory but its own.
        unsafe { command.pre_exec(enter) };
    }
    command.spawn()
}

/// Waits for its end by an event; one that takes too long is killed.
fn wait(child: &mut Child, timeout_secs: Option<u32>) -> Result<ExitStatus, String> {
    let words = |error: std::io::Error| error.to_string();
    if let Some(secs) = timeout_secs {
        let pid = libc::pid_t::try_from(child.id()).unwrap_or(0);
        let pidfd: OwnedFd = sys::pidfd_open(pid).map_err(words)?;
        if !ends_within(&pidfd, Duration::from_secs(secs.into())) {
            child.kill().and_then(|()| child.wait()).map_err(words)?;
            return Err(format!("it took longer than {secs} s"));
        }
    }
    child.wait().map_err(words)
}

fn ends_within(pidfd: &OwnedFd, most: Duration) -> bool {
    let deadline = Instant::now().checked_add(most);
    loop {
        let left = deadline.map_or(most, |deadline| deadline.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            other => return other.is_ok(),
        }
    }
}
