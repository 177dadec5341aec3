//! The gate that every vCPU thread passes before it runs guest code: pause, resume and stop.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use supermachine_hv::Kick;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Run,
    Pause,
    Stop,
}

struct State {
    want: Want,
    /// Threads inside `pass`, that is, not running guest code.
    waiting: usize,
    /// Threads that will pass the gate at all.
    members: usize,
    kickers: Vec<Arc<dyn Kick>>,
}

/// See the module.
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

impl Default for Gate {
    fn default() -> Self {
        let state = State { want: Want::Run, waiting: 0, members: 0, kickers: Vec::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Gate {
    /// Adds a vCPU thread, before it starts.
    pub fn enter(&self, kicker: Arc<dyn Kick>) {
        let mut state = self.lock();
        state.members += 1;
        state.kickers.push(kicker);
    }

    /// A vCPU thread ends and will not pass again.
    pub fn leave(&self) {
        self.lock().members -= 1;
        self.changed.notify_all();
    }

    /// Called by a vCPU thread before each run; returns when it may go on. Cheap while nobody wants a pause.
    pub fn pass(&self) -> Passage {
        let mut state = self.lock();
        if state.want == Want::Pause {
            state.waiting += 1;
            self.changed.notify_all();
            while state.want == Want::Pause {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.waiting -= 1;
        }
        if state.want == Want::Stop { Passage::Stop } else { Passage::Run }
    }

    /// Holds all vCPUs; returns when none runs guest code.
    pub fn pause(&self) {
        let mut state = self.lock();
        if state.want == Want::Stop {
            return;
        }
        state.want = Want::Pause;
        kick_all(&state);
        while state.want == Want::Pause && state.waiting < state.members {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the vCPUs go on.
    pub fn resume(&self) {
        let mut state = self.lock();
        if state.want == Want::Pause {
            state.want = Want::Run;
        }
        self.changed.notify_all();
    }

    /// Ends all vCPU threads; returns when none is left.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.want = Want::Stop;
        kick_all(&state);
        self.changed.notify_all();
        while state.members > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Brings every vCPU out of guest code once.
    pub fn kick(&self) {
        kick_all(&self.lock());
    }

    /// Whether a pause holds the vCPUs.
    pub fn is_paused(&self) -> bool {
        self.lock().want == Want::Pause
    }

    /// No code panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kick_all(state: &State) {
    for kicker in &state.kickers {
        kicker.kick();
    }
}
