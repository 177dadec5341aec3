//! Where things are in the address space that the native child and the model share.
//!
//! ```text
//! 0x1000_0000  6 code pages, read and execute, then nothing
//!              4 pages of 64-byte slots · landing pointers · a page boundary to straddle · a last byte before nothing
//! 0x2000_0000  2 pages read and write, 1 page read only; nothing on either side; never executable
//! ```

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Linear address of the code.
pub const CODE_BASE: u64 = 0x1000_0000;
/// Bytes of code.
pub const CODE_LEN: usize = 6 * PAGE;
/// Linear address of the data window.
pub const WINDOW_BASE: u64 = 0x2000_0000;
/// Bytes of the window that may be written.
pub const WINDOW_RW_LEN: usize = 2 * PAGE;
/// Bytes of the whole window; what follows the writable part may only be read.
pub const WINDOW_LEN: usize = 3 * PAGE;
/// Base of FS while an instruction runs.
pub const FS_BASE: u64 = 0x0123_4560;
/// Base of GS while an instruction runs: above the window, so that effective addresses wrap.
pub const GS_BASE: u64 = 0x7ffe_0000_0010;
/// Selectors as a 64-bit Linux process has them.
pub const CS_SELECTOR: u16 = 0x33;
/// Stack selector of a 64-bit Linux process.
pub const SS_SELECTOR: u16 = 0x2b;

/// Most instructions in a batch.
pub const BATCH: usize = 256;
/// Bytes of code per instruction.
pub const SLOT: usize = 64;
/// Offset of the three landing pointers: before, behind and right after the instruction.
pub const POINTERS: usize = BATCH * SLOT;
/// Offset of the boundary between two code pages, both present.
pub const STRADDLE: usize = 5 * PAGE;
/// Bytes of a landing: a jump through a pointer.
pub const LANDING: usize = 6;
/// Fills unused code.
pub const INT3: u8 = 0xcc;

/// Which landing was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Landing {
    /// The one at a lower address than the instruction.
    Back = 0,
    /// The one at a higher address.
    Forward = 1,
    /// The one that follows the instruction.
    Next = 2,
}

/// Where an instruction sits, and the two places its branches may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Address of the first byte.
    pub start: u64,
    /// A landing below.
    pub back: u64,
    /// A landing above.
    pub forward: u64,
}

/// Whether an instruction touches the end of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In slot `index` of the batch, well inside a page.
    Slot(usize),
    /// `head` bytes before a page boundary, the rest after it.
    Straddle {
        /// Bytes on the first page.
        head: usize,
    },
    /// `head` bytes before the end of all code.
    Tail {
        /// Bytes that can be fetched.
        head: usize,
    },
}

impl Place {
    /// Addresses of this place.
    pub fn site(self) -> Site {
        let (start, back, forward) = match self {
            Place::Slot(index) => (index * SLOT + 16, index * SLOT, index * SLOT + 48),
            Place::Straddle { head } => (STRADDLE - head, STRADDLE - 0x40, STRADDLE + 0x30),
            Place::Tail { head } => (CODE_LEN - head, CODE_LEN - 0x40, CODE_LEN - 0x30),
        };
        let at = |offset: usize| CODE_BASE + offset as u64;
        Site { start: at(start), back: at(back), forward: at(forward) }
    }

    /// Writes the instruction and its landings into `code`, the image of the code pages.
    pub fn write(self, code: &mut [u8], bytes: &[u8]) {
        let site = self.site();
        let offset = |address: u64| (address - CODE_BASE) as usize;
        let start = offset(site.start);
        let clear = offset(site.back.min(site.forward));
        let clear_end =
            (clear + 2 * SLOT).min(code.len()).min(if clear < POINTERS { clear + SLOT } else { usize::MAX });
        code[clear..clear_end].fill(INT3);
        put_landing(code, offset(site.back), Landing::Back);
        put_landing(code, offset(site.forward), Landing::Forward);
        let fits = bytes.len().min(code.len() - start);
        code[start..start + fits].copy_from_slice(&bytes[..fits]);
        put_landing(code, start + bytes.len(), Landing::Next);
    }
}

fn put_landing(code: &mut [u8], at: usize, landing: Landing) {
    let Some(place) = code.get_mut(at..at + LANDING) else { return };
    let pointer = POINTERS + 8 * landing as usize;
    let displacement = (pointer as i64 - (at + LANDING) as i64) as i32;
    place[..2].copy_from_slice(&[0xff, 0x25]); // jmp qword ptr [rip + displacement]
    place[2..].copy_from_slice(&displacement.to_le_bytes());
}
