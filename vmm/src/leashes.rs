//! All conversations on a leash, so that the machine's end can cut them and wait until their clients were told.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::leash::{Cut, Tie};

#[derive(Default)]
struct State {
    next: u64,
    ties: HashMap<u64, Arc<Tie>>,
    over: Option<Cut>,
}

/// See the module.
#[derive(Default)]
pub struct Leashes {
    state: Mutex<State>,
    changed: Condvar,
}

impl Leashes {
    /// Adds one and gives its number; after the machine's end it is cut at once.
    pub fn add(&self, tie: Arc<Tie>) -> u64 {
        let mut state = self.lock();
        if let Some(over) = &state.over {
            tie.cut(over.clone());
        }
        let number = state.next;
        state.next = number.wrapping_add(1);
        state.ties.insert(number, tie);
        number
    }

    /// Forgets one.
    pub fn remove(&self, number: u64) {
        self.lock().ties.remove(&number);
        self.changed.notify_all();
    }

    /// Cuts all, now and later.
    pub fn cut_all(&self, why: &Cut) {
        let mut state = self.lock();
        state.over = Some(why.clone());
        for tie in state.ties.values() {
            tie.cut(why.clone());
        }
    }

    /// Waits until none is left, but not longer than `limit`.
    pub fn wait(&self, limit: Duration) {
        let left = |state: &mut State| !state.ties.is_empty();
        // Whether they are all gone or their time is over comes to the same here.
        let _ = self.changed.wait_timeout_while(self.lock(), limit, left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
