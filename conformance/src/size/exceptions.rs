//! The list of what may be longer, each with its reason.

use std::collections::BTreeMap;

use super::SizeError;

/// Names that are excused, and whether anything needed them.
#[derive(Debug, Default)]
pub struct Exceptions(BTreeMap<String, bool>);

impl Exceptions {
    /// Reads lines of `name reason`; `#` starts a comment line.
    ///
    /// # Errors
    /// When an entry gives no reason.
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let mut names = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, _reason) =
                line.split_once(char::is_whitespace).ok_or_else(|| SizeError::NoReason { line: line.to_owned() })?;
            names.insert(name.to_owned(), false);
        }
        Ok(Self(names))
    }

    /// Whether `name` is excused; remembers that the entry was needed.
    pub(super) fn excuse(&mut self, name: &str) -> bool {
        let entry = self.0.get_mut(name);
        entry.map(|needed| *needed = true).is_some()
    }

    /// The entries that excused nothing.
    pub(super) fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, needed)| !**needed).map(|(name, _)| name.as_str())
    }
}
