//! A block's end: an entry of the op arena right after the block's ops, so that both are fetched together.

use crate::code::NO_BLOCK;
use crate::code::thread;
use crate::mem::PAGE;
use crate::op::Op;

/// What a block is made of, before it has a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockInfo {
    /// Number of guest instructions (fused ops count twice).
    pub(crate) instructions: u32,
    /// Offset in the page after the last instruction.
    pub(crate) end: u64,
    /// Target of the direct branch at the end, relative to the page; see [`near`].
    pub(crate) target: u64,
}

/// Set in links to other pages, so that none is taken for one of the same page.
pub(crate) const FAR: u32 = 1 << 31;
/// Stands for a link to another page that is not to be made.
pub(crate) const NEVER: u32 = NO_BLOCK - 1;

/// Whether a key fits a block's end.
#[inline(always)]
pub(crate) fn keyed(key: u64) -> bool {
    i32::try_from(key as i64).is_ok()
}

/// Whether a target is near enough to be that of a block.
pub(crate) fn near(target: u64) -> bool {
    i32::try_from(target as i64).is_ok()
}

/// View of an arena entry as a block's end. The fields are those of an op with other meanings: `imm` target and key of
/// the far links, `disp` and `aux` links, `src` number of instructions, `base` and `index` end.
#[derive(Clone, Copy)]
pub(crate) struct End<'a>(pub(crate) &'a Op);

impl End<'_> {
    /// The entry for a block.
    pub(crate) fn entry(info: BlockInfo) -> Op {
        let mut op = Op::new(thread::end, 0, 0);
        let [low, high] = (info.end as u16).to_le_bytes();
        op.imm = u64::from(info.target as u32);
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
        if taken {
            i64::from(self.0.imm as i32) as u64
        } else {
            u64::from(u16::from_le_bytes([self.0.base, self.0.index]))
        }
    }

    /// The block of the same page at that place, once known; with [`FAR`] the block of another page, where the key
    /// holds.
    #[inline(always)]
    pub(crate) fn link(self, taken: bool) -> u32 {
        if taken { self.0.aux } else { self.0.disp as u32 }
    }

    /// Whether the links to other pages were made under this key.
    #[inline(always)]
    pub(crate) fn holds(self, key: u64) -> bool {
        (self.0.imm as i64 >> 32) as u64 == key
    }
}

/// Sets a link of a block's end to a block of another page, or to [`NEVER`]. Links to other pages that were made under
/// another key are dropped.
pub(crate) fn set_far_link(end: &mut Op, taken: bool, target: u32, key: u64) {
    if !keyed(key) {
        return;
    }
    if !End(end).holds(key) {
        for other in [false, true] {
            if End(end).next(other) >= PAGE {
                set_link(end, other, NO_BLOCK);
            }
        }
        end.imm = end.imm & u64::from(u32::MAX) | key << 32;
    }
    set_link(end, taken, target | FAR);
}

/// Sets a link of a block's end.
pub(crate) fn set_link(end: &mut Op, taken: bool, target: u32) {
    if taken {
        end.aux = target;
    } else {
        end.disp = target as i32;
    }
}
