//! Removing a template that nobody uses.

use std::fs::{self, File};

use supermachine_lock::{self as lock, Mode};

use super::error::{StoreError, io_error};
use super::prune::Kept;
use super::{Key, Store, USE};

impl Store {
    /// Removes a template with all that belongs to its key, unless it is in use or being baked.
    pub(super) fn remove_unused(&self, key: &Key) -> Result<Option<Kept>, StoreError> {
        let lock_path = self.lock_path(key);
        let locked = lock::try_hold_removable(&lock_path).map_err(io_error("lock", &lock_path))?;
        let Some(_lock) = locked else { return Ok(Some(Kept::Baking)) };
        let dir = self.template_dir(key);
        // Held until the name is gone: who comes now finds nothing there.
        let guard = File::open(dir.join(USE)).ok();
        if let Some(guard) = &guard
            && !lock::try_hold(guard, Mode::Alone).map_err(io_error("lock", &dir))?
        {
            return Ok(Some(Kept::InUse));
        }
        self.take_away(key, &dir)?;
        self.clear_work(key)?;
        fs::remove_file(&lock_path).map_err(io_error("remove", lock_path))?;
        Ok(None)
    }

    /// Whether somebody uses a template.
    pub(super) fn in_use(&self, key: &Key) -> bool {
        let guard = File::open(self.template_dir(key).join(USE));
        guard.is_ok_and(|guard| !lock::try_hold(&guard, Mode::Alone).unwrap_or(true))
    }
}
