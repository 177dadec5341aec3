//! The thread that serves the guest's file system requests, so that a slow file of the host holds up neither a vCPU nor
//! the event loop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use nix::sys::resource::{Resource, getrlimit};
use supermachine_devices::fs::{Fs, FsBackend, FsWork, FsWorker};
use supermachine_hv::GuestMemory;
use supermachine_share::{Limits, Server, ShareConfig, ShareError};
use vm_memory::VolatileSlice;

use crate::attach::Attached;

/// Why nothing can be shared.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The host.
    #[error("thread for shares")]
    Host(#[from] io::Error),
    /// The server.
    #[error(transparent)]
    Server(#[from] ShareError),
}

#[derive(Debug, Default)]
struct State {
    /// Whether there may be work that the thread has not seen.
    woken: bool,
    /// Whether a request is being served.
    serving: bool,
    /// Requests answered so far.
    answered: u64,
    /// Whether the thread is to end.
    over: bool,
}

/// What the device and the thread tell each other.
#[derive(Debug, Default)]
pub struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for work; `false` when there will be none any more.
    fn wait(&self) -> bool {
        let mut state = self.lock();
        while !state.woken && !state.over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.woken = false;
        !state.over
    }
}

/// The device's end of a [`Bell`].
pub struct Ringer(pub Arc<Bell>);

impl FsWorker for Ringer {
    fn wake(&self) {
        self.0.set(|state| state.woken = true);
    }

    fn settle(&self) {
        let mut state = self.0.lock();
        while state.serving {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A device whose requests are served on a thread of their own. Dropping it ends the thread; that does not wait for a
/// request that is being served.
pub struct Share {
    device: Arc<Attached<Fs>>,
    bell: Arc<Bell>,
    server: Arc<Server>,
    used: AtomicBool,
}

/// The server as the device knows it.
struct Backend(Arc<Server>);

impl FsBackend for Backend {
    fn handle(&self, request: &[VolatileSlice<'_>], reply: &[VolatileSlice<'_>]) -> usize {
        self.0.handle(request, reply)
    }

    fn reset(&self) {
        self.0.reset();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bell.set(|state| state.over = true);
    }
}

impl Share {
    /// Serves the requests of `device`, which rings `bell`; nothing is shared yet.
    ///
    /// # Errors
    /// The host has no thread to give, or the server lacks something.
    pub fn serve(device: Arc<Attached<Fs>>, bell: Arc<Bell>, memory: GuestMemory) -> Result<Self, ServeError> {
        let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from)?;
        let server = Arc::new(Server::new(Vec::new(), Limits::for_descriptors(descriptors))?);
        // The device lives as long as the machine, and the thread must not make it live longer.
        let (theirs, rung, backend) = (Arc::downgrade(&device), bell.clone(), Backend(server.clone()));
        thread::Builder::new().name("shares".into()).spawn(move || run(&theirs, &rung, &memory, &backend))?;
        Ok(Self { device, bell, server, used: AtomicBool::new(false) })
    }

    /// Shares one more directory or file; gives its number.
    ///
    /// # Errors
    /// It cannot be shared.
    pub fn add(&self, config: ShareConfig) -> Result<u32, ShareError> {
        self.used.store(true, Ordering::Relaxed);
        self.server.add(config)
    }

    /// Whether anything is shared.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Waits until every request is answered; for a save, with all vCPUs held.
    pub fn drain(&self) {
        loop {
            let seen = self.bell.lock().answered;
            if self.device.inspect(Fs::is_idle) {
                return;
            }
            let mut state = self.bell.lock();
            while state.answered == seen {
                state = self.bell.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// The device.
    pub fn device(&self) -> &Arc<Attached<Fs>> {
        &self.device
    }
}

fn run(device: &Weak<Attached<Fs>>, bell: &Bell, memory: &GuestMemory, backend: &dyn FsBackend) {
    while bell.wait() {
        while let Some(device) = device.upgrade() {
            // Noted under the device's lock: a reset of the device finds either the request or its service.
            let work = device.quietly(|fs| fs.take_work().inspect(|_| bell.lock().serving = true));
            match work {
                None => break,
                Some(FsWork::Reset) => {
                    backend.reset();
                    bell.set(|state| (state.serving, state.answered) = (false, state.answered.wrapping_add(1)));
                }
                Some(FsWork::Request(request)) => {
                    let done = request.serve(memory, backend);
                    bell.set(|state| state.serving = false);
                    device.host(|fs| fs.complete(done));
                    bell.set(|state| state.answered = state.answered.wrapping_add(1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_wake_before_the_wait_is_not_lost_and_the_end_is_told() {
        let bell = Arc::<Bell>::default();
        let ringer = Ringer(bell.clone());
        ringer.wake();
        ringer.wake();
        assert!(bell.wait(), "there was work");
        let waiting = bell.clone();
        let waiter = thread::spawn(move || waiting.wait());
        bell.set(|state| state.over = true);
        assert!(!waiter.join().expect("no panic"));
    }

    #[test]
    fn a_reset_waits_for_the_request_that_is_being_served() {
        let bell = Arc::<Bell>::default();
        bell.set(|state| state.serving = true);
        let ((settled, seen), ringer) = (channel(), Ringer(bell.clone()));
        let settling = thread::spawn(move || {
            ringer.settle();
            settled.send(()).expect("somebody listens");
        });
        // Other news is no reason to go on.
        bell.set(|state| state.woken = true);
        assert!(seen.try_recv().is_err());
        bell.set(|state| state.serving = false);
        settling.join().expect("no panic");
        seen.recv().expect("it settled");
        Ringer(bell).settle();
    }
}
