//! A hostile guest tries to get out of a share that lies beside a secret. Nothing outside may be read, written, listed
//! or even be seen to exist.

mod client;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use client::{Client, Failure, Folders, body, names, parse, share};
use supermachine_share::SymlinkPolicy;
use supermachine_share::spec::{self, errno};

const SECRET: &str = "secret content";

/// The shared directory, and everything that could lead out of it.
struct Stage {
    folders: Folders,
    client: Client,
    /// Node of the shared directory, and of a directory and a file in it.
    root: u64,
    dir: u64,
    file: u64,
    before: Vec<String>,
}

/// Everything that can be told of what is outside.
fn inventory(outside: &Path) -> Vec<String> {
    let describe = |path: &Path| {
        let meta = fs::symlink_metadata(path).expect("stat");
        let content = if meta.is_file() { fs::read(path).expect("read") } else { Vec::new() };
        let (mode, uid, links, len) = (meta.mode(), meta.uid(), meta.nlink(), meta.len());
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        format!("{path:?} {mode:o} {uid} {links} {len} {mtime:?} {ctime:?} {content:?}")
    };
    let mut all: Vec<_> =
        fs::read_dir(outside).expect("readdir").map(|entry| describe(&entry.expect("entry").path())).collect();
    all.push(describe(outside));
    all.sort();
    all
}

impl Stage {
    fn new(symlinks: SymlinkPolicy) -> Self {
        let folders = Folders::new();
        let (shared, outside) = (&folders.shared, &folders.outside);
        fs::write(outside.join("secret"), SECRET).expect("write");
        fs::create_dir(outside.join("secrets")).expect("mkdir");
        fs::create_dir(shared.join("dir")).expect("mkdir");
        fs::write(shared.join("file"), "public").expect("write");
        symlink(outside, shared.join("absolute")).expect("symlink");
        symlink(outside.join("secret"), shared.join("absolute-file")).expect("symlink");
        symlink("../outside", shared.join("relative")).expect("symlink");
        symlink("../outside/secret", shared.join("relative-file")).expect("symlink");
        symlink("../../../../../../../../../../etc/passwd", shared.join("far")).expect("symlink");
        symlink("..", shared.join("parent")).expect("symlink");
        symlink("dir/../../outside/secret", shared.join("winding")).expect("symlink");
        symlink("/proc/self/root", shared.join("proc")).expect("symlink");
        symlink("/proc/self/fd/0", shared.join("descriptor")).expect("symlink");
        symlink("chain-2", shared.join("chain-1")).expect("symlink");
        symlink("parent/outside", shared.join("chain-2")).expect("symlink");
        symlink("endless", shared.join("endless")).expect("symlink");
        let client = Client::new(vec![share(shared, false, symlinks)]);
        client.init();
        let root = client.walk("0").expect("share");
        let dir = client.walk("0/dir").expect("dir");
        let file = client.walk("0/file").expect("file");
        let before = inventory(outside);
        Self { folders, client, root, dir, file, before }
    }

    fn intact(&self) {
        assert_eq!(inventory(&self.folders.outside), self.before);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.intact();
        }
    }
}

/// Every link of the stage.
const LINKS: [&[u8]; 12] = [
    b"absolute",
    b"absolute-file",
    b"relative",
    b"relative-file",
    b"far",
    b"parent",
    b"winding",
    b"proc",
    b"descriptor",
    b"chain-1",
    b"chain-2",
    b"endless",
];

/// Names that are no names of entries.
const NAMES: [&[u8]; 14] = [
    b"..",
    b".",
    b"",
    b"/",
    b"../outside",
    b"../outside/secret",
    b"dir/..",
    b"dir/../..",
    b"./file",
    b"/etc/passwd",
    b"dir/",
    b"//",
    b"absolute/secret",
    b"parent/outside/secret",
];

