//! What the forked child does until its program runs: system calls only, no memory, no locks.
// UNSAFETY: fork, and raw system calls on memory that was prepared before it.
#![expect(unsafe_code, reason = "fork and exec")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;

use super::plan::{Plan, pointers};

/// The step at which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Session, streams, limits.
    Setup = 1,
    /// The controlling terminal.
    Terminal = 2,
    /// Changing the root directory.
    Root = 3,
    /// Changing the working directory.
    Cwd = 4,
    /// Taking on user and groups.
    User = 5,
    /// Executing the program.
    Program = 6,
}

const STAGES: [Stage; 6] = [Stage::Setup, Stage::Terminal, Stage::Root, Stage::Cwd, Stage::User, Stage::Program];

/// What the child reports before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) errno: i32,
}

impl Failure {
    fn now(stage: Stage) -> Self {
        Self { stage, errno: Errno::last_raw() }
    }

    fn bytes(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    /// The failure a report tells of, if it is whole.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [stage, errno @ ..] = <[u8; 5]>::try_from(bytes).ok()?;
        let stage = STAGES.iter().copied().find(|known| *known as u8 == stage)?;
        Some(Self { stage, errno: i32::from_ne_bytes(errno) })
    }
}

/// Pointers that `execve` takes, made before the fork.
struct Arrays {
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
}

/// Forks; the child carries out `plan` with `stdio` as its descriptors 0 to 2 and writes to `report` if it fails.
pub(super) fn fork_into(plan: &Plan, stdio: [BorrowedFd<'_>; 3], report: BorrowedFd<'_>) -> Result<libc::pid_t, Errno> {
    let arrays = Arrays { argv: pointers(&plan.argv), env: pointers(&plan.env) };
    let stdio = stdio.map(|fd| fd.as_raw_fd());
    let report = report.as_raw_fd();
    // SAFETY: the agent has one thread, so the child's copy of the process is whole; it only makes system calls
    // and leaves by execve or _exit.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => {
            let failure = become_program(plan, &arrays, stdio).bytes();
            // SAFETY: the buffer is a local of the length given; _exit does not return.
            unsafe {
                libc::write(report, failure.as_ptr().cast(), failure.len());
                libc::_exit(127)
            }
        }
        pid => Ok(pid),
    }
}

/// Returns only if a step fails.
fn become_program(plan: &Plan, arrays: &Arrays, stdio: [RawFd; 3]) -> Failure {
    let steps = || -> Result<(), Failure> {
        own_session(stdio, plan)?;
        if let Some(root) = &plan.root {
            enter_root(root)?;
        }
        let entered = chdir(&plan.cwd);
        become_user(plan)?;
        // A directory that only the user may enter (on a network file system, say) is tried again as the user.
        entered.or_else(|failure| if failure.errno == libc::EACCES { chdir(&plan.cwd) } else { Err(failure) })
    };
    match steps() {
        Ok(()) => run_program(plan, arrays),
        Err(failure) => failure,
    }
}

fn own_session(stdio: [RawFd; 3], plan: &Plan) -> Result<(), Failure> {
    let setup = |result: libc::c_int| step(result, Stage::Setup);
    // SAFETY: integers, and locals of the types that the calls name. The agent's descriptors are above 2 (the
    // standard library opens the first three at start), so no dup2 overwrites a later source.
    unsafe {
        setup(libc::setsid())?;
        for (number, fd) in (0..).zip(stdio) {
            setup(libc::dup2(fd, number))?;
        }
        if plan.has_terminal {
            step(libc::ioctl(0, libc::TIOCSCTTY, 0), Stage::Terminal)?;
        }
        if let Some((rlim_cur, rlim_max)) = plan.nofile {
            let limit = libc::rlimit { rlim_cur, rlim_max };
            setup(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
        }
        libc::umask(0o022);
    }
    default_signals();
    reset_oom_score();
    Ok(())
}

/// Undoes what the agent and the Rust runtime did to signals.
fn default_signals() {
    // SAFETY: an all-zero signal set is a valid value to be overwritten, and the pointers are to that local.
    // The calls cannot fail with these arguments.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// The agent is the last victim when memory runs out; its processes are not. Where `/proc` is missing the
/// agent is not protected either, so failing is right.
fn reset_oom_score() {
    // SAFETY: the path is a C string literal, the buffer a byte literal of the length given.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, b"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
}

fn enter_root(root: &CStr) -> Result<(), Failure> {
    // SAFETY: C strings that outlive the calls.
    unsafe {
        step(libc::chdir(root.as_ptr()), Stage::Root)?;
        step(libc::chroot(c".".as_ptr()), Stage::Root)
    }
}

fn chdir(cwd: &CStr) -> Result<(), Failure> {
    // SAFETY: a C string that outlives the call.
    step(unsafe { libc::chdir(cwd.as_ptr()) }, Stage::Cwd)
}

fn become_user(plan: &Plan) -> Result<(), Failure> {
    let user = |result: libc::c_int| step(result, Stage::User);
    // SAFETY: the groups array has the length given; the rest are integers.
    unsafe {
        user(libc::setgroups(plan.groups.len(), plan.groups.as_ptr()))?;
        user(libc::setresgid(plan.gid, plan.gid, plan.gid))?;
        user(libc::setresuid(plan.uid, plan.uid, plan.uid))
    }
}

/// Tries the candidates in turn. A file that may not be executed does not end the search, but is what is
/// reported if nothing better is found.
fn run_program(plan: &Plan, arrays: &Arrays) -> Failure {
    let mut errno = libc::ENOENT;
    for program in &plan.programs {
        // SAFETY: a C string and two null-terminated arrays of C strings, all alive: the plan is borrowed.
        unsafe { libc::execve(program.as_ptr(), arrays.argv.as_ptr(), arrays.env.as_ptr()) };
        match Errno::last_raw() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => errno = libc::EACCES,
            other => {
                errno = other;
                break;
            }
        }
    }
    Failure { stage: Stage::Program, errno }
}

fn step(result: libc::c_int, stage: Stage) -> Result<(), Failure> {
    if result < 0 { Err(Failure::now(stage)) } else { Ok(()) }
}
