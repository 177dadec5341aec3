//! How much of a stream its sender may still send: spent by one thread, granted by another.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::spec::WINDOW;

#[derive(Debug)]
struct State {
    bytes: u32,
    closed: bool,
}

/// The sender's side of a stream's window. It starts with [`WINDOW`] bytes.
#[derive(Debug)]
pub struct Credit {
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for Credit {
    fn default() -> Self {
        Self::new(WINDOW)
    }
}

impl Credit {
    /// The sender's side of a window of which so many bytes are left.
    pub fn new(bytes: u32) -> Self {
        Self { state: Mutex::new(State { bytes: bytes.min(WINDOW), closed: false }), changed: Condvar::new() }
    }

    /// Waits until something may be sent and gives how many bytes, at most `max`, which must not be 0; they count as
    /// sent. `None` once the reader wants no more.
    pub fn spend(&self, max: usize) -> Option<usize> {
        let mut state = self.lock();
        while state.bytes == 0 && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        let bytes = state.bytes.min(u32::try_from(max).unwrap_or(u32::MAX));
        state.bytes = state.bytes.saturating_sub(bytes);
        usize::try_from(bytes).ok()
    }

    /// The reader takes `bytes` more. What goes beyond the window is a peer's mistake and is cut off.
    pub fn grant(&self, bytes: u32) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_add(bytes).min(WINDOW);
        self.changed.notify_all();
    }

    /// The reader wants no more, or the connection is over.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
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
    fn spending_waits_for_a_grant_and_ends_with_a_close() {
        let credit = Credit::default();
        assert_eq!(credit.spend(usize::MAX), Some(WINDOW as usize));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (credit.spend(10), credit.spend(10)));
            credit.grant(4);
            credit.close();
            let (first, second) = waiting.join().expect("no panic");
            assert!(matches!(first, Some(4) | None), "{first:?}");
            assert_eq!(second, None);
        });
    }

    #[test]
    fn a_grant_never_exceeds_the_window() {
        let credit = Credit::default();
        credit.grant(u32::MAX);
        assert_eq!(credit.spend(usize::MAX), Some(WINDOW as usize));
    }
}
