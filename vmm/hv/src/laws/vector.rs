//! Laws about live vector state: every bit of it is in a save.

use super::machine::{DATA, Rig};
use super::programs::state::{AVX_STATE, SSE_STATE};
use crate::Hypervisor;

/// Bytes that the programs load and store.
const LEN: usize = 256;
/// Where they store them.
const STORED: u64 = DATA + 0x200;

/// Bytes of which no two registers, nor halves of one, are alike.
fn pattern() -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from((at * 7 + at / 16) % 251).unwrap_or(0)).collect()
}

/// All XMM registers and MXCSR, loaded before a freeze, are stored by the copy.
pub fn sse_state_survives_a_freeze(hypervisor: &dyn Hypervisor) {
    const MXCSR: u64 = STORED + 0x180;
    let mut rig = Rig::new(hypervisor, SSE_STATE);
    rig.write(DATA, &pattern());
    rig.to_end();
    let frozen = rig.freeze();
    assert_eq!(rig.read(STORED, LEN), [0; LEN]);
    for mut rig in [frozen.thaw(hypervisor), rig] {
        rig.to_end();
        assert_eq!(rig.read(STORED, LEN), pattern());
        assert_eq!(rig.read(MXCSR, 4), 0x5f80_u32.to_le_bytes());
    }
}

/// The same with YMM registers, whose upper halves only XSAVE holds.
pub fn avx_state_survives_a_freeze(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, AVX_STATE);
    if !rig.enable_avx() {
        return super::skip("avx_state_survives_a_freeze", "the guest's CPU has no AVX");
    }
    rig.write(DATA, &pattern());
    rig.to_end();
    let frozen = rig.freeze();
    for mut rig in [frozen.thaw(hypervisor), rig] {
        rig.to_end();
        assert_eq!(rig.read(STORED, LEN), pattern());
    }
}
