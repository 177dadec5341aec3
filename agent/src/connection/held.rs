//! The connection of a container that is held: it outlives its host, and is given another.

use std::io;

use supermachine_agent_protocol::{Control, ErrorReply, FrameKind};

use super::{Connection, Context, State, Verdict};
use crate::poller::{Source, Token};
use crate::reply::{Step, unavailable};

impl Connection {
    /// The connection is over. Whether it is one of a held container, which waits for another host.
    pub(super) fn lose_host(&mut self) -> bool {
        if !self.is_held() {
            return false;
        }
        self.is_lost = true;
        self.pending.clear();
        self.out.clear();
        true
    }

    /// Whether a container is held by it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(&self.state, State::Exec(process) if process.is_held())
    }

    /// Gives the container the names that this host has for it. What it cannot have, or that no container is held, is
    /// why the host cannot take it over.
    pub(crate) fn name(&self, cx: &Context, is_held: bool) -> Step {
        let container = cx.container.as_ref().filter(|_| is_held);
        let container = container.ok_or_else(|| unavailable("no container is held"))?;
        match &self.state {
            State::Attaching(Some(names)) => container.rename(names),
            _ => Ok(()),
        }
    }

    /// Says why the container cannot be taken over.
    pub(crate) fn refuse_attach(&mut self, cx: &mut Context, error: &ErrorReply) -> Verdict {
        self.refuse(error);
        self.settle(cx).unwrap_or(Verdict::Gone)
    }

    /// Gives its held container to the host of another connection; what was under way to the one before is gone.
    pub(crate) fn attach(&mut self, cx: &mut Context, host: Self) -> Verdict {
        self.take_host(&mut cx.scratch, host).and_then(|()| self.settle(cx)).unwrap_or(Verdict::Gone)
    }

    fn take_host(&mut self, scratch: &mut [u8], host: Self) -> io::Result<()> {
        let Self { socket, decoder, pending, out, state, .. } = host;
        self.socket = socket.hand_over(Token { id: self.id, source: Source::Socket })?;
        (self.decoder, self.pending, self.out, self.is_lost) = (decoder, pending, out, false);
        let State::Exec(process) = &mut self.state else { return Ok(()) };
        let attached = match state {
            State::Attaching(Some(_)) => process.adopt(scratch),
            _ => {
                let attached = process.attach();
                process.release()?;
                attached
            }
        };
        self.put_json(FrameKind::Control, &Control::Attached(attached));
        Ok(())
    }
}
