//! Owners and permissions, as root and as another user.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::process::{Gid, Uid};

use super::{Case, Log, create, open};

pub(super) const CASES: &[Case] = &[
    ("owners of new files", owners),
    ("owner of a fifo", owner_of_fifo),
    ("permissions", permissions),
    ("sticky directory", sticky),
    ("setgid directory", setgid_directory),
    ("setuid and writes", setuid_writes),
    ("setuid and truncation", setuid_truncation),
    ("setuid and chown", setuid_chown),
    ("setuid and fallocate", setuid_fallocate),
    ("supplementary group", supplementary),
];

/// Does something as user 1234 of group 5678, who has no other rights.
fn as_user<T: Send>(groups: &[u32], work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(1234), Gid::from_raw(5678));
            let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
            rustix::thread::set_thread_groups(&groups).expect("setgroups");
            rustix::thread::set_thread_res_gid(gid, gid, gid).expect("setresgid");
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("setresuid");
            work()
        });
        worker.join().expect("worker")
    })
}

fn open_to_all(dir: &Path, mode: u32) -> PathBuf {
    let path = dir.join("open");
    fs::create_dir(&path).expect("mkdir");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    path
}

fn about(path: &Path) -> String {
    fs::symlink_metadata(path).map_or_else(
        |error| error.kind().to_string(),
        |meta| format!("{:o} {}:{} {}", meta.mode(), meta.uid(), meta.gid(), meta.len()),
    )
}

fn owners(dir: &Path) -> Log {
    let mut log = Log::default();
    let open_dir = open_to_all(dir, 0o777);
    as_user(&[], || {
        drop(open(&open_dir.join("file"), libc::O_RDWR | libc::O_CREAT, 0o6755).expect("create"));
        fs::DirBuilder::new().mode(0o1755).create(open_dir.join("dir")).expect("mkdir");
        std::os::unix::fs::symlink("x", open_dir.join("link")).expect("symlink");
    });
    for name in ["file", "dir", "link"] {
        log.say(name, about(&open_dir.join(name)));
    }
    chown(open_dir.join("file"), Some(7), None).expect("chown");
    chown(open_dir.join("dir"), Some(8), Some(9)).expect("chown");
    std::os::unix::fs::lchown(open_dir.join("link"), Some(10), Some(11)).expect("lchown");
    for name in ["file", "dir", "link"] {
        log.say(name, about(&open_dir.join(name)));
    }
    log
}

fn owner_of_fifo(dir: &Path) -> Log {
    let mut log = Log::default();
    let open_dir = open_to_all(dir, 0o777);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    as_user(&[], || log.end("mkfifo", nix::unistd::mkfifo(&open_dir.join("fifo"), mode)));
    log.say("fifo", about(&open_dir.join("fifo")));
    log
}

fn permissions(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    let file = dir.join("secret");
    drop(open(&file, libc::O_RDWR | libc::O_CREAT, 0o600).expect("create"));
    fs::create_dir(dir.join("closed")).expect("mkdir");
    drop(create(&dir.join("closed/in")));
    fs::set_permissions(dir.join("closed"), fs::Permissions::from_mode(0o700)).expect("chmod");
    as_user(&[], || {
        log.end("open", fs::File::open(&file));
        log.end("truncate", nix::unistd::truncate(&file, 0));
        log.end("chmod", fs::set_permissions(&file, fs::Permissions::from_mode(0o777)));
        log.end("chown", chown(&file, Some(1234), None));
        log.end("unlink", fs::remove_file(&file));
        log.end("create", fs::write(dir.join("new"), "x"));
        log.end("mkdir", fs::create_dir(dir.join("new")));
        log.end("rename", fs::rename(&file, dir.join("other")));
        log.end("link", fs::hard_link(&file, dir.join("hard")));
        log.end("below closed", fs::metadata(dir.join("closed/in")));
        log.end("list closed", fs::read_dir(dir.join("closed")));
        log.end("stat", fs::metadata(&file));
        log.end("access", nix::unistd::access(&file, nix::unistd::AccessFlags::R_OK));
    });
    log
}

