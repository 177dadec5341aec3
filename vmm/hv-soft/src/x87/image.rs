//! Memory images: FSTENV, FSAVE, FXSAVE (Intel SDM vol. 1, sections 8.1.10 and 10.5).

use super::{CW_RESET, F80, Fpu};
use crate::simd::fp::Class;
use crate::simd::mxcsr::MXCSR_MASK;

/// Bytes of an FXSAVE image.
pub(crate) const FXSAVE_BYTES: usize = 512;
/// Bytes of it that FXSAVE writes.
pub(crate) const FXSAVE_WRITTEN: usize = 416;
/// Bytes of an environment with 32-bit operand size; 14 with 16-bit.
pub(crate) const ENV32_BYTES: usize = 28;
/// Bytes of an environment with 16-bit operand size.
pub(crate) const ENV16_BYTES: usize = 14;

/// An image of the longest kind (FSAVE with 32-bit operand size) and how much of it is used.
pub(crate) struct Image {
    pub(crate) bytes: [u8; 108],
    pub(crate) len: usize,
}

impl Fpu {
    /// The full tag word: two bits for each physical register.
    pub(crate) fn tags(&self) -> u16 {
        (0..8).fold(0, |tags, n| tags | self.tag(n) << (2 * n))
    }

    fn tag(&self, n: usize) -> u16 {
        if self.valid >> n & 1 == 0 {
            return 3;
        }
        match self.regs[n].unpack().class {
            Class::Normal => 0,
            Class::Zero => 1,
            _ => 2,
        }
    }

    /// Which registers a full tag word says are in use.
    pub(crate) fn set_tags(&mut self, tags: u16) {
        self.valid = (0..8).fold(0, |v, n| v | u8::from(tags >> (2 * n) & 3 != 3) << n);
    }

    /// FNSTENV's image in the protected-mode layout, `wide` for 32-bit operand size.
    pub(crate) fn environment(&self, wide: bool) -> Image {
        let mut bytes = [0; 108];
        let words = [self.cw, self.status(), self.tags()];
        if !wide {
            let rest = [self.fip as u16, 0, self.fdp as u16, 0];
            for (slot, v) in bytes.chunks_exact_mut(2).zip(words.into_iter().chain(rest)) {
                slot.copy_from_slice(&v.to_le_bytes());
            }
            return Image { bytes, len: ENV16_BYTES };
        }
        let high = 0xffff_0000u32;
        let head = words.map(|w| high | u32::from(w));
        let rest = [self.fip as u32, u32::from(self.fop & 0x7ff) << 16, self.fdp as u32, high];
        for (slot, v) in bytes.chunks_exact_mut(4).zip(head.into_iter().chain(rest)) {
            slot.copy_from_slice(&v.to_le_bytes());
        }
        Image { bytes, len: ENV32_BYTES }
    }

    /// FLDENV.
    pub(crate) fn set_environment(&mut self, b: &[u8; ENV32_BYTES], wide: bool) {
        let word = |n: usize| {
            let at = if wide { 4 * n } else { 2 * n };
            u16::from_le_bytes([b[at], b[at + 1]])
        };
        let pointer = |n: usize| match wide {
            true => u64::from(word(n)) | u64::from(u16::from_le_bytes([b[4 * n + 2], b[4 * n + 3]])) << 16,
            false => u64::from(word(n)),
        };
        self.set_control(word(0));
        self.set_status(word(1));
        self.set_tags(word(2));
        self.fip = pointer(3);
        self.fop = if wide { (pointer(4) >> 16) as u16 & 0x7ff } else { 0 };
        self.fdp = pointer(5);
    }

    /// FNSAVE's image; FNINIT follows.
    pub(crate) fn save(&self, wide: bool) -> Image {
        let mut image = self.environment(wide);
        for i in 0..8 {
            let at = image.len + 10 * i;
            image.bytes[at..at + 10].copy_from_slice(&self.st(i).to_bytes());
        }
        image.len += 80;
        image
    }

