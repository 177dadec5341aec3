//! A block's header: an entry of the op arena right before the block's ops, so that both are fetched together.

use crate::code::NO_BLOCK;
use crate::op::{Handler, Op};

/// What a block is made of, before it has a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockInfo {
    /// Number of guest instructions (fused ops count twice).
    pub(crate) instructions: u32,
    /// Offset of the first instruction in the page.
    pub(crate) start: u64,
    /// Offset in the page after the last instruction.
    pub(crate) end: u64,
    /// Target of the direct branch at the end, relative to the page.
    pub(crate) target: u64,
}

/// View of an arena entry as a header. The fields are those of an op with other meanings: `imm` target, `disp` and
/// `aux` links, `dst` number of ops, `src` number of instructions (0 once forgotten), `place` start, `base` and
/// `index` end.
#[derive(Clone, Copy)]
pub(crate) struct Header<'a>(pub(crate) &'a Op);

impl Header<'_> {
    /// The entry for a block of `count` ops. `handler` is never called.
    pub(crate) fn entry(info: BlockInfo, count: usize, handler: Handler) -> Op {
        let mut op = Op::new(handler, info.start as u16, 0);
        let [low, high] = (info.end as u16).to_le_bytes();
        op.imm = info.target;
        (op.disp, op.aux) = (NO_BLOCK as i32, NO_BLOCK);
        (op.dst, op.src) = (count as u8, info.instructions as u8);
        (op.base, op.index) = (low, high);
        op
    }

    #[inline(always)]
    pub(crate) fn count(self) -> usize {
        usize::from(self.0.dst)
    }

    /// Guest instructions; 0 once the block is forgotten.
    #[inline(always)]
    pub(crate) fn instructions(self) -> u32 {
        u32::from(self.0.src)
    }

    /// Offset of the first instruction in the page.
    #[inline(always)]
    pub(crate) fn start(self) -> u64 {
        self.0.offset()
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

/// Sets a link of a header.
pub(crate) fn set_link(header: &mut Op, taken: bool, target: u32) {
    if taken {
        header.aux = target;
    } else {
        header.disp = target as i32;
    }
}

/// Marks a header as forgotten.
pub(crate) fn forget(header: &mut Op) {
    header.src = 0;
}
