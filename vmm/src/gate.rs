//! The gate that every vCPU thread passes before it runs guest code: pause, hold, save, resume and stop.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use supermachine_hv::{HvError, Kick, VcpuState};

/// How long a sample may take.
const SAMPLE_LIMIT: Duration = Duration::from_millis(100);

/// What the gate wants of a vCPU's thread that comes by.
pub trait Passer {
    /// Notes the counters.
    fn sample(&self);

    /// Whether nothing of the guest is in flight: it was kicked out, or has not run yet.
    fn at_rest(&self) -> bool;

    /// The vCPU's whole state; asked at rest only.
    ///
    /// # Errors
    /// The back end's.
    fn save(&mut self) -> Result<VcpuState, HvError>;
}

/// The vCPUs' states cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The machine ends, or a vCPU has ended.
    #[error("the machine is about to end")]
    Ending,
    /// A vCPU cannot be saved.
    #[error("vCPU {index}")]
    Vcpu {
        /// Which, in the order in which they came to the gate.
        index: usize,
        /// Why.
        #[source]
        source: HvError,
    },
}

#[derive(Default)]
struct State {
    /// A user wants the vCPUs to wait.
    paused: bool,
    /// How many others want them to wait for a moment.
    holds: usize,
    stop: bool,
    /// Threads inside `pass`, that is, not running guest code.
    waiting: usize,
    /// Threads that will pass the gate at all, and how many there ever were.
    members: usize,
    entered: usize,
    kickers: Vec<Arc<dyn Kick>>,
    /// Number of the last sample that was asked for, and how many threads have taken it.
    sample: u64,
    sampled: usize,
    /// Number of the last save that was asked for, and what it has of each vCPU.
    save: u64,
    saved: Vec<(u32, Result<VcpuState, HvError>)>,
}

impl State {
    fn waits(&self) -> bool {
        (self.paused || self.holds > 0) && !self.stop
    }
}

/// See the module.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// What a thread does after the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Run guest code.
    Run,
    /// End the thread.
    Stop,
}

/// Where a thread stands with the gate's requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    sample: u64,
    save: u64,
}

/// All vCPUs are out for as long as this lives; no one else's resume lets them go.
pub struct Hold(Arc<Gate>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.lock().holds -= 1;
        self.0.changed.notify_all();
    }
}

impl Gate {
    /// Adds a vCPU thread, before it starts.
    pub fn enter(&self, kicker: Arc<dyn Kick>) {
        let mut state = self.lock();
        state.members += 1;
        state.entered += 1;
        state.kickers.push(kicker);
    }

    /// A vCPU thread ends and will not pass again.
    pub fn leave(&self) {
        self.lock().members -= 1;
        self.changed.notify_all();
    }

    /// Called by thread `index` before each run; returns when it may go on. Cheap while nobody wants anything.
    ///
    /// `seen` is the thread's own, in its default at first. A thread that has to wait and is not at rest may go on once
    /// more: its kick is under way.
    pub fn pass(&self, index: u32, seen: &mut Seen, passer: &mut dyn Passer) -> Passage {
        let mut state = self.lock();
        if state.sample != seen.sample {
            passer.sample();
            seen.sample = state.sample;
            state.sampled += 1;
            self.changed.notify_all();
        }
        if state.waits() && passer.at_rest() {
            passer.sample();
            state.waiting += 1;
            self.changed.notify_all();
            while state.waits() {
                if state.save != seen.save {
                    seen.save = state.save;
                    state.saved.push((index, passer.save()));
                    self.changed.notify_all();
                }
                state = self.wait(state);
            }
            state.waiting -= 1;
        }
        if state.stop { Passage::Stop } else { Passage::Run }
    }

    /// Holds all vCPUs until [`resume`](Self::resume); returns when none runs guest code.
    pub fn pause(&self) {
        let mut state = self.lock();
        state.paused = true;
        drop(self.wait_for_all(state));
    }

    /// Lets the vCPUs go on, unless a [`Hold`] keeps them.
    pub fn resume(&self) {
        self.lock().paused = false;
        self.changed.notify_all();
    }

    /// Holds all vCPUs while the value lives; returns when none runs guest code and nothing of one is in flight.
    pub fn hold(self: &Arc<Self>) -> Hold {
        let mut state = self.lock();
        state.holds += 1;
        drop(self.wait_for_all(state));
        Hold(self.clone())
    }

    /// Whether vCPUs would have to wait now.
    pub fn is_shut(&self) -> bool {
        self.lock().waits()
    }

    fn wait_for_all<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        kick_all(&state);
        while state.waits() && state.waiting < state.members {
            state = self.wait(state);
        }
        state
    }

    /// The states of all vCPUs in order, each saved by its own thread.
    ///
    /// # Errors
    /// A vCPU's, or the machine is not whole any more.
    pub fn save(&self, _: &Hold) -> Result<Vec<VcpuState>, GateError> {
        let mut state = self.lock();
        state.save += 1;
        state.saved.clear();
        self.changed.notify_all();
        while state.saved.len() < state.members && !state.stop {
            state = self.wait(state);
        }
        if state.stop || state.saved.len() < state.entered {
            return Err(GateError::Ending);
        }
        let mut saved = std::mem::take(&mut state.saved);
        drop(state);
        saved.sort_by_key(|(index, _)| *index);
        let saved = saved.into_iter().enumerate();
        saved.map(|(index, (_, state))| state.map_err(|source| GateError::Vcpu { index, source })).collect()
    }

    /// Ends all vCPU threads; returns when none is left.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        kick_all(&state);
        self.changed.notify_all();
        while state.members > 0 {
            state = self.wait(state);
        }
    }

    /// Has every vCPU's counters noted, and waits until they are, if not for long. A waiting one's are.
    pub fn sample(&self) {
        let mut state = self.lock();
        if state.waits() || state.stop {
            return;
        }
        state.sample += 1;
        state.sampled = 0;
        kick_all(&state);
        let waiting = |state: &mut State| !state.waits() && !state.stop && state.sampled < state.members;
        // A vCPU whose thread the host does not run keeps the counters it has.
        let _ = self.changed.wait_timeout_while(state, SAMPLE_LIMIT, waiting);
    }

    /// Whether a pause holds the vCPUs.
    pub fn is_paused(&self) -> bool {
        let state = self.lock();
        state.paused && !state.stop
    }

    /// No code panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

fn kick_all(state: &State) {
    for kicker in &state.kickers {
        kicker.kick();
    }
}

#[cfg(test)]
mod tests;
