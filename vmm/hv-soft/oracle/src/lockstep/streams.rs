//! The two traces as streams without what interrupts ran: ranges of instructions of the soft CPU, single ones of QEMU.

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, Read};

/// Instructions from `start` to before `end`, without a branch among them but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Address of the first instruction.
    pub start: u64,
    /// Address after the first byte of the last instruction, or later.
    pub end: u64,
}

/// Leaves out the handlers of interrupts, which come when they like. What they interrupt inside is left out with them.
#[derive(Debug, Default, Clone)]
pub struct Interrupts {
    /// First instructions of handlers of interrupts.
    entries: HashSet<u64>,
    /// The same of interrupts and exceptions.
    all: HashSet<u64>,
    /// The IRET that ends them.
    iret: Option<u64>,
    depth: u32,
    /// How many were left out.
    left_out: u64,
}

impl Interrupts {
    /// Handlers of interrupts begin at `entries`, those of interrupts and exceptions at `all`; all end at `iret`.
    pub fn new(entries: HashSet<u64>, all: HashSet<u64>, iret: Option<u64>) -> Self {
        Interrupts { entries, all, iret, depth: 0, left_out: 0 }
    }

    /// Whether these instructions are outside handlers.
    fn outside(&mut self, range: Range) -> bool {
        let handler = if self.depth > 0 { &self.all } else { &self.entries };
        if handler.contains(&range.start) {
            self.left_out += u64::from(self.depth == 0);
            self.depth += 1;
        }
        let outside = self.depth == 0;
        if self.iret.is_some_and(|iret| (range.start..range.end).contains(&iret)) {
            self.depth = self.depth.saturating_sub(1);
        }
        outside
    }
}

/// A source of ranges with a look ahead.
pub struct Stream {
    source: Box<dyn Iterator<Item = Range>>,
    ahead: VecDeque<Range>,
    interrupts: Interrupts,
    /// Taken so far.
    pub taken: u64,
    last: Option<Range>,
}

impl Stream {
    /// A stream over ranges, or over instructions as ranges of length one.
    pub fn new(source: impl Iterator<Item = Range> + 'static, interrupts: Interrupts) -> Self {
        Stream { source: Box::new(source), ahead: VecDeque::new(), interrupts, taken: 0, last: None }
    }

    /// The one that comes after `n` others.
    pub fn peek(&mut self, n: usize) -> Option<Range> {
        while self.ahead.len() <= n {
            let range = self.source.next()?;
            // One instruction again and again: a repeated string instruction, or one that was begun twice.
            let again = self.last == Some(range) && range.end.wrapping_sub(range.start) == 1;
            self.last = Some(range);
            if self.interrupts.outside(range) && !again {
                self.ahead.push_back(range);
            }
        }
        self.ahead.get(n).copied()
    }

    /// Takes `n`.
    pub fn skip(&mut self, n: usize) {
        let n = n.min(self.ahead.len());
        self.ahead.drain(..n);
        self.taken += n as u64;
    }

    /// Interrupts left out so far.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.left_out
    }
}

/// The soft CPU's records, from the first whose start is `from`.
pub fn soft(mut reader: impl Read + 'static, from: u64) -> impl Iterator<Item = Range> {
    let records = std::iter::from_fn(move || {
        let (mut start, mut end) = ([0; 8], [0; 8]);
        reader.read_exact(&mut start).and_then(|()| reader.read_exact(&mut end)).ok()?;
        Some(Range { start: u64::from_le_bytes(start), end: u64::from_le_bytes(end) })
    });
    records.skip_while(move |range| range.start != from)
}

/// QEMU's log of `-d exec,nochain -singlestep`, from the first instruction at `from`.
pub fn qemu(mut reader: impl BufRead + 'static, from: u64) -> impl Iterator<Item = Range> {
    let mut line = Vec::new();
    let mut held: Option<u64> = None;
    let instructions = std::iter::from_fn(move || {
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return held.take();
            }
            if line.starts_with(b"Stopped execution") {
                // It was announced and then not run.
                held = None;
            } else if let Some(pc) = traced(&line)
                && let Some(before) = held.replace(pc)
            {
                return Some(before);
            }
        }
    });
    instructions.skip_while(move |&pc| pc != from).map(|pc| Range { start: pc, end: pc.wrapping_add(1) })
}

/// The address in `Trace 0: 0x7f.. [cs_base/pc/flags/cflags]`.
fn traced(line: &[u8]) -> Option<u64> {
    if !line.starts_with(b"Trace ") {
        return None;
    }
    let open = line.iter().position(|&b| b == b'[')?;
    let digits = line.get(open + 18..open + 34)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
