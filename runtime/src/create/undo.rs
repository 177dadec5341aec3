//! Takes back a `create` that failed.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use supermachine_layers::store::Hold;

use crate::host::cgroup::Cgroup;
use crate::host::hooks;
use crate::plan::HostHook;
use crate::state::Dir;

/// What there is so far.
#[derive(Debug)]
pub(super) struct Undo {
    dir: Dir,
    /// What keeps the images of the root file system.
    pub(super) hold: Option<Hold>,
    /// The control group.
    pub(super) cgroup: Option<Cgroup>,
    /// The vmm, a child that is not reaped.
    pub(super) machine: Option<u32>,
    /// Hooks that are due since others ran, and the state they read.
    pub(super) poststop: Option<(Vec<HostHook>, String)>,
    armed: bool,
}

impl Undo {
    pub(super) fn new(dir: Dir) -> Self {
        Self { dir, hold: None, cgroup: None, machine: None, poststop: None, armed: true }
    }

    /// All went well.
    pub(super) fn forget(mut self) {
        self.armed = false;
        // The machine has it by now.
        self.hold.take().map(Hold::keep);
    }

    /// Ends the machine and reaps it; gives the signal that ended it.
    pub(super) fn end_machine(&mut self) -> Option<Signal> {
        let pid = Pid::from_raw(self.machine.take()?.cast_signed());
        // Our child, not reaped: the number is its own. It may have ended by itself.
        let _ = kill(pid, Signal::SIGKILL);
        match waitpid(pid, None) {
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(signal),
            _ => None,
        }
    }

    /// Takes everything back.
    pub(super) fn run(self) {
        drop(self);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        self.end_machine();
        let warn = |what: &str, error: &dyn std::error::Error| log::warn!("{what} stays: {error}");
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.remove()
        {
            warn("the control group", &error);
        }
        if let Err(error) = self.dir.remove() {
            warn("the state directory", &error);
        }
        if let Some((poststop, state)) = &self.poststop {
            hooks::run_each("poststop", poststop, state);
        }
    }
}
