//! Which functions are being called, guessed from where blocks begin.

use std::collections::HashSet;

/// Functions deeper than this are forgotten.
const DEPTH: usize = 64;

/// The guess: a block at a function's first instruction is a call (or a jump that stands for one), a block inside
/// another function that is being called is the return to it.
#[derive(Debug, Default)]
pub struct Calls {
    starts: Vec<u64>,
    thunks: HashSet<u64>,
    stack: Vec<u64>,
    /// The function of the last block, and its end.
    current: (u64, u64),
}

impl Calls {
    /// With the sorted addresses of all functions, and those of functions through which others call and return.
    pub fn new(starts: Vec<u64>, thunks: HashSet<u64>) -> Self {
        Calls { starts, thunks, ..Self::default() }
    }

    /// Takes note of a block that begins here.
    pub fn at(&mut self, pc: u64) {
        let (start, end) = self.current;
        if start < pc && pc < end {
            return;
        }
        let after = self.starts.partition_point(|&at| at <= pc);
        let Some(&start) = after.checked_sub(1).and_then(|n| self.starts.get(n)) else { return };
        if self.thunks.contains(&start) {
            return;
        }
        self.current = (start, self.starts.get(after).copied().unwrap_or(u64::MAX));
        if pc != start {
            match self.stack.iter().rposition(|&at| at == start) {
                Some(n) => self.stack.truncate(n),
                None => self.stack.clear(),
            }
        }
        if self.stack.len() == DEPTH {
            self.stack.remove(0);
        }
        self.stack.push(start);
    }

    /// The functions, the innermost first.
    pub fn stack(&self) -> Vec<u64> {
        self.stack.iter().rev().copied().collect()
    }
}
