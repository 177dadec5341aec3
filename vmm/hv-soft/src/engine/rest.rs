//! The memory of a guest that has become idle: what was decoded for its work is given back.

use std::time::{Duration, Instant};

use super::Engine;
use crate::advise::give_back_free;

/// How long a guest does nothing before its code is forgotten.
const PATIENCE: Duration = Duration::from_secs(2);
/// Guest instructions in that time that are nothing: an idle Linux runs some ten thousand.
const NOTHING: u64 = 1_000_000;
/// Ops from which on it is worth it, 1 MiB: what an idle guest runs stays below.
const WORTH: usize = 1 << 15;

/// Since when a guest does nothing, and the instructions it had run by then.
pub(super) struct Rest {
    since: Instant,
    instructions: u64,
}

impl Rest {
    pub(super) fn new(instructions: u64) -> Self {
        Rest { since: Instant::now(), instructions }
    }
}

impl Engine {
    /// How long to sleep before the next look; forgets the code of a guest that has done nothing for a while.
    pub(super) fn rest(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        if self.code.ops().len() < WORTH {
            return timeout;
        }
        if self.instructions.saturating_sub(self.rest.instructions) > NOTHING {
            self.rest = Rest::new(self.instructions);
        }
        match PATIENCE.checked_sub(self.rest.since.elapsed()).filter(|left| !left.is_zero()) {
            Some(left) => Some(timeout.map_or(left, |timeout| timeout.min(left))),
            None => {
                self.drop_all_code();
                self.code.release(WORTH);
                give_back_free();
                self.rest = Rest::new(self.instructions);
                timeout
            }
        }
    }
}
