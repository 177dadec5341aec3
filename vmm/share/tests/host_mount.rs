//! The server behind this machine's own `/dev/fuse`: what real programs see through a real kernel.
//!
//! Each test has a mount namespace of its own, so that no mount outlives it. Where there is no `/dev/fuse`, or no right
//! to mount, the tests say so and pass.
#![cfg(target_os = "linux")]

mod mounted;
mod posix;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mounted::Mounted;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use supermachine_share::{Limits, ShareConfig, SymlinkPolicy};

/// Within this time the guest sees what the host has changed.
const SEEN: Duration = Duration::from_secs(1);

fn writable(host: &Path) -> Vec<ShareConfig> {
    vec![ShareConfig::open(host).expect("share")]
}

fn error_of<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// What is said to be different in the documentation.
#[cfg(not(feature = "portable"))]
const DIFFERENT: &[&str] = &[];
#[cfg(feature = "portable")]
const DIFFERENT: &[&str] =
    &["unnamed file", "fifo and socket", "owner of a fifo", "fallocate", "setuid and fallocate", "times"];

/// The table in an ordinary directory and in a share of one: nothing is different.
#[test]
fn a_share_behaves_as_the_directory_does() {
    let Some(mounted) = Mounted::new(writable) else { return };
    let local = tempfile::TempDir::new().expect("folder");
    let mut different = Vec::new();
    for (number, (name, case)) in posix::cases().into_iter().enumerate() {
        let here = local.path().join(number.to_string());
        let there = mounted.guest.join("0").join(number.to_string());
        fs::create_dir(&here).expect("mkdir");
        fs::create_dir(&there).expect("mkdir");
        let (expected, seen) = (case(&here), case(&there));
        if (expected != seen) != DIFFERENT.contains(&name) {
            different.push(format!("{name}\n  directory: {expected:?}\n  share: {seen:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_host_changes_and_the_guest_sees_it_within_a_second() {
    let Some(mounted) = Mounted::new(writable) else { return };
    let (host, guest) = (&mounted.host, mounted.guest.join("0"));
    fs::create_dir_all(host.join("dir/sub")).expect("mkdir");
    for name in ["same-size", "grows", "goes", "replaced", "mode", "dir/sub/deep"] {
        fs::write(host.join(name), "before").expect("write");
        assert_eq!(fs::read(guest.join(name)).expect("read"), b"before");
    }
    assert!(fs::metadata(guest.join("new")).is_err());
    symlink("before", host.join("link")).expect("symlink");
    assert_eq!(fs::read_link(guest.join("link")).expect("readlink"), Path::new("before"));
    let open = fs::File::open(guest.join("same-size")).expect("open");
    open.read_exact_at(&mut [0; 6], 0).expect("read");

    fs::write(host.join("same-size"), "after!").expect("write");
    fs::File::options().append(true).open(host.join("grows")).expect("open").write_all(b" and after").expect("write");
    fs::remove_file(host.join("goes")).expect("unlink");
    fs::write(host.join("temporary"), "other file").expect("write");
    fs::rename(host.join("temporary"), host.join("replaced")).expect("rename");
    fs::set_permissions(host.join("mode"), fs::Permissions::from_mode(0o4711)).expect("chmod");
    fs::write(host.join("new"), "new").expect("write");
    fs::rename(host.join("dir"), host.join("moved")).expect("rename");
    fs::remove_file(host.join("link")).expect("unlink");
    symlink("after", host.join("link")).expect("symlink");
    std::thread::sleep(SEEN);

    let mut back = [0; 6];
    open.read_exact_at(&mut back, 0).expect("read");
    assert_eq!(&back, b"after!");
    assert_eq!(fs::read(guest.join("same-size")).expect("read"), b"after!");
    assert_eq!(fs::read(guest.join("grows")).expect("read"), b"before and after");
    assert_eq!(error_of(fs::read(guest.join("goes"))), Some(libc::ENOENT));
    assert_eq!(fs::read(guest.join("replaced")).expect("read"), b"other file");
    assert_eq!(fs::metadata(guest.join("mode")).expect("stat").mode() & 0o7777, 0o4711);
    assert_eq!(fs::read(guest.join("new")).expect("read"), b"new");
    assert_eq!(error_of(fs::read(guest.join("dir/sub/deep"))), Some(libc::ENOENT));
    assert_eq!(fs::read(guest.join("moved/sub/deep")).expect("read"), b"before");
    assert_eq!(fs::read_link(guest.join("link")).expect("readlink"), Path::new("after"));
}

#[test]
fn the_guest_writes_and_it_is_on_the_host_at_once() {
    let Some(mounted) = Mounted::new(writable) else { return };
    let (host, guest) = (&mounted.host, mounted.guest.join("0"));
    let mut file = fs::File::create(guest.join("f")).expect("create");
    for round in 0..20 {
        writeln!(file, "line {round}").expect("write");
        let lines = fs::read_to_string(host.join("f")).expect("read").lines().count();
        assert_eq!(lines, round + 1);
    }
    file.set_len(3).expect("truncate");
    assert_eq!(fs::metadata(host.join("f")).expect("stat").len(), 3);
    // Appended behind what the host has appended meanwhile.
    let mut log = fs::File::options().append(true).open(guest.join("f")).expect("open");
    fs::File::options().append(true).open(host.join("f")).expect("open").write_all(b"<host>").expect("write");
    log.write_all(b"<guest>").expect("write");
    assert_eq!(fs::read(host.join("f")).expect("read"), b"lin<host><guest>");
    // Far into a file of more than 4 GiB.
    let big = fs::File::create(guest.join("big")).expect("create");
    big.write_all_at(b"far away", (4 << 30) + 5).expect("write");
    assert_eq!(fs::metadata(host.join("big")).expect("stat").len(), (4 << 30) + 13);
    let mut back = [0; 8];
    fs::File::open(host.join("big")).expect("open").read_exact_at(&mut back, (4 << 30) + 5).expect("read");
    assert_eq!(&back, b"far away");
}

#[test]
fn a_read_only_share_refuses_everything() {
    let Some(mounted) = Mounted::new(|host| {
        fs::write(host.join("f"), "content").expect("write");
        fs::create_dir(host.join("d")).expect("mkdir");
        vec![ShareConfig { read_only: true, ..ShareConfig::open(host).expect("share") }]
    }) else {
        return;
    };
    let guest = mounted.guest.join("0");
    let refused = [
        error_of(fs::write(guest.join("f"), "x")),
        error_of(fs::write(guest.join("new"), "x")),
        error_of(fs::create_dir(guest.join("new"))),
        error_of(fs::remove_file(guest.join("f"))),
        error_of(fs::remove_dir(guest.join("d"))),
        error_of(fs::rename(guest.join("f"), guest.join("g"))),
        error_of(fs::hard_link(guest.join("f"), guest.join("g"))),
        error_of(symlink("f", guest.join("g"))),
        error_of(fs::set_permissions(guest.join("f"), fs::Permissions::from_mode(0o777))),
        error_of(std::os::unix::fs::chown(guest.join("f"), Some(1), None)),
        error_of(
            fs::File::open(guest.join("f"))
                .and_then(|file| file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH))),
        ),
    ];
    assert_eq!(refused, [Some(libc::EROFS); 11]);
    assert_eq!(fs::read(guest.join("f")).expect("read"), b"content");
}

#[test]
fn a_single_file_is_a_share() {
    let Some(mounted) = Mounted::new(|host| {
        fs::write(host.join("hosts"), "127.0.0.1 localhost\n").expect("write");
        fs::write(host.join("secret"), "secret").expect("write");
        vec![ShareConfig::open(&host.join("hosts")).expect("share")]
    }) else {
        return;
    };
    let guest = mounted.guest.join("0");
    fs::File::options().append(true).open(&guest).expect("open").write_all(b"::1 localhost\n").expect("write");
    assert_eq!(fs::read(mounted.host.join("hosts")).expect("read"), b"127.0.0.1 localhost\n::1 localhost\n");
    fs::write(&guest, "short").expect("write");
    assert_eq!(fs::read(mounted.host.join("hosts")).expect("read"), b"short");
    assert_eq!(error_of(fs::rename(&guest, mounted.guest.join("1"))), Some(libc::EROFS));
    assert_eq!(error_of(fs::remove_file(&guest)), Some(libc::EROFS));
    let all: Vec<_> =
        fs::read_dir(&mounted.guest).expect("readdir").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(all, ["0"]);
}

#[test]
fn a_share_that_is_added_later_is_there_within_a_second() {
    let Some(mounted) = Mounted::new(|_| Vec::new()) else { return };
    assert_eq!(error_of(fs::metadata(mounted.guest.join("0"))), Some(libc::ENOENT));
    assert_eq!(fs::read_dir(&mounted.guest).expect("readdir").count(), 0);
    fs::write(mounted.host.join("f"), "content").expect("write");
    assert_eq!(mounted.server.add(ShareConfig::open(&mounted.host).expect("share")).expect("add"), 0);
    std::thread::sleep(SEEN);
    assert_eq!(fs::read(mounted.guest.join("0/f")).expect("read"), b"content");
    assert_eq!(fs::read_dir(&mounted.guest).expect("readdir").count(), 1);
}

#[test]
fn each_file_system_below_a_share_tells_its_own_size() {
    let Some(mounted) = Mounted::new(writable) else { return };
    let guest = mounted.guest.join("0");
    for (name, size) in [("small", 1 << 20), ("large", 1 << 24)] {
        let below = mounted.host.join(name);
        fs::create_dir(&below).expect("mkdir");
        let options = format!("size={size},nr_inodes=100");
        mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("mount");
        fs::write(below.join("file"), [1; 5000]).expect("write");
        fs::create_dir(below.join("dir")).expect("mkdir");
    }
    let sizes = |path: &Path| {
        let stat = rustix::fs::statvfs(path).expect("statvfs");
        (stat.f_blocks, stat.f_bsize, stat.f_frsize, stat.f_bfree, stat.f_files, stat.f_ffree, stat.f_namemax)
    };
    for name in ["small", "large", "small/dir", "large/file"] {
        assert_eq!(sizes(&guest.join(name)), sizes(&mounted.host.join(name)), "{name}");
    }
    assert_eq!(sizes(&guest.join("small")).0 << 4, sizes(&guest.join("large")).0);
    assert_eq!(sizes(&guest).0, sizes(&mounted.host).0);
    for name in ["small", "large"] {
        umount2(&mounted.host.join(name), MntFlags::MNT_DETACH).expect("umount");
    }
}

#[test]
fn followed_links_are_directories_in_two_places() {
    let Some(mounted) = Mounted::new(|host| {
        fs::create_dir_all(host.join("data/v1/sub")).expect("mkdir");
        fs::write(host.join("data/v1/sub/f"), "one").expect("write");
        symlink("data/v1", host.join("current")).expect("symlink");
        symlink("/data/v1/sub/f", host.join("file")).expect("symlink");
        symlink("nowhere", host.join("dangling")).expect("symlink");
        symlink("..", host.join("data/up")).expect("symlink");
        vec![ShareConfig { symlinks: SymlinkPolicy::Follow, ..ShareConfig::open(host).expect("share") }]
    }) else {
        return;
    };
    let guest = mounted.guest.join("0");
    for _ in 0..2 {
        for path in ["data/v1/sub/f", "current/sub/f", "file", "data/up/current/sub/f", "data/up/data/up/file"] {
            assert_eq!(fs::read(guest.join(path)).expect(path), b"one");
        }
    }
    assert!(fs::symlink_metadata(guest.join("current")).expect("stat").is_dir());
    assert!(fs::symlink_metadata(guest.join("file")).expect("stat").is_file());
    assert!(fs::symlink_metadata(guest.join("dangling")).expect("stat").is_symlink());
    fs::write(guest.join("current/sub/new"), "new").expect("write");
    assert_eq!(fs::read(guest.join("data/v1/sub/new")).expect("read"), b"new");
    fs::remove_file(guest.join("dangling")).expect("unlink");
    fs::rename(guest.join("data/v1"), guest.join("data/v2")).expect("rename");
    assert_eq!(fs::read(guest.join("data/v2/sub/f")).expect("read"), b"one");
    fs::remove_file(guest.join("file")).expect("unlink");
    assert!(mounted.host.join("data/v2/sub/f").exists(), "the link was removed, not what it led to");
}

#[test]
fn denied_links_cannot_be_followed_or_made() {
    let Some(mounted) = Mounted::new(|host| {
        fs::write(host.join("f"), "content").expect("write");
        symlink("f", host.join("link")).expect("symlink");
        vec![ShareConfig { symlinks: SymlinkPolicy::Deny, ..ShareConfig::open(host).expect("share") }]
    }) else {
        return;
    };
    let guest = mounted.guest.join("0");
    assert_eq!(error_of(fs::read(guest.join("link"))), Some(libc::EACCES));
    assert_eq!(error_of(symlink("f", guest.join("new"))), Some(libc::EPERM));
    assert!(fs::symlink_metadata(guest.join("link")).expect("stat").is_symlink());
    fs::remove_file(guest.join("link")).expect("unlink");
}

/// How many descriptors of what lies below `dir` this process has open: other tests open and close theirs meanwhile.
fn descriptors(dir: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("fds");
    // One that another test closes meanwhile has no link to read.
    open.filter(|fd| fs::read_link(fd.as_ref().expect("fd").path()).is_ok_and(|path| path.starts_with(dir))).count()
}

/// Many more directories than the server may keep open, some of which move.
#[test]
fn few_descriptors_serve_many_directories() {
    let limits = Limits { directories: 3, ..Limits::default() };
    let Some(mounted) = Mounted::with_limits(writable, limits) else { return };
    let guest = mounted.guest.join("0");
    let paths: Vec<PathBuf> =
        (0..60).map(|number| PathBuf::from(format!("top/{}/{}/{number}", number % 3, number % 7))).collect();
    for path in &paths {
        fs::create_dir_all(guest.join(path)).expect("mkdir");
        fs::write(guest.join(path).join("f"), path.to_string_lossy().as_bytes()).expect("write");
    }
    let inside = fs::File::open(guest.join("top/1")).expect("open");
    let before = descriptors(&mounted.host);
    assert!(before > 0);
    fs::rename(guest.join("top"), guest.join("moved")).expect("rename");
    for path in &paths {
        let path = Path::new("moved").join(path.strip_prefix("top").expect("below"));
        assert!(fs::read(guest.join(&path).join("f")).expect("read").starts_with(b"top/"));
        fs::set_permissions(guest.join(&path), fs::Permissions::from_mode(0o711)).expect("chmod");
    }
    assert!(descriptors(&mounted.host) <= before + 3);
    assert!(mounted.server.usage().directories <= 3);
    assert!(mounted.server.usage().nodes > 120);
    let file = rustix::fs::openat(&inside, "1/1/f", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    file.expect("through a directory that was moved");
}

#[test]
fn nothing_stays_open_after_the_guest_is_gone() {
    let Some(mounted) = Mounted::new(writable) else { return };
    let guest = mounted.guest.join("0");
    fs::create_dir(guest.join("d")).expect("mkdir");
    let open = fs::File::create(guest.join("d/f")).expect("create");
    let server = Arc::clone(&mounted.server);
    assert!(server.usage().nodes > 2 && server.usage().handles == 1);
    drop(open);
    // The kernel has sent the release before it sends this.
    assert!(fs::metadata(guest.join("none")).is_err());
    drop(mounted);
    assert_eq!(server.usage().handles, 0);
    server.reset();
    assert_eq!((server.usage().nodes, server.usage().handles, server.usage().directories), (1, 0, 0));
}

/// Prints how long things take in a share and beside it.
#[test]
#[ignore = "a measurement, of some 30 s"]
fn measure() {
    let Some(mounted) = Mounted::on_memory(writable) else { return };
    let local = mounted.host.join("local");
    let share = mounted.guest.join("0/share");
    for (name, dir) in [("local", &local), ("share", &share)] {
        fs::create_dir(dir).expect("mkdir");
        let files: Vec<_> = (0..100_000).map(|number| dir.join(format!("{}-{number}", number % 10))).collect();
        let time = |what: &str, work: &dyn Fn(&Path)| {
            let start = Instant::now();
            files.iter().for_each(|file| work(file));
            let each = start.elapsed() / files.len() as u32;
            println!("{name}.{what} {each:?} each, {:?}", mounted.server.usage());
        };
        time("create", &|file| fs::write(file, "small").expect("write"));
        time("stat", &|file| assert!(fs::metadata(file).expect("stat").is_file()));
        time("read", &|file| drop(fs::read(file).expect("read")));
        let start = Instant::now();
        assert_eq!(
            fs::read_dir(dir)
                .expect("readdir")
                .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.metadata().is_ok()))
                .count(),
            files.len()
        );
        println!("{name}.list {:?}", start.elapsed());
        time("unlink", &|file| fs::remove_file(file).expect("unlink"));
        let (data, file) = (vec![7; 1 << 20], fs::File::create(dir.join("big")).expect("create"));
        let start = Instant::now();
        (0..1024).for_each(|block| file.write_all_at(&data, block << 20).expect("write"));
        println!("{name}.write 1 GiB in {:?}", start.elapsed());
        let (mut back, file) = (vec![0; 1 << 20], fs::File::open(dir.join("big")).expect("open"));
        let start = Instant::now();
        (0..1024).for_each(|block| file.read_exact_at(&mut back, block << 20).expect("read"));
        println!("{name}.read 1 GiB in {:?}", start.elapsed());
    }
}

#[test]
fn a_tree_is_the_file_system_itself_and_shows_what_is_mounted_in_it() {
    let Some(mounted) = Mounted::of_tree() else { return };
    let (host, guest) = (&mounted.host, &mounted.guest);
    fs::write(host.join("file"), "one").expect("write");
    fs::create_dir(host.join("dir")).expect("mkdir");
    nix::mount::mount(Some("proc"), &host.join("dir"), Some("proc"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("proc");
    let mut names: Vec<_> = fs::read_dir(guest).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["dir", "file"]);
    // Nothing is believed: what the host changes is there at once.
    assert_eq!(fs::read(guest.join("file")).expect("read"), b"one");
    fs::write(host.join("file"), "another").expect("write");
    assert_eq!(fs::read(guest.join("file")).expect("read"), b"another");
    // Files of proc say that they are empty.
    assert_eq!(fs::read(guest.join("dir/version")).expect("read"), fs::read("/proc/version").expect("read"));
    fs::rename(guest.join("file"), guest.join("moved")).expect("rename in the root");
    fs::hard_link(guest.join("moved"), guest.join("linked")).expect("link");
    fs::write(guest.join("new"), "new").expect("create in the root");
    fs::remove_file(guest.join("moved")).expect("unlink in the root");
    fs::set_permissions(guest, fs::Permissions::from_mode(0o711)).expect("chmod of the root");
    assert_eq!(fs::metadata(host).expect("stat").mode() & 0o7777, 0o711);
    assert_eq!(
        fs::metadata(guest.join("..")).expect("above").ino(),
        fs::metadata(guest.parent().expect("parent")).expect("stat").ino()
    );
    assert_eq!(fs::read(host.join("linked")).expect("read"), b"another");
    assert_eq!(fs::read(host.join("new")).expect("read"), b"new");
}
