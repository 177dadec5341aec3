//! Holds: what somebody uses, as long as they live.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use supermachine_lock::{self as lock, Mode};

use super::error::{if_there, io_error};
use super::{HOLDS, Store, StoreError, write};
use crate::digest::Digest;

/// Largest file of a hold that is read, bytes: room for its user's name and thousands of images.
const READ_MAX: u64 = 1 << 20;
/// Most bytes of a user's name.
const USER_MAX: usize = 200;

/// Images in use. They stay in the store as long as a copy of its descriptor is open, in this process or in one that
/// inherited it; [`Hold::keep`] leaves that to the other.
#[derive(Debug)]
pub struct Hold {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Hold {
    /// Lets who has the descriptor by now hold the images; gives the file, which may be removed at its end, and is by the
    /// store if nobody does.
    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes an image. The gate is held.
    pub(super) fn add(&self, image: &Digest) -> Result<(), StoreError> {
        (&self.file).write_all(format!("{image}\n").as_bytes()).map_err(io_error("write", &self.path))
    }
}

impl AsFd for Hold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is free, and swept by the next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Store {
    /// A hold of nothing so far; `user` says to people who it is.
    pub fn hold(&self, user: &str) -> Result<Hold, StoreError> {
        let dir = self.dir.join(HOLDS);
        let (file, path) = write::locked_file(&dir, 0o600).map_err(io_error("write into", &dir))?;
        let hold = Hold { file, path, kept: false };
        let user: String = user.chars().filter(|c| !c.is_control()).collect();
        let end = user.char_indices().map(|(at, _)| at).take_while(|at| *at <= USER_MAX).last().unwrap_or(0);
        let user = if user.len() <= USER_MAX { user.as_str() } else { user.get(..end).unwrap_or_default() };
        (&hold.file).write_all(format!("{user}\n").as_bytes()).map_err(io_error("write", &hold.path))?;
        Ok(hold)
    }

    /// Holds images that must be there, and gives their files in the same order.
    pub fn hold_images(&self, images: &[Digest], hold: &Hold) -> Result<Vec<PathBuf>, StoreError> {
        let _gate = self.gate(Mode::Shared)?;
        let each = images.iter().map(|image| {
            let path = self.image_path(image);
            if !path.is_file() {
                return Err(StoreError::NoImage { image: *image });
            }
            hold.add(image)?;
            self.touch(&path);
            Ok(path)
        });
        each.collect()
    }

    /// Images that are held, each with its users; holds that nobody has any more are removed if `sweep` says so, which takes
    /// the gate for oneself.
    pub(super) fn held(&self, sweep: bool) -> Result<BTreeMap<Digest, Vec<String>>, StoreError> {
        let mut held: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for name in self.names(HOLDS)? {
            let path = self.in_dir(HOLDS, &name);
            let Some(file) = if_there(File::open(&path)).map_err(io_error("open", &path))? else { continue };
            if lock::try_hold(&file, Mode::Shared).map_err(io_error("lock", &path))? {
                if sweep {
                    if_there(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
                }
                continue;
            }
            let (user, images) = read(&file).map_err(io_error("read", &path))?;
            for image in images {
                held.entry(image).or_default().push(user.clone());
            }
        }
        for users in held.values_mut() {
            users.sort_unstable();
            users.dedup();
        }
        Ok(held)
    }
}

/// A hold's user and images.
fn read(file: &File) -> io::Result<(String, Vec<Digest>)> {
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let user = lines.next().unwrap_or_default().to_owned();
    Ok((user, lines.filter_map(|line| Digest::from_str(line).ok()).collect()))
}
