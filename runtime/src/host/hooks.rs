//! Hooks that run on the host: a program each, with the container's state on its standard input.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::Process;
use crate::plan::HostHook;

/// How much of a hook's output is kept for its error.
const OUTPUT_MAX: usize = 4096;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be started or watched.
    #[error("hooks.{kind}[{index}]: cannot run {}", path.display())]
    Run {
        /// Name of the list it is in.
        kind: &'static str,
        /// Its place in the list.
        index: usize,
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended badly.
    #[error("hooks.{kind}[{index}]: {} failed with {status}{output}", path.display())]
    Failed {
        /// Name of the list it is in.
        kind: &'static str,
        /// Its place in the list.
        index: usize,
        /// The program.
        path: PathBuf,
        /// How.
        status: ExitStatus,
        /// What it printed, after a colon.
        output: String,
    },
    /// It took too long and was killed.
    #[error("hooks.{kind}[{index}]: {} took longer than {seconds} s", path.display())]
    Timeout {
        /// Name of the list it is in.
        kind: &'static str,
        /// Its place in the list.
        index: usize,
        /// The program.
        path: PathBuf,
        /// Its timeout.
        seconds: u32,
    },
}

/// Runs hooks one after the other; `kind` is the name of their list in the configuration, `state` what they read.
///
/// # Errors
/// The first that fails; those behind it are not run.
pub fn run_all(kind: &'static str, hooks: &[HostHook], state: &str) -> Result<(), HookError> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| run(kind, index, hook, state))
}

/// Runs hooks that must not stop what goes on: failures are logged, the next ones run.
pub fn run_each(kind: &'static str, hooks: &[HostHook], state: &str) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(error) = run(kind, index, hook, state) {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            log::warn!("{error}{cause}");
        }
    }
}

fn run(kind: &'static str, index: usize, hook: &HostHook, state: &str) -> Result<(), HookError> {
    let path = || hook.path.clone();
    let failed = |source| HookError::Run { kind, index, path: path(), source };
    let mut child = start(hook).map_err(failed)?;
    let deadline = hook.timeout_secs.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let watched = Exchange::new(&mut child, state).and_then(|exchange| exchange.until_end(deadline));
    let output = match watched {
        Ok(Some(output)) => output,
        other => {
            // It may have ended by now; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
            let seconds = hook.timeout_secs.unwrap_or_default();
            return Err(other.err().map_or(HookError::Timeout { kind, index, path: path(), seconds }, failed));
        }
    };
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output);
    let output = if output.trim().is_empty() { String::new() } else { format!(": {}", output.trim()) };
    Err(HookError::Failed { kind, index, path: path(), status, output })
}

fn start(hook: &HostHook) -> io::Result<Child> {
    let (ours, theirs) = io::pipe()?;
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(theirs.try_clone()?).stderr(theirs);
    let mut child = command.spawn()?;
    child.stdout = Some(ChildStdout::from(OwnedFd::from(ours)));
    Ok(child)
}

/// What passes between us and a hook while it runs.
struct Exchange<'a> {
    process: Process,
    stdin: Option<ChildStdin>,
    output: Option<ChildStdout>,
    state: &'a [u8],
    kept: Vec<u8>,
}

impl<'a> Exchange<'a> {
    fn new(child: &mut Child, state: &'a str) -> io::Result<Self> {
        let (stdin, output) = (child.stdin.take(), child.stdout.take());
        for fd in stdin.iter().map(AsFd::as_fd).chain(output.iter().map(AsFd::as_fd)) {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self { process: Process::open(child.id())?, stdin, output, state: state.as_bytes(), kept: Vec::new() })
    }

    /// Gives the state and takes the output until the hook ends; `None` if it has not at the deadline.
    fn until_end(mut self, deadline: Option<Instant>) -> io::Result<Option<Vec<u8>>> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                let rounded_up = left + Duration::from_millis(1);
                PollTimeout::try_from(rounded_up).unwrap_or(PollTimeout::MAX)
            });
            let ended = self.wait(timeout)?;
            self.give();
            self.take();
            if ended {
                return Ok(Some(self.kept));
            }
        }
    }

    fn wait(&self, timeout: PollTimeout) -> io::Result<bool> {
        let watched = |fd, flags| PollFd::new(fd, flags);
        let mut fds = vec![watched(self.process.as_fd(), PollFlags::POLLIN)];
        let outward = self.stdin.as_ref().map(|stdin| watched(stdin.as_fd(), PollFlags::POLLOUT));
        let inward = self.output.as_ref().map(|output| watched(output.as_fd(), PollFlags::POLLIN));
        fds.extend(outward.into_iter().chain(inward));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(fds.first().is_some_and(|fd| fd.any() == Some(true))),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the pipe takes; a hook that does not read it has no use for it.
    fn give(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(self.state) {
            Ok(count) => self.state = self.state.get(count..).unwrap_or_default(),
            Err(error) if again(&error) => {}
            Err(_) => self.state = &[],
        }
        if self.state.is_empty() {
            self.stdin = None;
        }
    }

    fn take(&mut self) {
        let mut buffer = [0; OUTPUT_MAX];
        while let Some(output) = &mut self.output {
            match output.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    let room = OUTPUT_MAX.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Err(error) if again(&error) => return,
                _ => self.output = None,
            }
        }
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout_secs: Option<u32>) -> HostHook {
        let args = ["hook", "-c", script].map(str::to_owned).to_vec();
        HostHook { path: "/bin/sh".into(), args, env: vec!["GREETING=hello there".to_owned()], timeout_secs }
    }

    fn message(hook: HostHook, state: &str) -> String {
        run_all("prestart", &[hook], state).expect_err("must fail").to_string()
    }

    #[test]
    fn the_state_is_on_its_standard_input_and_the_environment_is_as_given() {
        let check = r#"test "$(cat)" = '{"id":"x"}' && test "$GREETING" = "hello there" && test -z "$HOME""#;
        run_all("prestart", &[hook(check, Some(10))], r#"{"id":"x"}"#).unwrap();
    }

    #[test]
    fn a_hook_that_reads_nothing_or_writes_much_does_not_hang() {
        let state = "x".repeat(1 << 20);
        run_all("prestart", &[hook("exit 0", None)], &state).unwrap();
        run_all("prestart", &[hook("head -c 1000000 /dev/zero; cat >/dev/null", Some(10))], &state).unwrap();
    }

    #[test]
    fn failures_name_the_hook_and_what_it_printed() {
        let text = message(hook("echo no luck >&2; exit 3", None), "");
        assert_eq!(text, "hooks.prestart[0]: /bin/sh failed with exit status: 3: no luck");
        let missing = HostHook { path: "/does/not/exist".into(), ..hook("", None) };
        assert_eq!(message(missing, ""), "hooks.prestart[0]: cannot run /does/not/exist");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let started = Instant::now();
        assert_eq!(message(hook("sleep 60", Some(1)), ""), "hooks.prestart[0]: /bin/sh took longer than 1 s");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_daemon_that_a_hook_leaves_behind_does_not_hold_it_up() {
        run_all("prestart", &[hook("sleep 5 & exit 0", Some(3))], "").unwrap();
    }
}