fn sticky(dir: &Path) -> Log {
    let mut log = Log::default();
    let open_dir = open_to_all(dir, 0o1777);
    drop(create(&open_dir.join("roots")));
    as_user(&[], || {
        drop(create(&open_dir.join("mine")));
        log.end("other's", fs::remove_file(open_dir.join("roots")));
        log.end("rename other's", fs::rename(open_dir.join("roots"), open_dir.join("x")));
        log.end("rename over other's", fs::rename(open_dir.join("mine"), open_dir.join("roots")));
        log.end("own", fs::remove_file(open_dir.join("mine")));
    });
    log
}

fn setgid_directory(dir: &Path) -> Log {
    let mut log = Log::default();
    let open_dir = open_to_all(dir, 0o777);
    chown(&open_dir, Some(0), Some(4321)).expect("chown");
    fs::set_permissions(&open_dir, fs::Permissions::from_mode(0o2777)).expect("chmod");
    as_user(&[], || {
        drop(open(&open_dir.join("file"), libc::O_RDWR | libc::O_CREAT, 0o2775).expect("create"));
        fs::create_dir(open_dir.join("dir")).expect("mkdir");
        drop(create(&open_dir.join("dir/below")));
    });
    drop(open(&open_dir.join("by-root"), libc::O_RDWR | libc::O_CREAT, 0o2775).expect("create"));
    for name in ["file", "dir", "dir/below", "by-root"] {
        log.say(name, about(&open_dir.join(name)));
    }
    log
}

fn privileged(dir: &Path, name: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, "content").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    path
}

const MODES: [u32; 4] = [0o4777, 0o2777, 0o2767, 0o6777];

fn setuid_writes(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    for mode in MODES {
        let path = privileged(dir, &format!("{mode:o}"), mode);
        let file = open(&path, libc::O_RDWR, 0).expect("open");
        file.write_all_at(b"root", 0).expect("write");
        log.say("by root", about(&path));
        as_user(&[], || open(&path, libc::O_RDWR, 0).expect("open").write_all_at(b"user", 0).expect("write"));
        log.say("by user", about(&path));
    }
    log
}

fn setuid_truncation(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    for mode in MODES {
        let path = privileged(dir, &format!("{mode:o}"), mode);
        nix::unistd::truncate(&path, 6).expect("truncate");
        log.say("by root", about(&path));
        as_user(&[], || nix::unistd::truncate(&path, 5).expect("truncate"));
        log.say("by user", about(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        as_user(&[], || drop(open(&path, libc::O_WRONLY | libc::O_TRUNC, 0).expect("open")));
        log.say("by opening", about(&path));
    }
    log
}

fn setuid_chown(dir: &Path) -> Log {
    let mut log = Log::default();
    for mode in MODES {
        let path = privileged(dir, &format!("{mode:o}"), mode);
        chown(&path, Some(5), Some(6)).expect("chown");
        log.say("changed", about(&path));
    }
    log
}

fn setuid_fallocate(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = privileged(dir, "f", 0o6777);
    as_user(&[], || {
        let file = open(&path, libc::O_RDWR, 0).expect("open");
        log.end("fallocate", rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 100));
    });
    log.say("by user", about(&path));
    log
}

fn supplementary(dir: &Path) -> Log {
    let mut log = Log::default();
    let open_dir = open_to_all(dir, 0o770);
    chown(&open_dir, Some(0), Some(4321)).expect("chown");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    as_user(&[], || log.end("stranger", fs::write(open_dir.join("a"), "x")));
    as_user(&[4321], || {
        log.end("member", fs::write(open_dir.join("b"), "x"));
        log.end("give to group", chown(open_dir.join("b"), None, Some(4321)));
        log.end("setgid", fs::set_permissions(open_dir.join("b"), fs::Permissions::from_mode(0o2755)));
        log.end("give to stranger", chown(open_dir.join("b"), None, Some(99)));
    });
    log.say("b", about(&open_dir.join("b")));
    log
}
