//! The child: bakes one template, traced by its parent.

use std::env;
use std::path::Path;
use std::process::{Child, Command};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use supermachine_snapshot::store::Store;

use crate::common::{get, parts};

/// The mark of what it bakes.
pub(crate) const MARK: u8 = 1;

/// In the child.
pub(crate) fn bake_traced(dir: &Path) {
    ptrace::traceme().expect("may be traced");
    raise(Signal::SIGSTOP).expect("stops for its parent");
    let store = Store::open(dir).expect("a store");
    get(&store, &parts("a"), MARK).0.expect("bakes");
}

/// A child that stands still between two system calls, or has ended.
pub(crate) struct Baker {
    child: Child,
    running: bool,
}

impl Baker {
    /// Starts one below `dir`; it has not done anything yet.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        let child = command.arg("--baker").arg(dir).spawn().expect("starts");
        let baker = Self { child, running: true };
        let status = waitpid(baker.pid(), None).expect("waits");
        assert!(matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{status:?}");
        ptrace::setoptions(baker.pid(), ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("sets");
        baker
    }

    /// Lets it go on to the next begin or end of a system call; false at its end.
    pub(crate) fn step(&mut self) -> bool {
        ptrace::syscall(self.pid(), None).expect("goes on");
        match waitpid(self.pid(), None).expect("waits") {
            WaitStatus::PtraceSyscall(_) => true,
            WaitStatus::Exited(_, 0) => {
                self.running = false;
                false
            }
            status => panic!("the baker failed: {status:?}"),
        }
    }

    pub(crate) fn kill(mut self) {
        if self.running {
            self.child.kill().expect("kills");
            self.child.wait().expect("ends");
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a process id"))
    }
}
