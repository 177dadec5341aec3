//! Making a template that is not there: one baker, the others wait for it.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use supermachine_lock::{self as lock, Mode};

use crate::limits::Limits;
use crate::manifest::check_key;
use crate::snapshot::Snapshot;
use crate::writer::sync_dir;

use super::error::{BakeFailure, StoreError, io_error};
use super::look::{Found, Template};
use super::{Key, Parts, SNAPSHOT, Store, USE, seal};

/// Bytes of a failure's message that are passed on to those who wait.
const MESSAGE_MAX: u64 = 1024;
/// A template that nobody used for this long is removed when another is baked.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Templates that lie on others, such as those of images: some megabytes each.
const OVER_OTHERS_MAX: usize = 64;

/// What happens before a template is there, for a line of progress or of the log.
#[derive(Debug)]
pub enum Event<'a> {
    /// Another process bakes it; this one waits.
    Waiting,
    /// A template was not usable and is removed.
    Removed {
        /// Its key.
        key: &'a Key,
        /// Why, in one line.
        reason: &'a str,
    },
    /// The baker is called now.
    Baking,
}

impl Store {
    /// The template for `parts`; where there is none, `bake` makes it: a snapshot at the path it is given, which does not exist yet,
    /// with `parts` as its `about.key`. Of all processes that want the same, one bakes and the others wait for its end; if it fails
    /// they fail as well, if it dies the next one bakes. A template that is damaged, cut, of another version or changed is removed,
    /// told of once, and baked anew.
    ///
    /// # Errors
    /// [`StoreError::Bake`] and [`StoreError::BakeElsewhere`], or the store is broken. Nothing is left of a bake that failed.
    pub fn get_or_bake(
        &self,
        parts: &Parts,
        bake: impl FnOnce(&Path) -> Result<(), BakeFailure>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Template, StoreError> {
        if let Some(template) = self.get(parts) {
            return Ok(template);
        }
        check_key(parts.map()).map_err(|source| StoreError::Parts { source })?;
        let key = parts.key();
        let lock_path = self.lock_path(&key);
        let lock = lock::hold_removable(&lock_path, || tell(Event::Waiting)).map_err(io_error("lock", &lock_path))?;
        self.clear_work(&key)?;
        if let Some(template) = self.usable(parts, tell)? {
            return Ok(template);
        }
        let failures = Failures { file: &lock.file, path: &lock_path };
        if let Some(message) = failures.read().filter(|_| lock.waited) {
            return Err(StoreError::BakeElsewhere { message });
        }
        failures.write("")?;
        tell(Event::Baking);
        let made = self.make(parts, bake).inspect_err(|error| drop(failures.write(&one_line(error))))?;
        drop(lock);
        self.tidy();
        Ok(made)
    }

    /// The template for `parts` if there is a usable one; one that is not is removed and told of, unless another process has it
    /// in hand. Nothing is waited for, nothing is baked.
    ///
    /// # Errors
    /// The store is broken, or the template cannot be read now.
    pub fn find(&self, parts: &Parts, tell: &mut dyn FnMut(Event<'_>)) -> Result<Option<Template>, StoreError> {
        if let Some(template) = self.get(parts) {
            return Ok(Some(template));
        }
        let key = parts.key();
        if self.template_dir(&key).symlink_metadata().is_err() {
            return Ok(None);
        }
        let lock_path = self.lock_path(&key);
        let lock = lock::try_hold_removable(&lock_path).map_err(io_error("lock", &lock_path))?;
        lock.map_or(Ok(None), |_lock| self.usable(parts, tell))
    }

    /// Has `bake` make the template for `parts`, as [`get_or_bake`](Self::get_or_bake) does, unless it is there or another
    /// process makes it: then `None` at once.
    ///
    /// # Errors
    /// As for `get_or_bake`.
    pub fn bake_if_free(
        &self,
        parts: &Parts,
        bake: impl FnOnce(&Path) -> Result<(), BakeFailure>,
    ) -> Result<Option<Template>, StoreError> {
        check_key(parts.map()).map_err(|source| StoreError::Parts { source })?;
        let key = parts.key();
        let lock_path = self.lock_path(&key);
        let lock = lock::try_hold_removable(&lock_path).map_err(io_error("lock", &lock_path))?;
        let Some(lock) = lock else { return Ok(None) };
        self.clear_work(&key)?;
        if self.usable(parts, &mut |_| ())?.is_some() {
            return Ok(None);
        }
        let made = self.make(parts, bake)?;
        drop(lock);
        self.tidy();
        Ok(Some(made))
    }

    /// What is there, with the lock held: made usable or removed.
    fn usable(&self, parts: &Parts, tell: &mut dyn FnMut(Event<'_>)) -> Result<Option<Template>, StoreError> {
        let key = parts.key();
        let reason = match self.look(parts, |file| lock::hold(file, Mode::Shared).map(|()| true)) {
            Found::Ready(template) => return Ok(Some(*template)),
            Found::Missing => return Ok(None),
            Found::Unsealed(template) => match template.snapshot().verify() {
                Ok(()) => return self.seal_again(&key).map(|()| Some(*template)),
                Err(error) => one_line(&error),
            },
            Found::Bad(stale) if stale.may_pass() => return Err(StoreError::Unreadable { source: Box::new(stale) }),
            Found::Bad(stale) => one_line(&stale),
        };
        tell(Event::Removed { key: &key, reason: &reason });
        self.take_away(&key, &self.template_dir(&key))?;
        Ok(None)
    }

    fn make(&self, parts: &Parts, bake: impl FnOnce(&Path) -> Result<(), BakeFailure>) -> Result<Template, StoreError> {
        let key = parts.key();
        let work = self.work(&key)?;
        let dir = work.path();
        bake(&dir.join(SNAPSHOT)).map_err(|source| StoreError::Bake { source })?;
        let snapshot = Snapshot::open(&dir.join(SNAPSHOT), &Limits::default());
        let snapshot = snapshot.map_err(|source| StoreError::NotBaked { source })?;
        if snapshot.manifest().about.key != *parts.map() {
            return Err(StoreError::OtherKey);
        }
        let guard = dir.join(USE);
        let guard = File::create_new(&guard).map_err(io_error("make", &guard))?;
        lock::hold(&guard, Mode::Shared).map_err(io_error("lock", USE))?;
        seal::write(dir).map_err(io_error("seal", dir))?;
        let target = self.template_dir(&key);
        sync_dir(dir).and_then(|()| sync_dir(&self.dir)).map_err(|source| StoreError::NotBaked { source })?;
        fs::rename(dir, &target).map_err(io_error("make", &target))?;
        sync_dir(&self.dir).map_err(|source| StoreError::NotBaked { source })?;
        Ok(self.made(key, guard, snapshot))
    }

    /// Removes what nobody used for long, and of many that lie on others those that were used longest ago; a failure is not
    /// the baker's.
    fn tidy(&self) {
        let removed =
            self.prune(Some(UNUSED)).and_then(|pruned| Ok([pruned, self.prune_over(OVER_OTHERS_MAX)?].concat()));
        match removed {
            Ok(pruned) => pruned.iter().filter(|pruned| pruned.kept.is_none()).for_each(|pruned| {
                log::info!("template {}: removed, others are used more", pruned.key.short());
            }),
            Err(error) => log::warn!("templates: {}", one_line(&error)),
        }
    }
}

/// The last failure, kept in the lock's file for those who wait on it.
struct Failures<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Failures<'_> {
    fn read(&self) -> Option<String> {
        let (mut file, mut bytes) = (self.file, Vec::new());
        file.rewind().ok()?;
        file.take(MESSAGE_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).replace(char::is_control, " ");
        (!text.is_empty()).then_some(text)
    }

    fn write(&self, message: &str) -> Result<(), StoreError> {
        let mut file = self.file;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(message.as_bytes()));
        written.map_err(io_error("write", self.path))
    }
}

/// An error with all its causes.
pub(super) fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}
