//! Walks along both streams, and finds the place where they meet again after they parted.

use std::collections::{HashMap, VecDeque};

use super::calls::Calls;
use super::streams::{Range, Stream};

/// How hard to look for a place to meet.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Ranges of the soft CPU to look at.
    pub soft_window: usize,
    /// Instructions of QEMU to look at.
    pub qemu_window: usize,
    /// Ranges that must follow each other in both.
    pub run: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { soft_window: 500_000, qemu_window: 4_000_000, run: 24 }
    }
}

/// One place tried per address and direction at most: a loop gives no more.
const TRIES: usize = 8;
/// Instructions remembered.
const HISTORY: usize = 12;

/// Where the two went different ways.
#[derive(Debug, Clone)]
pub struct Parting {
    /// Instructions that both ran before.
    pub after: u64,
    /// The last ones, oldest first.
    pub common: Vec<u64>,
    /// The functions that were being called, as far as one can tell, the innermost first.
    pub calls: Vec<u64>,
    /// What each ran next.
    pub soft: Vec<u64>,
    /// The same of QEMU.
    pub qemu: Vec<u64>,
    /// Where they met again, and how many ranges and instructions later.
    pub met: Option<(u64, usize, usize)>,
}

/// The state of a comparison.
pub struct Walk {
    soft: Stream,
    qemu: Stream,
    limits: Limits,
    /// Instructions that both ran.
    pub common: u64,
    history: VecDeque<u64>,
    calls: Calls,
}

/// What a walk came to.
pub enum Step {
    /// The number of instructions asked for.
    Enough,
    /// One of the traces is at its end.
    End,
    /// A difference.
    Parted(Parting),
}

impl Walk {
    /// A comparison of two streams that both begin at the same instruction.
    pub fn new(soft: Stream, qemu: Stream, limits: Limits, calls: Calls) -> Self {
        Walk { soft, qemu, limits, common: 0, history: VecDeque::new(), calls }
    }

    /// Interrupts left out: of the soft CPU, of QEMU.
    pub fn interrupts(&self) -> (u64, u64) {
        (self.soft.interrupts(), self.qemu.interrupts())
    }

    /// Goes on to the next difference, and behind it if the two meet again.
    pub fn next(&mut self, instructions: u64) -> Step {
        while self.common < instructions {
            let (Some(range), Some(q)) = (self.soft.peek(0), self.qemu.peek(0)) else { return Step::End };
            let Some(n) = self.matches(range, q, 0) else { return Step::Parted(self.part()) };
            self.calls.at(range.start);
            for i in 0..n {
                let pc = self.qemu.peek(i).map_or(0, |q| q.start);
                if self.history.len() == HISTORY {
                    self.history.pop_front();
                }
                self.history.push_back(pc);
            }
            self.soft.skip(1);
            self.qemu.skip(n);
            self.common += n as u64;
        }
        Step::Enough
    }

    /// How many of QEMU's instructions from the `at`th are those of the range; `None` when it does not begin there.
    fn matches(&mut self, range: Range, q: Range, at: usize) -> Option<usize> {
        if range.start != q.start {
            // An instruction that was begun, left for something, and begun again.
            let again = at == 0 && self.history.back() == Some(&range.start);
            return (again && range.end.wrapping_sub(range.start) == 1).then_some(0);
        }
        let mut n = 1;
        let mut last = q.start;
        while let Some(next) = self.qemu.peek(at + n)
            && next.start > last
            && next.start < range.end
        {
            last = next.start;
            n += 1;
        }
        Some(n)
    }

    fn part(&mut self) -> Parting {
        let shown = |stream: &mut Stream| (0..HISTORY).map_while(|i| stream.peek(i)).map(|r| r.start).collect();
        let (soft, qemu) = (shown(&mut self.soft), shown(&mut self.qemu));
        let found = self.meet();
        let met = found.and_then(|(i, j)| Some((self.soft.peek(i)?.start, i, j)));
        if let Some((i, j)) = found {
            self.soft.skip(i);
            self.qemu.skip(j);
        }
        let calls = self.calls.stack();
        Parting { after: self.common, calls, common: self.history.iter().copied().collect(), soft, qemu, met }
    }

    /// The nearest place where both run the same for a while.
    fn meet(&mut self) -> Option<(usize, usize)> {
        let mut window = 256;
        // Near places first: most differences are small, and the whole window is long.
        loop {
            let found = self.meet_within(window.min(self.limits.soft_window), window * 5);
            if found.is_some() || window >= self.limits.soft_window {
                return found;
            }
            window *= 8;
        }
    }

    fn meet_within(&mut self, soft_window: usize, qemu_window: usize) -> Option<(usize, usize)> {
        let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
        for j in 0..qemu_window.min(self.limits.qemu_window) {
            let Some(q) = self.qemu.peek(j) else { break };
            let known = places.entry(q.start).or_default();
            if known.len() < TRIES {
                known.push(j);
            }
        }
        let mut best: Option<(usize, usize, usize)> = None;
        let mut tried: HashMap<u64, usize> = HashMap::new();
        for i in 0..soft_window {
            if best.is_some_and(|(cost, _, _)| 4 * i >= cost) {
                break;
            }
            let Some(range) = self.soft.peek(i) else { break };
            let tries = tried.entry(range.start).or_default();
            *tries += 1;
            if *tries > TRIES {
                continue;
            }
            for &j in places.get(&range.start).map_or(&[][..], Vec::as_slice) {
                let cost = 4 * i + j;
                if best.is_none_or(|(least, _, _)| cost < least) && self.same_run(i, j) {
                    best = Some((cost, i, j));
                }
            }
        }
        best.map(|(_, i, j)| (i, j))
    }

    /// Whether the soft CPU's ranges from the `i`th and QEMU's instructions from the `j`th are the same for a run.
    fn same_run(&mut self, i: usize, mut j: usize) -> bool {
        for step in 0..self.limits.run {
            let (Some(range), Some(q)) = (self.soft.peek(i + step), self.qemu.peek(j)) else { return false };
            if range.start != q.start {
                return false;
            }
            let Some(n) = self.matches(range, q, j) else { return false };
            j += n;
        }
        true
    }
}