#[test]
fn no_request_takes_a_path() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let call = |opcode, node, body: Vec<u8>| stage.client.call(opcode, node, &body);
    let entry = |name: &[u8]| names(&[name]);
    for name in NAMES {
        for node in [stage.root, stage.dir] {
            let refused = |what: &str, result: Result<Vec<u8>, Failure>| {
                assert_eq!(result, Err(errno::EINVAL), "{what} of {:?}", String::from_utf8_lossy(name));
            };
            refused("lookup", call(spec::FUSE_LOOKUP, node, entry(name)));
            refused("unlink", call(spec::FUSE_UNLINK, node, entry(name)));
            refused("rmdir", call(spec::FUSE_RMDIR, node, entry(name)));
            let mkdir = spec::fuse_mkdir_in { mode: 0o777, umask: 0 };
            refused("mkdir", call(spec::FUSE_MKDIR, node, body(&mkdir, &entry(name))));
            let mknod = spec::fuse_mknod_in { mode: spec::S_IFREG | 0o666, ..Default::default() };
            refused("mknod", call(spec::FUSE_MKNOD, node, body(&mknod, &entry(name))));
            let create = spec::fuse_create_in { flags: spec::O_RDWR, mode: 0o666, ..Default::default() };
            refused("create", call(spec::FUSE_CREATE, node, body(&create, &entry(name))));
            refused("symlink", call(spec::FUSE_SYMLINK, node, names(&[name, b"target"])));
            let link = spec::fuse_link_in { oldnodeid: stage.file };
            refused("link", call(spec::FUSE_LINK, node, body(&link, &entry(name))));
            let rename = spec::fuse_rename_in { newdir: stage.dir };
            refused("rename", call(spec::FUSE_RENAME, node, body(&rename, &names(&[name, b"new"]))));
            refused("rename to", call(spec::FUSE_RENAME, stage.root, body(&rename, &names(&[b"file", name]))));
            let rename = spec::fuse_rename2_in { newdir: node, flags: spec::RENAME_EXCHANGE, padding: 0 };
            refused("exchange", call(spec::FUSE_RENAME2, node, body(&rename, &names(&[b"file", name]))));
        }
    }
}

#[test]
fn opaque_links_are_data_and_lead_nowhere() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    for name in LINKS {
        let entry = stage.client.lookup(stage.root, name).expect("the link itself");
        through_link(&stage, &entry, name);
        let target = stage.client.call(spec::FUSE_READLINK, entry.nodeid, &[]).expect("target");
        assert!(!target.is_empty());
    }
}

#[test]
fn denied_links_lead_nowhere_and_cannot_be_read_or_made() {
    let stage = Stage::new(SymlinkPolicy::Deny);
    for name in LINKS {
        let entry = stage.client.lookup(stage.root, name).expect("the link itself");
        through_link(&stage, &entry, name);
        assert_eq!(stage.client.call(spec::FUSE_READLINK, entry.nodeid, &[]), Err(errno::EACCES));
    }
    let made = stage.client.call(spec::FUSE_SYMLINK, stage.root, &names(&[b"new", b"../outside"]));
    assert_eq!(made, Err(errno::EPERM));
}

/// Everything that could take a link for what it leads to.
fn through_link(stage: &Stage, entry: &spec::fuse_entry_out, name: &[u8]) {
    let client = &stage.client;
    let node = entry.nodeid;
    assert_eq!(entry.attr.mode & spec::S_IFMT, spec::S_IFLNK);
    assert_eq!(client.lookup(node, b"secret").map(|_| ()), Err(errno::ENOTDIR));
    assert_eq!(client.create(node, b"new", spec::O_RDWR, 0o666), Err(errno::ENOTDIR));
    for flags in [spec::O_RDONLY, spec::O_RDWR, spec::O_WRONLY | spec::O_TRUNC] {
        assert_eq!(client.open(node, flags), Err(errno::ELOOP));
    }
    assert_eq!(client.opendir(node), Err(errno::ENOTDIR));
    let created = client.create(stage.root, name, spec::O_RDWR | spec::O_TRUNC, 0o666);
    assert_eq!(created, Err(errno::EEXIST));
    let set = spec::fuse_setattr_in { valid: spec::FATTR_SIZE, ..Default::default() };
    assert_eq!(client.call(spec::FUSE_SETATTR, node, &body(&set, &[])), Err(errno::EINVAL));
    let set = spec::fuse_setxattr_in { size: 1, flags: 0 };
    let set = client.call(spec::FUSE_SETXATTR, node, &body(&set, &[&b"user.x\0"[..], b"1"].concat()));
    assert_eq!(set, Err(errno::EPERM));
    // Owner and times are those of the link.
    let set = spec::fuse_setattr_in {
        valid: spec::FATTR_UID | spec::FATTR_MTIME,
        uid: client.uid,
        mtime: 1000,
        ..Default::default()
    };
    client.call(spec::FUSE_SETATTR, node, &body(&set, &[])).expect("attributes of the link");
    assert_eq!(client.getattr(node).expect("link").attr.mtime, 1000);
    stage.intact();
}

