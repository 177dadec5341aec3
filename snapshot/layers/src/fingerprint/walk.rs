//! Looks at every entry of a tree, relative to open directories, with several threads where it is large.

use std::ffi::{CStr, CString, OsStr};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{FingerprintError, nanoseconds, xattr};
use crate::digest::Digest;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Directories that must wait for a thread before others are started.
const QUEUE_LONG: usize = 24;
/// Most threads.
const THREADS_MAX: usize = 8;

/// What a walk has seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) digest: Digest,
    pub(super) entries: u64,
    pub(super) root: (u64, u64),
    /// Newest change time, ns since 1970.
    pub(super) newest_ns: i128,
    /// Whether any change time has a part of a second.
    pub(super) has_nanoseconds: bool,
}

/// A directory that is to be read.
struct Task {
    parent: Option<Arc<OwnedFd>>,
    name: Box<CStr>,
    /// Its path, for attributes only.
    path: Vec<u8>,
}

/// What is known of the directories read so far.
#[derive(Default)]
struct Sum {
    directories: Vec<[u8; 32]>,
    entries: u64,
    newest_ns: i128,
    has_nanoseconds: bool,
}

/// Why a walk ends early.
enum Stop {
    /// Something vanished: it may be taken again.
    Vanished,
    /// It cannot go on.
    Failed { what: &'static str, entry: Box<CStr>, errno: Errno },
}

impl Stop {
    fn at(what: &'static str, entry: &CStr) -> impl FnOnce(Errno) -> Self {
        move |errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Self::Vanished,
            _ => Self::Failed { what, entry: entry.into(), errno },
        }
    }
}

/// Walks the tree at `root`; gives nothing if an entry vanished meanwhile.
pub(super) fn walk(root: &Path) -> Result<Option<Seen>, FingerprintError> {
    let name = CString::new(root.as_os_str().as_bytes()).unwrap_or_default().into_boxed_c_str();
    let failed = |what, entry: &CStr, errno: Errno| FingerprintError::Entry {
        what,
        tree: root.to_owned(),
        entry: OsStr::from_bytes(entry.to_bytes()).into(),
        source: errno.into(),
    };
    // The tree must be there: what may vanish is inside.
    let dir = openat(CWD, &*name, DIRECTORY, Mode::empty()).map_err(|errno| failed("open", &name, errno))?;
    let stat = fstat(&dir).map_err(|errno| failed("look at", &name, errno))?;
    let mut sum = Sum::default();
    let mut bytes = Vec::new();
    sum.entry(&mut bytes, &[], &stat);
    let mut attributes = xattr::Reader::new(dir.as_fd(), name.to_bytes());
    attributes.of(c".", &mut bytes).map_err(|errno| failed("read the attributes of", &name, errno))?;
    sum.directories.push(Sha256::digest(&bytes).into());
    let path = name.to_bytes().to_vec();
    let shared = Shared::new(Task { parent: None, name, path }, sum);
    thread::scope(|scope| shared.work(Some(scope)));
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.stop {
        Some(Stop::Vanished) => return Ok(None),
        Some(Stop::Failed { what, entry, errno }) => return Err(failed(what, &entry, errno)),
        None => {}
    }
    let sum = state.total;
    Ok(Some(Seen {
        entries: sum.entries,
        root: ids(&stat),
        newest_ns: sum.newest_ns,
        has_nanoseconds: sum.has_nanoseconds,
        digest: sum.digest(),
    }))
}

impl Sum {
    /// Adds the bytes of an entry, without its attributes.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the fields' types differ between systems")]
    fn entry(&mut self, bytes: &mut Vec<u8>, name: &[u8], stat: &Stat) {
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name);
        let changed = nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        let modified = nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        let numbers = [
            stat.st_dev as u64,
            stat.st_ino as u64,
            stat.st_mode as u64,
            stat.st_nlink as u64,
            stat.st_uid as u64,
            stat.st_gid as u64,
            stat.st_rdev as u64,
            stat.st_size as u64,
        ];
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&changed.to_le_bytes());
        bytes.extend_from_slice(&modified.to_le_bytes());
        self.entries = self.entries.saturating_add(1);
        self.newest_ns = self.newest_ns.max(changed);
        self.has_nanoseconds |= stat.st_ctime_nsec != 0;
    }

    fn add(&mut self, other: Self) {
        let Self { directories, entries, newest_ns, has_nanoseconds } = other;
        self.directories.extend(directories);
        self.entries = self.entries.saturating_add(entries);
        self.newest_ns = self.newest_ns.max(newest_ns);
        self.has_nanoseconds |= has_nanoseconds;
    }

    /// Each directory's digest begins with its own number, which its parent's has too: their order does not matter.
    fn digest(mut self) -> Digest {
        self.directories.sort_unstable();
        let mut hash = Sha256::new();
        self.directories.iter().for_each(|directory| hash.update(directory));
        Digest::new(hash.finalize().into())
    }
}

