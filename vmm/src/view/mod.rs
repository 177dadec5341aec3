//! The container's files as processes of the host see them that join the vmm's mount namespace, as `podman cp` does.
//!
//! The root of that namespace is a FUSE file system, which whoever starts the vmm has mounted; the vmm's own root is
//! elsewhere, and nothing of the vmm's walks into this one. The session's beginning is answered here at once. All else is
//! asked of the guest, which is called when somebody asks for the first time: [`Relay`].

mod relay;

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use crate::control;
use crate::ending;
use crate::life::Lifecycle;
use relay::Relay;

/// The file system's end in the vmm.
pub struct View(OwnedFd);

impl View {
    /// Takes the descriptor over; to be called before the process opens anything.
    ///
    /// # Errors
    /// It is not open.
    pub fn adopt(number: RawFd) -> io::Result<Self> {
        let device = control::take(number)?;
        fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let flags = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL)?);
        fcntl(&device, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(device))
    }

    /// Begins the session, and serves it on a thread of its own.
    ///
    /// # Errors
    /// The device has no file system mounted, or the host has no thread to give.
    pub fn serve(self, life: &Arc<Lifecycle>) -> io::Result<()> {
        let life = life.clone();
        let dial = move || {
            if !life.container().is_built() {
                return None;
            }
            let agent = life.agent_unless(|| Err(())).ok()?;
            agent.dial().inspect_err(|error| log::warn!("the container's files: {}", ending::chain(error))).ok()
        };
        let mut relay = Relay::new(self.0, dial);
        relay.begin()?;
        let serve = move || {
            let why = relay.run();
            log::debug!("the view of the container's files is over: {why}");
        };
        thread::Builder::new().name("view".into()).spawn(serve).map(drop)
    }
}