#[test]
fn followed_links_end_at_the_share() {
    let stage = Stage::new(SymlinkPolicy::Follow);
    let client = &stage.client;
    // As if the share's root were `/`: none of these lead anywhere in it.
    for name in [&b"absolute"[..], b"absolute-file", b"relative", b"relative-file", b"far", b"winding", b"proc"] {
        let entry = client.lookup(stage.root, name).expect("the link itself");
        assert_eq!(entry.attr.mode & spec::S_IFMT, spec::S_IFLNK, "{:?}", String::from_utf8_lossy(name));
    }
    let parent = client.lookup(stage.root, b"parent").expect("the share's root");
    assert_eq!(parent.attr.ino, client.getattr(stage.root).expect("root").attr.ino);
    assert_eq!(client.lookup(parent.nodeid, b"outside").map(|_| ()), Err(errno::ENOENT));
    let endless = client.lookup(stage.root, b"endless").expect("the link itself");
    assert_eq!(client.open(endless.nodeid, spec::O_RDONLY), Err(errno::ELOOP));
    // And what leads inside does.
    symlink("/dir/inner", stage.folders.shared.join("in")).expect("symlink");
    symlink("../../../file", stage.folders.shared.join("dir/inner")).expect("symlink");
    let inside = client.lookup(stage.root, b"in").expect("the file");
    assert_eq!((inside.nodeid, client.content(inside.nodeid)), (stage.file, Ok(b"public".to_vec())));
}

#[test]
fn links_that_the_guest_makes_lead_nowhere() {
    for policy in [SymlinkPolicy::Opaque, SymlinkPolicy::Follow] {
        let stage = Stage::new(policy);
        let client = &stage.client;
        let outside = stage.folders.outside.to_str().expect("text");
        for (number, target) in ["..", "../outside", outside, "/", "dir/../../outside"].iter().enumerate() {
            let name = format!("made-{number}");
            let made = client.call(spec::FUSE_SYMLINK, stage.dir, &names(&[name.as_bytes(), target.as_bytes()]));
            made.expect("symlink");
            let Ok(entry) = client.lookup(stage.dir, name.as_bytes()) else { continue };
            for hidden in [&b"secret"[..], b"outside", b"etc", b"shared"] {
                assert!(client.lookup(entry.nodeid, hidden).is_err(), "{target} leads to {hidden:?}");
            }
        }
    }
}

#[test]
fn numbers_that_are_not_nodes_are_stale() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    for node in [0, 3, 1000, stage.file + 1000, (1 << 32) - 1, u64::MAX, u64::MAX - 1] {
        assert_eq!(stage.client.getattr(node).map(|_| ()), Err(errno::ESTALE));
        assert_eq!(stage.client.lookup(node, b"file").map(|_| ()), Err(errno::ESTALE));
        assert_eq!(stage.client.open(node, spec::O_RDONLY), Err(errno::ESTALE));
        assert_eq!(stage.client.opendir(node), Err(errno::ESTALE));
    }
}

#[test]
fn handles_belong_to_their_nodes() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let client = &stage.client;
    let fh = client.open(stage.file, spec::O_RDWR).expect("open");
    let dh = client.opendir(stage.dir).expect("opendir");
    for (node, fh) in [(stage.dir, fh), (stage.root, fh), (stage.file, dh), (stage.file, 0), (stage.file, u64::MAX)] {
        assert_eq!(client.read(node, fh, 0, 100), Err(errno::EBADF));
        assert_eq!(client.write(node, fh, 0, b"x"), Err(errno::EBADF));
        assert_eq!(client.release(spec::FUSE_RELEASE, node, fh), Err(errno::EBADF));
    }
    assert_eq!(client.read(stage.dir, dh, 0, 100), Err(errno::EISDIR));
    assert_eq!(client.write(stage.dir, dh, 0, b"x"), Err(errno::EBADF));
    let copy =
        spec::fuse_copy_file_range_in { fh_in: fh, fh_out: dh, nodeid_out: stage.file, len: 1, ..Default::default() };
    assert_eq!(client.call(spec::FUSE_COPY_FILE_RANGE, stage.file, &body(&copy, &[])), Err(errno::EBADF));
    client.release(spec::FUSE_RELEASE, stage.file, fh).expect("release");
    assert_eq!(client.release(spec::FUSE_RELEASE, stage.file, fh), Err(errno::EBADF));
}

