//! A trace of the code that ran, for the comparison with another emulator: built in only with the feature `trace`.
//!
//! Records of two little-endian 64-bit words: the addresses of a block's first instruction and after its last one that
//! was begun. Blocks then run one at a time, by the same threaded code as ever.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use crate::code::block::BlockInfo;
use crate::cpu::Cpu;
use crate::mem::OFFSET;
use crate::op::{Op, Stop};

/// Whether every block that runs has to have been decoded here.
pub(crate) const WHOLE: bool = true;

/// Most guest instructions between two returns to the run loop: those of one block.
pub(crate) fn grant(_chunk: i32) -> i32 {
    0
}
/// Names the file or pipe for the records.
const FILE: &str = "SUPERMACHINE_SOFT_TRACE";
/// One conditional jump goes the wrong way once about so many instructions ran: to test who looks for such things.
const BREAK_AFTER: &str = "SUPERMACHINE_SOFT_TRACE_BREAK";
const BUFFER: usize = 1 << 16;

/// What is known of a block.
struct Known {
    end: u64,
    /// Target of the conditional jump at its end.
    conditional: Option<u64>,
}

/// The trace of one vCPU.
pub(crate) struct Trace {
    out: Option<BufWriter<File>>,
    blocks: HashMap<u32, Known>,
    instructions: u64,
    break_after: Option<u64>,
}

impl Trace {
    /// Writes to the file that the environment names, if any.
    pub(crate) fn new() -> Self {
        let out = std::env::var_os(FILE).and_then(|path| match File::options().write(true).open(&path) {
            Ok(file) => Some(BufWriter::with_capacity(BUFFER, file)),
            Err(error) => {
                log::error!("cannot write the trace to {}: {error}", path.display());
                None
            }
        });
        let break_after = std::env::var(BREAK_AFTER).ok().and_then(|n| n.parse().ok());
        Trace { out, blocks: HashMap::new(), instructions: 0, break_after }
    }

    /// Remembers a block decoded from a page's bytes.
    pub(crate) fn decoded(&mut self, number: u32, info: BlockInfo, page: &[u8]) {
        let conditional = conditional(info, page).then_some(info.target);
        self.blocks.insert(number, Known { end: info.end, conditional });
    }

    /// A block that began at `start` ran to its end; `cpu.rip` is where it goes on.
    pub(crate) fn ran(&mut self, cpu: &mut Cpu, number: u32, start: u64) {
        let Some(known) = self.blocks.get(&number) else { return };
        let page = start & !OFFSET;
        let end = page.wrapping_add(known.end);
        self.instructions += 1 + (end.wrapping_sub(start)) / 4;
        if let (Some(target), Some(after)) = (known.conditional, self.break_after)
            && self.instructions >= after
        {
            let (taken, not_taken) = (page.wrapping_add(target), end);
            let right = cpu.rip;
            cpu.rip = if right == taken { not_taken } else { taken };
            self.break_after = None;
            log::warn!("trace: the jump before {end:#x} goes to {:#x} instead of {right:#x}", cpu.rip);
        }
        self.put(start, end);
    }

    /// A block that began at `start` stopped at `op`.
    pub(crate) fn stopped(&mut self, cpu: &Cpu, start: u64, stop: Stop, op: &Op) {
        let at = cpu.op_rip(op);
        match stop {
            // Not begun; what runs it alone says so.
            Stop::Step | Stop::Miss | Stop::Retired if at == start => {}
            Stop::Step | Stop::Miss | Stop::Retired => self.put(start, at),
            _ => self.put(start, at.wrapping_add(1)),
        }
    }

    /// One instruction runs alone.
    pub(crate) fn alone(&mut self, rip: u64) {
        self.put(rip, rip.wrapping_add(1));
    }

    fn put(&mut self, start: u64, end: u64) {
        let Some(out) = &mut self.out else { return };
        let mut record = [0; 16];
        record[..8].copy_from_slice(&start.to_le_bytes());
        record[8..].copy_from_slice(&end.to_le_bytes());
        // The reader has enough once it goes away.
        if out.write_all(&record).is_err() {
            self.out = None;
        }
    }
}

/// Whether the block ends with a conditional jump (`7x` or `0f 8x`).
fn conditional(info: BlockInfo, page: &[u8]) -> bool {
    let back = |n: usize| (info.end as usize).checked_sub(n).and_then(|at| page.get(at..at.checked_add(n)?));
    let leads = |step: i64| info.target == info.end.wrapping_add_signed(step);
    let short = matches!(back(2), Some(&[0x70..=0x7f, step]) if leads(i64::from(step as i8)));
    let near = matches!(back(6), Some(&[0x0f, 0x80..=0x8f, a, b, c, d])
        if leads(i64::from(i32::from_le_bytes([a, b, c, d]))));
    short || near
}
