//! Which templates somebody wanted once: what is wanted again is worth making.
//!
//! A table of fixed size: each key has one place in it, which is the next key's with the same place. So nothing is ever
//! cleared out, and what is forgotten comes as new once more.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::error::{StoreError, io_error};
use super::{Parts, Store, WANTED};

/// Places in the table.
const PLACES: u64 = 1024;
/// Bytes of each: the first of a key's digest, in hex.
const BYTES: usize = 16;

impl Store {
    /// Whether the template for `parts` was wanted before, as far as is known; notes that it is wanted now.
    ///
    /// # Errors
    /// The table cannot be read or written.
    pub fn was_wanted(&self, parts: &Parts) -> Result<bool, StoreError> {
        let key = parts.key();
        let (name, rest) = key.as_str().split_at(BYTES);
        let place = rest.bytes().take(4).fold(0, |place, byte| place * 31 + u64::from(byte)) % PLACES;
        let path = self.dir.join(WANTED);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let table = options.open(&path).map_err(io_error("open", &path))?;
        let (at, mut there) = (place * BYTES as u64, [0; BYTES]);
        // Behind its end nothing is wanted yet. Two that note something at the same time cost one of them its note.
        if table.read_exact_at(&mut there, at).is_ok() && there == name.as_bytes() {
            return Ok(true);
        }
        table.write_all_at(name.as_bytes(), at).map_err(io_error("write", &path))?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_second_time_is_known_and_the_table_does_not_grow() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        let parts = |number: u64| Parts::new().with("number", number);
        assert!(!store.was_wanted(&parts(0)).expect("a table"));
        assert!(store.was_wanted(&parts(0)).expect("a table"));
        let known = (1..5000).filter(|number| store.was_wanted(&parts(*number)).expect("a table")).count();
        assert_eq!(known, 0, "each is new");
        let again = (4900..5000).filter(|number| store.was_wanted(&parts(*number)).expect("a table")).count();
        assert!(again > 80, "{again} of the last hundred are known");
        let table = dir.path().join("templates/wanted");
        assert!(fs::metadata(&table).expect("a table").len() <= PLACES * BYTES as u64);
        fs::write(&table, "nonsense").expect("written");
        assert!(!store.was_wanted(&parts(4999)).expect("a table"));
        assert!(store.was_wanted(&parts(4999)).expect("a table"));
    }
}
