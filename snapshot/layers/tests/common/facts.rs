//! Everything that can be seen of a tree.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// All of a tree, by path.
pub(crate) type Facts = BTreeMap<PathBuf, Fact>;

/// What can be seen of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of everything but directories, whose count depends on the file system.
    pub(crate) links: u64,
    /// The first path of the same inode.
    pub(crate) first: PathBuf,
    pub(crate) mtime: i64,
    pub(crate) device: u64,
    /// Size and SHA-256, or a link's target.
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Looks at everything below `root`, the root included. Access control lists are left away, as images leave them.
pub(crate) fn of(root: &Path) -> Facts {
    let mut facts = Facts::new();
    let mut firsts = HashMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        if metadata.is_dir() {
            let mut below: Vec<PathBuf> = fs::read_dir(&full)
                .expect("a directory")
                .map(|entry| path.join(entry.expect("an entry").file_name()))
                .collect();
            below.sort();
            waiting.extend(below);
        }
        facts.insert(path.clone(), fact(&full, &metadata, PathBuf::new()));
        firsts.insert(path, (metadata.dev(), metadata.ino()));
    }
    let mut seen = HashMap::new();
    for (path, fact) in &mut facts {
        fact.first = seen.entry(firsts[path]).or_insert_with(|| path.clone()).clone();
    }
    facts
}

fn fact(path: &Path, metadata: &Metadata, first: PathBuf) -> Fact {
    let kind = metadata.file_type();
    let device = if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 };
    Fact {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        links: if metadata.is_dir() { 0 } else { metadata.nlink() },
        first,
        mtime: metadata.mtime(),
        device,
        content: content(path, metadata),
        xattrs: xattrs(path),
    }
}

fn content(path: &Path, metadata: &Metadata) -> Vec<u8> {
    if metadata.is_symlink() {
        return fs::read_link(path).expect("a link").as_os_str().as_bytes().to_vec();
    }
    if !metadata.is_file() {
        return Vec::new();
    }
    let mut hash = Sha256::new();
    let mut file = File::open(path).expect("a file");
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0u64;
    loop {
        let got = file.read(&mut buffer).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if got == 0 {
            break;
        }
        size += got as u64;
        hash.update(&buffer[..got]);
    }
    assert_eq!(size, metadata.len(), "{}", path.display());
    [&size.to_le_bytes()[..], &hash.finalize()[..]].concat()
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let kept = names.filter(|name| !name.starts_with(b"system."));
    kept.map(|name| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).expect("a value");
        (name.to_vec(), value[..length].to_vec())
    })
    .collect()
}

/// Fails with the first differences.
pub(crate) fn assert_same(got: &Facts, wanted: &Facts) {
    let paths: std::collections::BTreeSet<_> = got.keys().chain(wanted.keys()).collect();
    let different: Vec<_> = paths.into_iter().filter(|path| got.get(*path) != wanted.get(*path)).collect();
    if let Some(path) = different.first() {
        panic!(
            "{} differ, first {path:?}:\n got    {:?}\n wanted {:?}",
            different.len(),
            got.get(*path),
            wanted.get(*path)
        );
    }
}
