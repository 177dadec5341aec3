//! A digest of everything about a tree but the contents of its files: two trees with the same one are the same tree, unchanged.
//!
//! Of each entry it covers name, device, inode, mode, owner, number of links, size, modification and change time in
//! nanoseconds, device number, and names and values of extended attributes. Whatever a system call changes in a tree changes
//! a change time, so what is missed are only writes through a shared memory map that was writable, and had been written to,
//! before: file systems note those when the pages are written back.
//!
//! File systems stamp with a clock that ticks. A change that is made within the same tick as the newest one in the tree leaves
//! no trace, so a tree is [`settled`](Fingerprint::settled) only if that tick was over when it was looked at.

mod walk;
#[cfg_attr(not(target_os = "linux"), path = "xattr_other.rs")]
mod xattr;

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::digest::Digest;

/// A tick is at most 10 ms (`CONFIG_HZ=100`); twice that, for a clock that is read between two.
const TICK_NS: i128 = 20_000_000;
/// File systems that keep no nanoseconds keep seconds, some of them even ones.
const COARSE_TICK_NS: i128 = 2_000_000_000;

/// A tree as it was at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of everything about it.
    pub digest: Digest,
    /// Whether any change since it was taken has changed, or will change, the digest.
    pub settled: bool,
    /// Files, directories and so on, the root too.
    pub entries: u64,
    /// Device and inode of the root.
    pub root: (u64, u64),
}

/// A tree that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// One of its entries.
    #[error("cannot {what} {} in {}", entry.display(), tree.display())]
    Entry {
        /// What was tried.
        what: &'static str,
        /// The tree.
        tree: PathBuf,
        /// Name of the entry.
        entry: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something was taken away while it was looked at, again and again.
    #[error("{} keeps changing", tree.display())]
    Changing {
        /// The tree.
        tree: PathBuf,
    },
}

/// How often a tree is looked at again because an entry vanished.
const TRIES: u32 = 5;

/// Takes the fingerprint of the tree at `root`.
pub fn take(root: &Path) -> Result<Fingerprint, FingerprintError> {
    Ok(take_at(root)?.0)
}

/// The same; if its newest change is of the tick that is not over yet, waits for the end of it, 20 ms at most, and takes it again.
pub fn settled(root: &Path) -> Result<Fingerprint, FingerprintError> {
    let (first, wait) = take_at(root)?;
    let Some(wait) = wait else { return Ok(first) };
    thread::sleep(wait);
    take(root)
}

/// Also gives how long it takes until it can be settled, if it is not and that is soon.
fn take_at(root: &Path) -> Result<(Fingerprint, Option<Duration>), FingerprintError> {
    for _ in 0..TRIES {
        let now = clock_gettime(ClockId::Realtime);
        let now = nanoseconds(now.tv_sec, now.tv_nsec);
        let Some(seen) = walk::walk(root)? else { continue };
        let tick = if seen.has_nanoseconds { TICK_NS } else { COARSE_TICK_NS };
        // Positive as long as a change of now could have the newest time.
        let left = seen.newest_ns.saturating_add(tick).saturating_sub(now);
        let wait = u64::try_from(left).ok().filter(|left| (1..=TICK_NS).contains(&i128::from(*left)));
        let taken = Fingerprint { digest: seen.digest, settled: left <= 0, entries: seen.entries, root: seen.root };
        return Ok((taken, wait.map(Duration::from_nanos)));
    }
    Err(FingerprintError::Changing { tree: root.to_owned() })
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

#[cfg(test)]
mod tests;