    /// The registers of FRSTOR's image, after its environment.
    pub(crate) fn set_registers(&mut self, b: &[u8; 80]) {
        for (i, chunk) in b.chunks_exact(10).enumerate() {
            let mut reg = [0; 10];
            reg.copy_from_slice(chunk);
            let n = self.physical(i);
            self.regs[n] = F80::from_bytes(reg);
        }
    }

    /// The x87 part of FXSAVE with 64-bit pointers (`wide`) or offsets and selectors: bytes 0–31 and 32–159.
    pub(crate) fn fxsave(&self, wide: bool) -> [u8; 160] {
        let mut b = [0; 160];
        b[0..2].copy_from_slice(&self.cw.to_le_bytes());
        b[2..4].copy_from_slice(&self.status().to_le_bytes());
        b[4] = self.valid;
        b[6..8].copy_from_slice(&(self.fop & 0x7ff).to_le_bytes());
        let pointers = if wide { [self.fip, self.fdp] } else { [self.fip, self.fdp].map(|p| p & 0xffff_ffff) };
        b[8..16].copy_from_slice(&pointers[0].to_le_bytes());
        b[16..24].copy_from_slice(&pointers[1].to_le_bytes());
        for i in 0..8 {
            let at = 32 + 16 * i;
            b[at..at + 10].copy_from_slice(&self.st(i).to_bytes());
        }
        b
    }

    /// Takes the x87 part of an FXSAVE image.
    pub(crate) fn fxrstor(&mut self, b: &[u8; 160], wide: bool) {
        let word = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
        let quad = |at: usize| (0..8).fold(0, |v, i| v | u64::from(b[at + i]) << (8 * i));
        self.set_control(word(0));
        self.set_status(word(2));
        self.valid = b[4];
        self.fop = word(6) & 0x7ff;
        let mask = if wide { u64::MAX } else { 0xffff_ffff };
        self.fip = quad(8) & mask;
        self.fdp = quad(16) & mask;
        for i in 0..8 {
            let at = 32 + 16 * i;
            let mut reg = [0; 10];
            reg.copy_from_slice(&b[at..at + 10]);
            let n = self.physical(i);
            self.regs[n] = F80::from_bytes(reg);
        }
    }
}

/// A whole FXSAVE64 image, what is not defined zero.
pub(crate) fn fxsave_image(fpu: &Fpu, mxcsr: u32, xmm: &[u128; 16]) -> [u8; FXSAVE_BYTES] {
    let mut b = [0; FXSAVE_BYTES];
    b[..160].copy_from_slice(&fpu.fxsave(true));
    b[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    b[28..32].copy_from_slice(&MXCSR_MASK.to_le_bytes());
    for (slot, x) in b[160..FXSAVE_WRITTEN].chunks_exact_mut(16).zip(xmm) {
        slot.copy_from_slice(&x.to_le_bytes());
    }
    b
}

/// Takes a whole FXSAVE64 image; `None` where MXCSR has bits that do not exist.
pub(crate) fn fxrstor_image(b: &[u8; FXSAVE_BYTES]) -> Option<(Fpu, u32, [u128; 16])> {
    let mxcsr = image_mxcsr(b);
    if mxcsr & !MXCSR_MASK != 0 {
        return None;
    }
    let mut fpu = Fpu { cw: CW_RESET, ..Fpu::default() };
    let mut head = [0; 160];
    head.copy_from_slice(&b[..160]);
    fpu.fxrstor(&head, true);
    Some((fpu, mxcsr, image_xmm(b)))
}

/// MXCSR of an FXSAVE image.
pub(crate) fn image_mxcsr(b: &[u8; FXSAVE_BYTES]) -> u32 {
    u32::from_le_bytes([b[24], b[25], b[26], b[27]])
}

/// The SSE registers of an FXSAVE image.
pub(crate) fn image_xmm(b: &[u8; FXSAVE_BYTES]) -> [u128; 16] {
    core::array::from_fn(|i| {
        let mut x = [0; 16];
        x.copy_from_slice(&b[160 + 16 * i..176 + 16 * i]);
        u128::from_le_bytes(x)
    })
}
