//! A block's end: an entry of the op arena right after the block's ops, so that both are fetched together.

use crate::code::NO_BLOCK;
use crate::code::thread;
use crate::op::Op;

/// What a block is made of, before it has a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockInfo {
    /// Number of guest instructions (fused ops count twice).
    pub(crate) instructions: u32,
    /// Offset in the page after the last instruction.
    pub(crate) end: u64,
    /// Target of the direct branch at the end, relative to the page.
    pub(crate) target: u64,
}

/// View of an arena entry as a block's end. The fields are those of an op with other meanings: `imm` target, `disp`
/// and `aux` links, `src` number of instructions, `base` and `index` end.
#[derive(Clone, Copy)]
pub(crate) struct End<'a>(pub(crate) &'a Op);

impl End<'_> {
    /// The entry for a block.
    pub(crate) fn entry(info: BlockInfo) -> Op {
        let mut op = Op::new(thread::end, 0, 0);
        let [low, high] = (info.end as u16).to_le_bytes();
        op.imm = info.target;
        (op.disp, op.aux) = (NO_BLOCK as i32, NO_BLOCK);
        op.src = info.instructions as u8;
        (op.base, op.index) = (low, high);
        op
    }

    /// Guest instructions.
    #[inline(always)]
    pub(crate) fn instructions(self) -> i32 {
        i32::from(self.0.src)
    }

    /// Where execution goes on, relative to the page: after the last op, or when the direct branch is taken.
    #[inline(always)]
    pub(crate) fn next(self, taken: bool) -> u64 {
        if taken { self.0.imm } else { u64::from(u16::from_le_bytes([self.0.base, self.0.index])) }
    }

    /// The block of the same page at that place, once known.
    #[inline(always)]
    pub(crate) fn link(self, taken: bool) -> u32 {
        if taken { self.0.aux } else { self.0.disp as u32 }
    }
}

/// Sets a link of a block's end.
pub(crate) fn set_link(end: &mut Op, taken: bool, target: u32) {
    if taken {
        end.aux = target;
    } else {
        end.disp = target as i32;
    }
}