#[test]
fn nothing_passes_from_share_to_share() {
    let folders = Folders::new();
    fs::create_dir(folders.shared.join("dir")).expect("mkdir");
    fs::write(folders.shared.join("file"), "first").expect("write");
    fs::write(folders.outside.join("file"), "second").expect("write");
    let both = vec![
        share(&folders.shared, false, SymlinkPolicy::Opaque),
        share(&folders.outside, true, SymlinkPolicy::Opaque),
        share(&folders.outside, false, SymlinkPolicy::Opaque),
    ];
    let client = Client::new(both);
    let (first, third) = (client.walk("0").expect("0"), client.walk("2").expect("2"));
    let read_only = client.walk("1").expect("1");
    assert_eq!(client.rename(first, b"file", third, b"moved", 0), Err(errno::EXDEV));
    assert_eq!(client.rename(first, b"file", third, b"file", spec::RENAME_EXCHANGE), Err(errno::EXDEV));
    assert_eq!(client.rename(third, b"file", read_only, b"moved", 0), Err(errno::EROFS));
    let link = spec::fuse_link_in { oldnodeid: client.walk("0/file").expect("file") };
    assert_eq!(client.call(spec::FUSE_LINK, third, &body(&link, b"linked\0")), Err(errno::EXDEV));
    // The file of the read-only share cannot be had writable by another name in it.
    let link = spec::fuse_link_in { oldnodeid: client.walk("1/file").expect("file") };
    assert_eq!(client.call(spec::FUSE_LINK, third, &body(&link, b"linked\0")), Err(errno::EXDEV));
    let in_root = client.rename(1, b"0", 1, b"new", 0);
    assert_eq!(in_root, Err(errno::EROFS));
    assert_eq!(client.rename(first, b"file", 1, b"new", 0), Err(errno::EROFS));
    assert_eq!(client.create(1, b"new", spec::O_RDWR, 0o666), Err(errno::EROFS));
    for name in [&b"00"[..], b"+0", b"3", b"-1", b"18446744073709551616", b" 0", b"0 "] {
        assert_eq!(client.lookup(1, name).map(|_| ()), Err(errno::ENOENT));
    }
}

#[test]
fn the_parent_of_a_share_is_not_seen() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let above = fs::metadata(stage.folders.shared.parent().expect("parent")).expect("stat").ino();
    for opcode in [spec::FUSE_READDIR, spec::FUSE_READDIRPLUS] {
        let fh = stage.client.opendir(stage.root).expect("opendir");
        let asked = spec::fuse_read_in { fh, size: 65536, ..Default::default() };
        let reply = stage.client.call(opcode, stage.root, &body(&asked, &[])).expect("entries");
        let ino = above.to_le_bytes();
        assert!(!reply.windows(8).any(|bytes| bytes == ino), "the number of the directory above is in the reply");
    }
}

#[test]
fn what_the_host_moves_away_is_not_found_again() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    fs::create_dir(stage.folders.shared.join("dir/sub")).expect("mkdir");
    let sub = stage.client.walk("0/dir/sub").expect("sub");
    // A directory that the server does not hold open is found by its name, and must be itself.
    fs::rename(stage.folders.shared.join("dir/sub"), stage.folders.shared.join("dir/old")).expect("rename");
    symlink("../../outside", stage.folders.shared.join("dir/sub")).expect("symlink");
    assert_eq!(stage.client.lookup(sub, b"secret").map(|_| ()), Err(errno::ESTALE));
    assert_eq!(stage.client.create(sub, b"new", spec::O_RDWR, 0o666), Err(errno::ESTALE));
    assert_eq!(stage.client.opendir(sub), Err(errno::ESTALE));
    fs::remove_file(stage.folders.shared.join("dir/sub")).expect("unlink");
    fs::create_dir(stage.folders.shared.join("dir/sub")).expect("mkdir");
    assert_eq!(stage.client.lookup(sub, b"secret").map(|_| ()), Err(errno::ESTALE));
    assert_eq!(stage.client.getattr(sub).map(|_| ()), Err(errno::ESTALE));
}

