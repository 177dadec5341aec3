//! A tree with one of everything.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat,
};

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Makes the tree; needs root. With `backwards` its names are made in the other order.
pub(crate) fn make(root: &Path, backwards: bool) {
    let mut steps: Vec<fn(&Path)> = vec![files, holes, names, nodes, links, attributes, deep, many];
    if backwards {
        steps.reverse();
    }
    for step in steps {
        step(root);
    }
    times(root);
}

fn files(root: &Path) {
    let block = 128 << 10;
    for (name, content) in [
        ("empty", Vec::new()),
        ("one-byte", vec![7]),
        ("small-noise", noise(5000, 1)),
        ("almost-a-block", noise(block - 1, 2)),
        ("a-block", noise(block, 3)),
        ("a-block-and-one", noise(block + 1, 4)),
        ("text", b"all work and no play\n".repeat(40_000)),
        ("noise", noise(5 * block + 77, 5)),
        ("the-same-noise", noise(5 * block + 77, 5)),
        ("the-same-small", noise(5000, 1)),
        ("starts-like-noise", [noise(5 * block, 5), vec![1; 77]].concat()),
        ("small-zeros", vec![0; 4097]),
        ("zeros", vec![0; 3 * block + 5]),
    ] {
        fs::write(root.join(name), content).expect(name);
    }
}

fn holes(root: &Path) {
    let file = File::create(root.join("sparse")).expect("a file");
    file.set_len(40 << 20).expect("a length");
    for (at, length) in [(0, 10), (5 << 20, 300_000), ((20 << 20) + 100, 1), ((40 << 20) - 3, 3)] {
        file.write_all_at(&noise(length, at), at).expect("a part");
    }
    File::create(root.join("hole")).expect("a file").set_len((1 << 20) + 1).expect("a length");
}

fn names(root: &Path) {
    let long = [b'n'; 255];
    for name in [&b"not \xff\xfe utf-8"[..], b"new\nline", b" ", b"-", b"...", &long, "\u{e4}\u{65e5}".as_bytes()] {
        fs::write(root.join(OsStr::from_bytes(name)), name).expect("a file");
    }
    fs::create_dir(root.join(OsStr::from_bytes(b"dir\x80"))).expect("a directory");
}

fn nodes(root: &Path) {
    let nodes = [
        ("null", FileType::CharacterDevice, 1, 3),
        ("disk", FileType::BlockDevice, 259, 70_000),
        ("far", FileType::CharacterDevice, 4095, 1_048_575),
        ("whiteout", FileType::CharacterDevice, 0, 0),
        ("fifo", FileType::Fifo, 0, 0),
    ];
    for (name, kind, major, minor) in nodes {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), makedev(major, minor)).expect(name);
    }
    drop(UnixListener::bind(root.join("socket")).expect("a socket"));
}

fn links(root: &Path) {
    fs::create_dir_all(root.join("links/far/away")).expect("directories");
    fs::write(root.join("links/one"), b"linked").expect("a file");
    fs::hard_link(root.join("links/one"), root.join("links/far/away/two")).expect("a link");
    fs::hard_link(root.join("links/one"), root.join("aaa-three")).expect("a link");
    symlink("/nowhere/at/all", root.join("links/dangling")).expect("a link");
    fs::hard_link(root.join("links/dangling"), root.join("links/dangling-too")).expect("a link");
    symlink(OsStr::from_bytes(&[b'x'; 4000]), root.join("links/long")).expect("a link");
    symlink("../../..", root.join("links/up")).expect("a link");
    mknodat(CWD, root.join("links/fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a fifo");
    fs::hard_link(root.join("links/fifo"), root.join("links/fifo-too")).expect("a link");
}

/// A file capability, of a form that the kernel takes: cap_net_raw, effective and permitted.
pub(crate) const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// An access control list: user, user 1000, group, mask, others.
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 7, 0,
    255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

fn attributes(root: &Path) {
    let dir = root.join("attributes");
    fs::create_dir_all(dir.join("opaque")).expect("directories");
    for (name, mode, uid, gid) in [
        ("setuid", 0o4755, 0, 0),
        ("setgid", 0o2711, 1000, 100_000),
        ("sticky", 0o1777, 4_000_000_000, 4_294_967_294),
        ("none", 0o000, 65_535, 65_536),
        ("all", 0o7777, 1, 2),
    ] {
        fs::write(dir.join(name), name).expect("a file");
        lchown(dir.join(name), Some(uid), Some(gid)).expect("an owner");
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).expect("a mode");
    }
    symlink("setuid", dir.join("link")).expect("a link");
    lchown(dir.join("link"), Some(12_345), Some(54_321)).expect("an owner");
    mknodat(CWD, dir.join("device"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 5))
        .expect("a device");
    let value = noise(3000, 9);
    for (name, key, value) in [
        ("setuid", "security.capability", &CAPABILITY[..]),
        ("setgid", "user.plain", b"a value"),
        ("setgid", "user.empty", b""),
        ("sticky", "user.long", &value),
        ("all", "user.long", &value),
        ("none", "trusted.hidden", b"\0\xff"),
        ("link", "trusted.of-a-link", b"1"),
        ("device", "trusted.of-a-device", b"2"),
        ("opaque", "trusted.overlay.opaque", b"y"),
        ("opaque", "user.plain", b"a value"),
        ("all", "system.posix_acl_access", &ACL),
    ] {
        lsetxattr(dir.join(name), key, value, XattrFlags::empty()).expect(key);
    }
    fs::set_permissions(dir.join("opaque"), Permissions::from_mode(0o3770)).expect("a mode");
}

fn deep(root: &Path) {
    let mut path = root.join("deep");
    fs::create_dir(&path).expect("a directory");
    for _ in 0..300 {
        path.push("d");
        fs::create_dir(&path).expect("a directory");
    }
    fs::write(path.join("bottom"), b"here").expect("a file");
}

fn many(root: &Path) {
    let dir = root.join("many");
    fs::create_dir(&dir).expect("a directory");
    for number in 0..3000u32 {
        fs::write(dir.join(format!("{number:x}-{}", "y".repeat(number as usize % 90))), number.to_string())
            .expect("a file");
    }
}

/// Sets times that differ, those of directories last.
fn times(root: &Path) {
    let mut paths: Vec<_> = super::facts::of(root).into_keys().map(|path| root.join(path)).collect();
    paths.sort_by_key(|path| (std::cmp::Reverse(path.components().count()), path.clone()));
    // Of several names of an inode, the last one's time stays.
    for (number, path) in paths.iter().enumerate() {
        let time = Timespec { tv_sec: number as i64 * 1_000_003 % 4_000_000_000, tv_nsec: 999_999_999 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
    }
}
