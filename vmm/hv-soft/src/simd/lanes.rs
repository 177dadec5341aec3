//! A 128-bit register taken apart into lanes and put together again.

macro_rules! lanes {
    ($($split:ident, $join:ident, $t:ty, $n:literal;)*) => {$(
        /// Splits a register into lanes, lowest first.
        #[inline(always)]
        pub(crate) fn $split(x: u128) -> [$t; $n] {
            const W: usize = size_of::<$t>();
            let b = x.to_le_bytes();
            core::array::from_fn(|i| {
                let mut v = [0u8; W];
                v.copy_from_slice(&b[i * W..i * W + W]);
                <$t>::from_le_bytes(v)
            })
        }

        /// Joins lanes, lowest first.
        #[inline(always)]
        pub(crate) fn $join(v: [$t; $n]) -> u128 {
            const W: usize = size_of::<$t>();
            let mut b = [0u8; 16];
            for (i, x) in v.into_iter().enumerate() {
                b[i * W..i * W + W].copy_from_slice(&x.to_le_bytes());
            }
            u128::from_le_bytes(b)
        }
    )*};
}

lanes! {
    u8s, from_u8s, u8, 16;
    i8s, from_i8s, i8, 16;
    u16s, from_u16s, u16, 8;
    i16s, from_i16s, i16, 8;
    u32s, from_u32s, u32, 4;
    i32s, from_i32s, i32, 4;
    u64s, from_u64s, u64, 2;
    i64s, from_i64s, i64, 2;
}

/// The low 64 bits.
#[inline(always)]
pub(crate) fn lo(x: u128) -> u64 {
    x as u64
}

/// The high 64 bits.
#[inline(always)]
pub(crate) fn hi(x: u128) -> u64 {
    (x >> 64) as u64
}

/// A register from its halves.
#[inline(always)]
pub(crate) fn pair(low: u64, high: u64) -> u128 {
    u128::from(low) | (u128::from(high) << 64)
}