#[test]
fn what_replaces_a_file_is_not_taken_for_it() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let path = stage.folders.shared.join("file");
    fs::rename(&path, stage.folders.shared.join("away")).expect("rename");
    symlink("../outside/secret", &path).expect("symlink");
    let set = |valid| spec::fuse_setattr_in { valid, uid: 1, mode: 0o777, size: 0, ..Default::default() };
    for valid in [spec::FATTR_UID, spec::FATTR_MODE, spec::FATTR_SIZE, spec::FATTR_MTIME | spec::FATTR_MTIME_NOW] {
        let result = stage.client.call(spec::FUSE_SETATTR, stage.file, &body(&set(valid), &[]));
        assert_eq!(result, Err(errno::ESTALE));
    }
    assert_eq!(stage.client.open(stage.file, spec::O_RDWR), Err(errno::ESTALE));
    assert_eq!(stage.client.call(spec::FUSE_READLINK, stage.file, &[]), Err(errno::EINVAL));
    let link = spec::fuse_link_in { oldnodeid: stage.file };
    assert_eq!(stage.client.call(spec::FUSE_LINK, stage.dir, &body(&link, b"hard\0")), Err(errno::ESTALE));
    let get = spec::fuse_getxattr_in { size: 100, padding: 0 };
    assert_eq!(stage.client.call(spec::FUSE_GETXATTR, stage.file, &body(&get, b"user.x\0")), Err(errno::ESTALE));
}

#[test]
#[cfg(target_os = "linux")]
fn special_files_of_the_host_are_never_opened() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let at = |name: &str| stage.folders.shared.join(name);
    nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).expect("mkfifo");
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).expect("bind");
    let mut all = vec!["fifo", "socket"];
    if mknod(&at("null"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).is_ok() {
        let rdev = stage.client.lookup(stage.root, b"null").expect("null").attr.rdev;
        assert_eq!(rdev, 1 << 8 | 3);
        all.push("null");
    }
    for name in all {
        let node = stage.client.lookup(stage.root, name.as_bytes()).expect("special file").nodeid;
        for flags in [spec::O_RDONLY, spec::O_WRONLY, spec::O_RDWR | spec::O_TRUNC] {
            assert_eq!(stage.client.open(node, flags), Err(errno::EACCES), "{name}");
        }
        let created = stage.client.create(stage.root, name.as_bytes(), spec::O_RDWR, 0o666);
        assert_eq!(created, Err(errno::EEXIST));
    }
}

#[test]
fn devices_cannot_be_made() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    for kind in [spec::S_IFCHR, spec::S_IFBLK, spec::S_IFLNK, spec::S_IFDIR, 0o150_000, 0o170_000] {
        let mknod = spec::fuse_mknod_in { mode: kind | 0o666, rdev: 1 << 8 | 3, ..Default::default() };
        let made = stage.client.call(spec::FUSE_MKNOD, stage.root, &body(&mknod, b"made\0"));
        assert_eq!(made, Err(errno::EPERM));
    }
    let rename = spec::fuse_rename2_in { newdir: stage.root, flags: spec::RENAME_WHITEOUT, padding: 0 };
    let made = stage.client.call(spec::FUSE_RENAME2, stage.root, &body(&rename, &names(&[b"file", b"x"])));
    assert_eq!(made, Err(errno::EINVAL));
}

