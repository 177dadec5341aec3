//! A client's hold on the guest: a conversation that ends early when the client goes away, when its time is over, or
//! when the machine ends. So no request hangs for ever, and none outlives who asked.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::agent::{Agent, AgentError, Link};
use crate::life::Lifecycle;

/// How long the agent may take to answer a call at all.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Why a conversation was cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// Nobody waits for the answer any more.
    #[error("the client has gone")]
    ClientGone,
    /// The guest took too long.
    #[error("the guest does not answer")]
    TooSlow,
    /// The machine is over.
    #[error("{reason}")]
    MachineOver {
        /// In a line.
        reason: String,
    },
}

#[derive(Default)]
struct State {
    cut: Option<Cut>,
    deadline: Option<Instant>,
    /// The connection to the agent that a cut ends.
    link: Option<UnixStream>,
}

/// What the leash shares with its guard, and with the machine's end.
#[derive(Default)]
pub struct Tie(Mutex<State>);

impl Tie {
    /// Cuts the conversation. The first cut counts.
    pub fn cut(&self, why: Cut) {
        let mut state = self.lock();
        state.cut.get_or_insert(why);
        if let Some(link) = &state.link {
            // It may be over already.
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    /// Why the conversation was cut, if it was.
    pub fn why(&self) -> Option<Cut> {
        self.lock().cut.clone()
    }

    fn check(&self) -> Result<(), Cut> {
        self.why().map_or(Ok(()), Err)
    }

    fn left(&self) -> Option<Duration> {
        self.lock().deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Nothing panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Dropping it frees the conversation from all this.
pub struct Leash {
    life: Arc<Lifecycle>,
    tie: Arc<Tie>,
    number: u64,
    /// A byte here tells the guard of another deadline, its end that there is nothing to guard any more.
    guard: UnixStream,
}

impl Leash {
    /// A leash for a conversation on behalf of `client`.
    ///
    /// # Errors
    /// The host has no thread or descriptor to give.
    pub fn new(life: &Arc<Lifecycle>, client: &UnixStream) -> io::Result<Self> {
        let tie = Arc::<Tie>::default();
        let (ours, theirs) = UnixStream::pair()?;
        let (guarded, client) = ((life.clone(), tie.clone()), client.as_fd().try_clone_to_owned()?);
        let guard = move || guard(&guarded.0, &guarded.1, &client, theirs);
        thread::Builder::new().name("guard".into()).spawn(guard)?;
        let number = life.leashes().add(tie.clone());
        Ok(Self { life: life.clone(), tie, number, guard: ours })
    }

    /// Cuts the conversation when `limit` is over; none takes an earlier limit back.
    pub fn limit(&self, limit: Option<Duration>) {
        self.tie.lock().deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        // The guard reads all it is sent; if it has gone, everything is cut already.
        let _ = (&self.guard).write_all(&[0]);
    }

    /// Calls the agent: waits for the boot as long as it takes, then a few seconds for the hello. The limit for what
    /// is asked next is the caller's to set.
    ///
    /// # Errors
    /// The conversation was cut, or failed by itself.
    pub fn call(&self) -> Result<Link, AgentError> {
        let agent = self.agent()?;
        if let Some(link) = agent.kept() {
            self.tie.lock().link = Some(link.writer.get_ref().try_clone()?);
            self.tie.check()?;
            return Ok(link);
        }
        self.limit(Some(CALL_LIMIT));
        let socket = agent.dial()?;
        self.tie.lock().link = Some(socket.try_clone()?);
        self.tie.check()?;
        let link = self.explain(Agent::greet(socket))?;
        self.limit(None);
        Ok(link)
    }

    /// A failure of the conversation, put down to the cut where there was one.
    ///
    /// # Errors
    /// `result`'s, or the cut.
    pub fn explain<T, E: Into<AgentError>>(&self, result: Result<T, E>) -> Result<T, AgentError> {
        result.map_err(|error| self.why().map_or_else(|| error.into(), AgentError::Cut))
    }

    /// Why the conversation was cut, if it was.
    pub fn why(&self) -> Option<Cut> {
        self.tie.why()
    }

    /// Lets the connection to the agent live on without this leash.
    pub fn release(&self) {
        self.tie.lock().link = None;
        self.limit(None);
    }

    /// The agent, once the guest is up.
    fn agent(&self) -> Result<&Agent, Cut> {
        self.life.agent_unless(|| self.tie.check())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.life.leashes().remove(self.number);
    }
}

/// Waits for the first reason to cut.
fn guard(life: &Lifecycle, tie: &Tie, client: &OwnedFd, mut wake: UnixStream) {
    let why = loop {
        let timeout = tie.left().map_or(PollTimeout::NONE, |left| {
            // Rounded up, so that no time is spent on waking up just too early.
            PollTimeout::try_from(left.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
        });
        // Of the client only its end is awaited, which poll tells unasked.
        let mut fds = [PollFd::new(wake.as_fd(), PollFlags::POLLIN), PollFd::new(client.as_fd(), PollFlags::empty())];
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let [woken, gone] = fds.map(|fd| fd.any() != Some(false));
        if woken && wake.read(&mut [0; 16]).map_or(true, |count| count == 0) {
            return;
        }
        if gone {
            break Cut::ClientGone;
        }
        if tie.left() == Some(Duration::ZERO) {
            break Cut::TooSlow;
        }
    };
    tie.cut(why);
    life.wake();
    // Until the leash is dropped there may be nothing more to do, and its writes must find somebody.
    while wake.read(&mut [0; 16]).is_ok_and(|count| count > 0) {}
}
