//! Every function against the host's own instruction, on random and edge operands.
// UNSAFETY: the host's instructions are reached through inline assembly.
#![expect(unsafe_code, reason = "inline assembly is the oracle")]

mod floats;
mod integers;
mod strings;

/// Whether the host is one of Intel's processors.
pub(super) fn intel() -> bool {
    #[allow(unused_unsafe, reason = "safe in newer compilers")]
    // SAFETY: every x86-64 processor has leaf 0.
    let leaf = unsafe { core::arch::x86_64::__cpuid(0) };
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

/// A small fixed-seed generator (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.u64() >> 33) as usize % n
    }

    /// Random bytes, often taken from edge values.
    pub(super) fn bytes(&mut self) -> u128 {
        const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xfe, 0xff, 0x55];
        let mut b = [0u8; 16];
        let mode = self.below(3);
        for x in &mut b {
            let edge = mode == 0 || mode == 1 && self.below(2) == 0;
            *x = if edge { EDGES[self.below(8)] } else { self.u64() as u8 };
        }
        u128::from_le_bytes(b)
    }

    pub(super) fn f32(&mut self) -> u32 {
        const EDGES: [u32; 16] = [
            0,
            1,
            0x7f_ffff,
            0x80_0000,
            0x80_0001,
            0x3f80_0000,
            0x3f80_0001,
            0x3f7f_ffff,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7f80_0001,
            0x7fc0_0000,
            0x7fc0_1234,
            0x4f00_0000,
            0x3f00_0000,
            0x40c0_0000,
        ];
        let sign = (self.u64() as u32) & 0x8000_0000;
        sign ^ match self.below(6) {
            0 | 1 => EDGES[self.below(16)],
            2 => self.u64() as u32 & 0x007f_ffff,
            3 => (self.below(60) as u32 + 100) << 23 | (self.u64() as u32 & 0x7f_ffff),
            4 => (self.below(40) as u32 + 110) << 23 | (self.u64() as u32 & 0x7c_0000),
            _ => self.u64() as u32,
        }
    }

    pub(super) fn f64(&mut self) -> u64 {
        const EDGES: [u64; 18] = [
            0,
            1,
            0xf_ffff_ffff_ffff,
            1 << 52,
            (1 << 52) + 1,
            0x3ff << 52,
            (0x3ff << 52) + 1,
            (0x3ff << 52) - 1,
            (0x7ff << 52) - 1,
            0x7ff << 52,
            (0x7ff << 52) + 1,
            0xfff << 51,
            (0xfff << 51) + 77,
            0x41e << 52,
            0x43e << 52,
            0x41dfffffffc00000,
            0x3fe << 52,
            0x380fffffffffffff,
        ];
        let sign = self.u64() & 1 << 63;
        let fraction = self.u64() & 0xf_ffff_ffff_ffff;
        sign ^ match self.below(7) {
            0 | 1 => EDGES[self.below(18)],
            2 => fraction >> self.below(52),
            3 => (self.below(130) as u64 + 0x3ff - 65) << 52 | fraction,
            4 => (self.below(40) as u64 + 0x3f0) << 52 | fraction & !0xff_ffff_ffff,
            5 => (self.below(300) as u64 + 0x3ff - 150) << 52 | fraction & !0x1fff_ffff,
            _ => self.u64(),
        }
    }

    pub(super) fn ps(&mut self) -> u128 {
        super::lanes::from_u32s(core::array::from_fn(|_| self.f32()))
    }

    pub(super) fn pd(&mut self) -> u128 {
        super::lanes::from_u64s(core::array::from_fn(|_| self.f64()))
    }
}

/// `op xmm0, xmm1 [, imm]` on the host.
macro_rules! host {
    ($op:expr, $a:expr, $b:expr) => {{
        let (mut a, b): (u128, u128) = ($a, $b);
        // SAFETY: the instruction reads and writes the two 16-byte values and clobbered registers alone.
        unsafe {
            core::arch::asm!(
                "movdqu xmm0, [{a}]", "movdqu xmm1, [{b}]", concat!($op, " xmm0, xmm1"), "movdqu [{a}], xmm0",
                a = in(reg) &raw mut a, b = in(reg) &raw const b, out("xmm0") _, out("xmm1") _,
            );
        }
        a
    }};
    ($op:expr, $a:expr, $b:expr, $imm:expr) => {{
        let (mut a, b): (u128, u128) = ($a, $b);
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                "movdqu xmm0, [{a}]", "movdqu xmm1, [{b}]", concat!($op, " xmm0, xmm1, {i}"), "movdqu [{a}], xmm0",
                a = in(reg) &raw mut a, b = in(reg) &raw const b, i = const $imm, out("xmm0") _, out("xmm1") _,
            );
        }
        a
    }};
}

/// `op mm0, mm1 [, imm]` on the host.
macro_rules! host_mmx {
    ($op:expr, $a:expr, $b:expr) => {{
        let (mut a, b): (u64, u64) = ($a, $b);
        // SAFETY: the instruction reads and writes the two values and MMX registers, which EMMS gives back.
        unsafe {
            core::arch::asm!(
                "movq mm0, [{a}]", "movq mm1, [{b}]", concat!($op, " mm0, mm1"), "movq [{a}], mm0", "emms",
                a = in(reg) &raw mut a, b = in(reg) &raw const b, out("mm0") _, out("mm1") _,
            );
        }
        a
    }};
    ($op:expr, $a:expr, $b:expr, $imm:expr) => {{
        let (mut a, b): (u64, u64) = ($a, $b);
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                "movq mm0, [{a}]", "movq mm1, [{b}]", concat!($op, " mm0, mm1, {i}"), "movq [{a}], mm0", "emms",
                a = in(reg) &raw mut a, b = in(reg) &raw const b, i = const $imm, out("mm0") _, out("mm1") _,
            );
        }
        a
    }};
}

/// `op xmm0, xmm1 [, imm]` on the host under an MXCSR: result and MXCSR after.
macro_rules! host_float {
    ($mxcsr:expr, $a:expr, $b:expr, $($op:expr),+ $(; $imm:expr)?) => {{
        let (mut a, b, mut m, quiet): (u128, u128, u32, u32) = ($a, $b, $mxcsr, 0x1f80);
        // SAFETY: only the named values and registers are touched; MXCSR, all masked, is put back.
        unsafe {
            core::arch::asm!(
                "movdqu xmm0, [{a}]", "movdqu xmm1, [{b}]", "ldmxcsr [{m}]", concat!($($op),+),
                "stmxcsr [{m}]", "ldmxcsr [{q}]", "movdqu [{a}], xmm0",
                a = in(reg) &raw mut a, b = in(reg) &raw const b, m = in(reg) &raw mut m, q = in(reg) &raw const quiet,
                $(i = const $imm,)? out("rax") _, out("xmm0") _, out("xmm1") _,
            );
        }
        (a, m)
    }};
}

pub(super) use {host, host_float, host_mmx};