#[test]
fn a_shared_file_is_all_there_is() {
    let folders = Folders::new();
    let path = folders.outside.join("only");
    fs::write(&path, "content").expect("write");
    let client = Client::new(vec![share(&path, false, SymlinkPolicy::Opaque)]);
    let node = client.walk("0").expect("file");
    assert_eq!(client.content(node), Ok(b"content".to_vec()));
    assert_eq!(client.lookup(node, b"secret").map(|_| ()), Err(errno::ENOTDIR));
    assert_eq!(client.create(node, b"x", spec::O_RDWR, 0o666), Err(errno::ENOTDIR));
    assert_eq!(client.opendir(node), Err(errno::ENOTDIR));
    // It stays the file that it was, as a bind mount does.
    fs::write(folders.outside.join("other"), "replaced").expect("write");
    fs::rename(folders.outside.join("other"), &path).expect("rename");
    assert_eq!(client.content(node), Ok(b"content".to_vec()));
    assert_eq!(client.getattr(node).expect("attributes").attr.nlink, 0);
}

#[test]
fn attributes_of_the_host_are_not_the_guests() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let call = |opcode, body: Vec<u8>| stage.client.call(opcode, stage.file, &body);
    for name in ["trusted.overlay.opaque", "security.selinux", "security.ima", "system.posix_acl_access", "none"] {
        let set = spec::fuse_setxattr_in { size: 1, flags: 0 };
        let set = call(spec::FUSE_SETXATTR, body(&set, format!("{name}\0v").as_bytes()));
        assert!(matches!(set, Err(errno::EPERM | errno::EOPNOTSUPP)), "{name}: {set:?}");
        let removed = call(spec::FUSE_REMOVEXATTR, names(&[name.as_bytes()]));
        assert!(matches!(removed, Err(errno::EPERM | errno::EOPNOTSUPP)), "{name}: {removed:?}");
        let get = spec::fuse_getxattr_in { size: 100, padding: 0 };
        let got = call(spec::FUSE_GETXATTR, body(&get, &names(&[name.as_bytes()])));
        assert!(matches!(got, Err(errno::ENODATA | errno::EOPNOTSUPP)), "{name}: {got:?}");
    }
}

#[test]
fn read_only_is_kept_by_the_host() {
    let folders = Folders::new();
    fs::create_dir(folders.shared.join("dir")).expect("mkdir");
    fs::write(folders.shared.join("file"), "content").expect("write");
    symlink("file", folders.shared.join("link")).expect("symlink");
    let client = Client::new(vec![share(&folders.shared, true, SymlinkPolicy::Opaque)]);
    let (root, file) = (client.walk("0").expect("0"), client.walk("0/file").expect("file"));
    let before = inventory(&folders.shared);
    let refused = |what: &str, result: Result<Vec<u8>, Failure>| assert_eq!(result, Err(errno::EROFS), "{what}");
    let call = |opcode, node, body: Vec<u8>| client.call(opcode, node, &body);
    for flags in [spec::O_WRONLY, spec::O_RDWR, spec::O_TRUNC, spec::O_RDWR | spec::O_APPEND, spec::O_ACCMODE] {
        assert_eq!(client.open(file, flags), Err(errno::EROFS));
    }
    for valid in (0..12).map(|bit| 1 << bit).chain([0, u32::MAX]) {
        let set = spec::fuse_setattr_in { valid, ..Default::default() };
        refused("setattr", call(spec::FUSE_SETATTR, file, body(&set, &[])));
        refused("setattr", call(spec::FUSE_SETATTR, root, body(&set, &[])));
    }
    assert_eq!(client.create(root, b"new", spec::O_RDWR, 0o666), Err(errno::EROFS));
    assert_eq!(client.create(root, b"file", spec::O_RDONLY, 0o666), Err(errno::EROFS));
    let tmpfile = spec::fuse_create_in { flags: spec::O_RDWR, mode: 0o666, ..Default::default() };
    refused("tmpfile", call(spec::FUSE_TMPFILE, root, body(&tmpfile, b"x\0")));
    refused("mkdir", call(spec::FUSE_MKDIR, root, body(&spec::fuse_mkdir_in::default(), b"new\0")));
    refused("mknod", call(spec::FUSE_MKNOD, root, body(&spec::fuse_mknod_in::default(), b"new\0")));
    refused("symlink", call(spec::FUSE_SYMLINK, root, names(&[b"new", b"target"])));
    refused("link", call(spec::FUSE_LINK, root, body(&spec::fuse_link_in { oldnodeid: file }, b"new\0")));
    refused("unlink", call(spec::FUSE_UNLINK, root, names(&[b"file"])));
    refused("rmdir", call(spec::FUSE_RMDIR, root, names(&[b"dir"])));
    refused("rename", client.rename(root, b"file", root, b"new", 0).map(|()| Vec::new()));
    let set = spec::fuse_setxattr_in { size: 1, flags: 0 };
    refused("setxattr", call(spec::FUSE_SETXATTR, file, body(&set, b"user.x\0v")));
    refused("removexattr", call(spec::FUSE_REMOVEXATTR, file, names(&[b"user.x"])));
    let fh = client.open(file, spec::O_RDONLY).expect("open");
    assert_eq!(client.write(file, fh, 0, b"x"), Err(errno::EROFS));
    let allocate = spec::fuse_fallocate_in { fh, length: 100, ..Default::default() };
    refused("fallocate", call(spec::FUSE_FALLOCATE, file, body(&allocate, &[])));
    let copy = spec::fuse_copy_file_range_in { fh_in: fh, fh_out: fh, nodeid_out: file, len: 1, ..Default::default() };
    refused("copy", call(spec::FUSE_COPY_FILE_RANGE, file, body(&copy, &[])));
    let set = spec::fuse_setattr_in { valid: spec::FATTR_SIZE | spec::FATTR_FH, fh, ..Default::default() };
    refused("truncate", call(spec::FUSE_SETATTR, file, body(&set, &[])));
    assert_eq!(client.content(file), Ok(b"content".to_vec()));
    assert_eq!(inventory(&folders.shared), before);
}

