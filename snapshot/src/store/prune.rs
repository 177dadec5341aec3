//! Removing what is not needed, and what is damaged.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use crate::error::SnapshotError;
use crate::limits::Limits;
use crate::snapshot::Snapshot;

use super::error::{StoreError, io_error};
use super::list::Entry;
use super::{Key, SNAPSHOT, Store};

/// Why a template was not pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Somebody uses it.
    InUse,
    /// It is being baked.
    Baking,
    /// It was used not long enough ago.
    Recent,
    /// A template that is kept lies on it.
    Base,
}

/// What became of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Its key.
    pub key: Key,
    /// Bytes on disk that it has or had.
    pub disk_bytes: u64,
    /// Why it is still there; `None`: it was removed.
    pub kept: Option<Kept>,
}

impl Store {
    /// Removes templates that nobody uses; with `unused`, only those that were not used for this long. Bases of templates that stay
    /// stay; what cannot be opened, or lies on a base that is gone, goes. So does what dead bakers left.
    ///
    /// # Errors
    /// A directory cannot be read or removed.
    pub fn prune(&self, unused: Option<Duration>) -> Result<Vec<Pruned>, StoreError> {
        let mut entries = self.list()?;
        // Those that lie on others first: when they are gone, their bases may go.
        entries.sort_by_key(|entry| entry.base().is_none());
        let ids: Vec<_> = entries.iter().filter_map(Entry::id).collect();
        let (mut needed, mut pruned) = (Vec::new(), Vec::new());
        for entry in entries {
            let useless = entry.content.is_err() || entry.base().is_some_and(|base| !ids.contains(&base));
            let kept = match () {
                () if entry.id().is_some_and(|id| needed.contains(&id)) => Some(Kept::Base),
                () if !useless && is_recent(&entry, unused) => Some(Kept::Recent),
                () => self.remove_unused(&entry.key)?,
            };
            needed.extend(entry.base().filter(|_| kept.is_some()));
            pruned.push(Pruned { key: entry.key, disk_bytes: entry.disk_bytes, kept });
        }
        self.clear_dead()?;
        Ok(pruned)
    }

    /// Of the templates that lie on others, removes those that were used longest ago and are not in use, until there are
    /// only so many.
    ///
    /// # Errors
    /// A directory cannot be read or removed.
    pub fn prune_over(&self, most: usize) -> Result<Vec<Pruned>, StoreError> {
        if self.keys()?.len() <= most {
            return Ok(Vec::new());
        }
        let mut over: Vec<_> = self.list()?.into_iter().filter(|entry| entry.base().is_some()).collect();
        over.sort_by_key(|entry| Reverse(entry.last_used));
        let surplus = over.into_iter().skip(most);
        let remove = |entry: Entry| {
            let kept = self.remove_unused(&entry.key)?;
            Ok(Pruned { key: entry.key, disk_bytes: entry.disk_bytes, kept })
        };
        surplus.map(remove).collect()
    }

    /// Removes work directories and locks of dead bakers.
    fn clear_dead(&self) -> Result<(), StoreError> {
        for key in self.keys()? {
            if self.template_dir(&key).symlink_metadata().is_err() {
                self.remove_unused(&key)?;
            }
        }
        Ok(())
    }

    /// Reads all of a template and removes it if it is damaged; users that have it open keep what they have. Gives what was wrong.
    ///
    /// # Errors
    /// The store is broken.
    pub fn verify(&self, key: &Key) -> Result<Result<(), SnapshotError>, StoreError> {
        let lock_path = self.lock_path(key);
        let _lock = supermachine_lock::hold_removable(&lock_path, || ()).map_err(io_error("lock", &lock_path))?;
        let dir = self.template_dir(key);
        let result = Snapshot::open(&dir.join(SNAPSHOT), &Limits::default()).and_then(|snapshot| snapshot.verify());
        if result.is_err() {
            self.take_away(key, &dir)?;
        }
        Ok(result)
    }
}

fn is_recent(entry: &Entry, unused: Option<Duration>) -> bool {
    let Some(unused) = unused else { return false };
    let age = entry.last_used.and_then(|used| SystemTime::now().duration_since(used).ok());
    age.is_none_or(|age| age < unused)
}
