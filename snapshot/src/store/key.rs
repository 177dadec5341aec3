//! What a template is made of, and the name that this gives it.

use std::collections::BTreeMap;
use std::fmt;

use crate::spec;

/// Version of the store's own layout; part of each key.
const STORE_VERSION: u32 = 1;
/// Characters of a key.
const KEY_CHARS: usize = 2 * spec::DIGEST_BYTES;

/// The parts of a key: names and values, such as the kernel's digest, the CPU model, the memory step. Whatever makes another guest
/// belongs in here. The snapshot's `about.key` has the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts(BTreeMap<String, String>);

impl Parts {
    /// No parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// The parts that an `about.key` has.
    pub fn from_map(map: BTreeMap<String, String>) -> Self {
        Self(map)
    }

    /// For `about.key`.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    pub(super) fn map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The key: a digest over the parts and the versions of the formats.
    pub fn key(&self) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&spec::VERSION.to_le_bytes()).update(&STORE_VERSION.to_le_bytes());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        Key(hasher.finalize().to_hex().to_string())
    }
}

/// The name of a template: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// A key from its name.
    pub fn parse(name: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (name.len() == KEY_CHARS && name.bytes().all(hex)).then(|| Self(name.to_owned()))
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
