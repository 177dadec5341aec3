//! Holding a container: it stands still and is kept without a host, so that its machine can be saved.
//!
//! Nothing is lost or doubled across the cut. What its processes wrote and nobody read stays in their pipes, or in the
//! terminal; input that came is in the pipe or waits here. Of what goes to the host nothing is under way: it is told
//! "held" behind the last of it.

use std::io;

use nix::sys::epoll::EpollFlags;
use supermachine_agent_protocol::{Attached, ErrorReply};

use super::{Life, Process};
use crate::reply::{bad_request, failed};

/// Whether the container is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// It goes on.
    #[default]
    No,
    /// Its processes come to a stop. The request's number.
    Stopping(u64),
    /// They have, and the host was told.
    Held,
    /// The same, and the host is another, whose start it waits for.
    Adopted,
}

impl Process {
    /// Begins to hold its container.
    pub(crate) fn hold(&mut self, number: u64) -> Result<(), ErrorReply> {
        if !matches!(self.life, Life::Waiting { .. } | Life::Running { .. }) {
            // Its exit is on its way, which says more.
            return Ok(());
        }
        if self.hold == Hold::Adopted {
            return Err(bad_request("hold: the container stands still until its start"));
        }
        let Some(ward) = &mut self.ward else {
            return Err(bad_request("hold: the process is not a container's first"));
        };
        let stopped = ward.group.hold(true).and_then(|()| ward.events.want(EpollFlags::EPOLLPRI));
        stopped.map_err(failed(|| "stop the container".to_owned()))?;
        self.hold = Hold::Stopping(number);
        Ok(())
    }

    /// The number of the hold that has come to pass just now.
    pub(crate) fn take_held(&mut self) -> Option<u64> {
        let (Hold::Stopping(number), Some(ward)) = (self.hold, &self.ward) else { return None };
        if !matches!(self.life, Life::Waiting { .. } | Life::Running { .. }) {
            // It has ended before it stood still.
            self.hold = Hold::No;
            return None;
        }
        if !ward.group.is_frozen(&ward.events) {
            return None;
        }
        self.hold = Hold::Held;
        Some(number)
    }

    /// Whether it is kept without a host.
    pub(crate) fn is_held(&self) -> bool {
        self.hold == Hold::Held
    }

    /// Whether another host has it, whose start it waits for.
    pub(crate) fn is_adopted(&self) -> bool {
        self.hold == Hold::Adopted
    }

    /// Whether it has started by a start that found it in its program already.
    pub(crate) fn take_started(&mut self) -> bool {
        std::mem::take(&mut self.started)
    }

    /// Another host takes it over as a container of its own: what was written before goes to nobody.
    pub(crate) fn adopt(&mut self, scratch: &mut [u8]) -> Attached {
        if let Some(streams) = &mut self.streams {
            streams.drop_output(scratch);
        }
        self.hold = Hold::Adopted;
        self.attach()
    }

    /// Lets its container go on.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.hold) == Hold::No {
            return Ok(());
        }
        let Some(ward) = &mut self.ward else { return Ok(()) };
        if matches!(self.life, Life::Waiting { .. } | Life::Running { .. }) {
            ward.events.want(EpollFlags::empty())?;
        }
        ward.group.hold(false)
    }

    /// Another host takes it over: what that has to know.
    pub(crate) fn attach(&mut self) -> Attached {
        let stdin = self.streams.as_mut().and_then(super::ProcessStreams::renew);
        Attached {
            pid: self.pid(),
            started: !matches!(self.life, Life::Waiting { .. }),
            terminal: self.streams.as_ref().is_some_and(super::ProcessStreams::is_terminal),
            stdin,
        }
    }
}