#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn reading_a_read_only_share_leaves_no_time_of_access() {
    let folders = Folders::new();
    let path = folders.shared.join("file");
    fs::write(&path, "content").expect("write");
    let old = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
    fs::File::options().write(true).open(&path).expect("open").set_times(old).expect("times");
    fs::File::open(&folders.shared).expect("open").set_times(old).expect("times");
    let client = Client::new(vec![share(&folders.shared, true, SymlinkPolicy::Opaque)]);
    client.content(client.walk("0/file").expect("file")).expect("content");
    client.list(client.walk("0").expect("0"), spec::FUSE_READDIR).expect("entries");
    assert_eq!(
        (fs::metadata(&path).expect("stat").atime(), fs::metadata(&folders.shared).expect("stat").atime()),
        (0, 0)
    );
}

#[test]
fn names_of_entries_are_given_back_as_they_are() {
    let stage = Stage::new(SymlinkPolicy::Opaque);
    let long = [b'n'; 255];
    for name in [&b"\xff\xfe"[..], b"...", b"..a", b"\n", &long] {
        let (node, fh) = stage.client.create(stage.dir, name, spec::O_RDWR, 0o600).expect("create");
        stage.client.release(spec::FUSE_RELEASE, node, fh).expect("release");
        assert_eq!(stage.client.lookup(stage.dir, name).expect("lookup").nodeid, node);
    }
    assert_eq!(stage.client.lookup(stage.dir, &[b'n'; 256]).map(|_| ()), Err(errno::ENAMETOOLONG));
    let listed = stage.client.list(stage.dir, spec::FUSE_READDIRPLUS).expect("entries");
    assert_eq!(listed.len(), 7);
    let reply = stage.client.call(spec::FUSE_STATFS, stage.dir, &[]).expect("statfs");
    assert_eq!(parse::<spec::fuse_kstatfs>(&reply).namelen, 255);
}

/// A process that gave up rights after it made the server serves on, and its files are its own.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn rights_that_were_given_up_are_not_missed() {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let folders = Folders::new();
    let mut client = Client::new(vec![share(&folders.shared, false, SymlinkPolicy::Opaque)]);
    let own = client.uid;
    (client.uid, client.gid) = (1234, 5678);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let CapabilitySets { effective, permitted, inheritable } = capabilities(None).expect("capget");
            let given_up = CapabilitySet::SETUID | CapabilitySet::SETGID;
            let left = CapabilitySets { effective: effective - given_up, permitted: permitted - given_up, inheritable };
            set_capabilities(None, left).expect("capset");
            client.create(2, b"file", spec::O_RDWR, 0o600).expect("create");
            assert_eq!(capabilities(None).expect("capget").effective, effective - given_up);
        });
    });
    assert_eq!(fs::metadata(folders.shared.join("file")).expect("stat").uid(), own);
}
