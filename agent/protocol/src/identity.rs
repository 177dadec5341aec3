//! Who a guest is that was restored from a snapshot: everything in which it must differ from its siblings.

use serde::{Deserialize, Serialize};

/// Fewest random bytes of an identity: what the guest's generator is seeded with must not be guessable.
pub const ENTROPY_MIN: usize = 32;
/// Most random bytes of an identity.
pub const ENTROPY_MAX: usize = 512;
/// Longest generation, bytes.
pub const GENERATION_MAX: usize = 64;

/// An identity, made by the host for one restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// A name that no other restore has: random, never a time. Letters, digits and dashes.
    pub generation: String,
    /// Nanoseconds since 1970 in UTC, when this was sent.
    pub wall_clock_ns: u64,
    /// [`ENTROPY_MIN`] to [`ENTROPY_MAX`] bytes fit for keys.
    pub entropy: Vec<u8>,
}

impl Identity {
    /// Whether all parts are as they should be.
    pub fn is_valid(&self) -> bool {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=GENERATION_MAX).contains(&self.generation.len())
            && self.generation.bytes().all(name)
            && (ENTROPY_MIN..=ENTROPY_MAX).contains(&self.entropy.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_checked() {
        let good = Identity { generation: "0af-3".into(), wall_clock_ns: 1, entropy: vec![7; ENTROPY_MIN] };
        assert!(good.is_valid());
        for generation in [String::new(), "a b".into(), "a/b".into(), "x".repeat(GENERATION_MAX + 1)] {
            assert!(!Identity { generation, ..good.clone() }.is_valid());
        }
        for count in [0, ENTROPY_MIN - 1, ENTROPY_MAX + 1] {
            assert!(!Identity { entropy: vec![7; count], ..good.clone() }.is_valid());
        }
    }
}