/// What threads share.
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    tasks: Vec<Task>,
    /// Threads that may still find directories.
    busy: usize,
    stop: Option<Stop>,
    total: Sum,
}

impl Shared {
    fn new(first: Task, total: Sum) -> Self {
        Self { state: Mutex::new(State { tasks: vec![first], busy: 0, stop: None, total }), wake: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads directories until there are none. With a scope, has others help if many wait.
    fn work<'scope>(&'scope self, mut scope: Option<&'scope thread::Scope<'scope, '_>>) {
        let mut sum = Sum::default();
        let mut found = Vec::new();
        while let Some(task) = self.next() {
            let result = read(&task, &mut sum, &mut found);
            drop(task);
            let mut state = self.lock();
            state.tasks.append(&mut found);
            state.busy -= 1;
            if let Err(stop) = result {
                state.stop.get_or_insert(stop);
            }
            let waiting = state.tasks.len();
            if waiting == 0 || state.stop.is_some() || scope.is_none() {
                self.wake.notify_all();
            }
            drop(state);
            if waiting > QUEUE_LONG
                && let Some(scope) = scope.take()
            {
                let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
                (1..threads).for_each(|_| drop(scope.spawn(|| self.work(None))));
            }
        }
        self.lock().total.add(sum);
    }

    /// The next directory; none at the end.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.stop.is_some() {
                return None;
            }
            if let Some(task) = state.tasks.pop() {
                state.busy += 1;
                return Some(task);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Device and inode.
#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between systems")]
fn ids(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// Reads one directory; gives those in it.
fn read(task: &Task, sum: &mut Sum, found: &mut Vec<Task>) -> Result<(), Stop> {
    let parent = task.parent.as_deref().map_or(CWD, AsFd::as_fd);
    let dir = Arc::new(openat(parent, &*task.name, DIRECTORY, Mode::empty()).map_err(Stop::at("open", &task.name))?);
    let own = fstat(&dir).map_err(Stop::at("look at", &task.name))?;
    let names = Names::read(&dir).map_err(Stop::at("read", &task.name))?;
    let mut bytes = Vec::with_capacity(names.ranges.len().saturating_mul(160));
    let (device, inode) = ids(&own);
    bytes.extend_from_slice(&device.to_le_bytes());
    bytes.extend_from_slice(&inode.to_le_bytes());
    let mut attributes = xattr::Reader::new(dir.as_fd(), &task.path);
    for name in names.sorted() {
        let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Stop::at("look at", name))?;
        sum.entry(&mut bytes, name.to_bytes(), &stat);
        attributes.of(name, &mut bytes).map_err(Stop::at("read the attributes of", name))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let path = [task.path.as_slice(), b"/", name.to_bytes()].concat();
            found.push(Task { parent: Some(Arc::clone(&dir)), name: name.into(), path });
        }
    }
    sum.directories.push(Sha256::digest(&bytes).into());
    Ok(())
}

/// Names in a directory, end to end.
struct Names {
    text: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Names {
    fn read(dir: &OwnedFd) -> Result<Self, Errno> {
        let mut names = Self { text: Vec::new(), ranges: Vec::new() };
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let begin = names.text.len();
            names.text.extend_from_slice(name);
            names.ranges.push(begin..names.text.len());
        }
        let text = &names.text;
        names.ranges.sort_unstable_by(|a, b| text.get(a.clone()).cmp(&text.get(b.clone())));
        Ok(names)
    }

    fn sorted(&self) -> impl Iterator<Item = &CStr> {
        let bytes = self.ranges.iter().filter_map(|range| self.text.get(range.clone()));
        bytes.filter_map(|bytes| CStr::from_bytes_with_nul(bytes).ok())
    }
}
