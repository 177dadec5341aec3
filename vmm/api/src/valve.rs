//! A valve in the way of standard input: while it is shut nothing is read, so that nothing can be under way.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    shut: bool,
    over: bool,
    /// Whether bytes are between their reading and their sending.
    passing: bool,
    /// Whether anything ever passed.
    used: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Valve {
    state: Mutex<State>,
    changed: Condvar,
}

/// Bytes may be read and sent while it lives.
pub(crate) struct Passing<'a>(&'a Valve);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.lock().passing = false;
        self.0.changed.notify_all();
    }
}

impl Valve {
    /// Shuts it; `false` if what passes has not passed within `limit`.
    pub fn shut(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.shut = true;
        let waited = self.changed.wait_timeout_while(state, limit, |state| state.passing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.passing
    }

    /// Opens it.
    pub fn open(&self) {
        self.lock().shut = false;
        self.changed.notify_all();
    }

    /// Whether input was ever read, its end included.
    pub fn is_used(&self) -> bool {
        self.lock().used
    }

    /// Nothing will pass any more.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// Waits until it is open; none once nothing is to pass any more.
    pub(crate) fn pass(&self) -> Option<Passing<'_>> {
        let mut state = self.lock();
        while state.shut && !state.over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.passing = !state.over;
        state.used |= state.passing;
        state.passing.then(|| Passing(self))
    }

    /// Nothing panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shut_once_nothing_passes() {
        let valve = Valve::default();
        assert!(!valve.is_used());
        let passing = valve.pass().expect("it is open");
        assert!(valve.is_used());
        assert!(!valve.shut(Duration::from_millis(1)));
        drop(passing);
        assert!(valve.shut(Duration::from_secs(60)));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| valve.pass().is_some());
            valve.open();
            assert!(waits.join().expect("no panic"));
            assert!(valve.shut(Duration::from_secs(60)));
            let ended = scope.spawn(|| valve.pass().is_some());
            valve.end();
            assert!(!ended.join().expect("no panic"));
        });
    }
}
