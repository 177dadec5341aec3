//! Names, links and directories.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, renameat_with};

use super::{Case, Log, create, open};

pub(super) const CASES: &[Case] = &[
    ("open errors", open_errors),
    ("modes", modes),
    ("directories", directories),
    ("rename", rename),
    ("rename flags", rename_flags),
    ("rename below open directory", rename_open),
    ("hard links", hard_links),
    ("symbolic links", symbolic_links),
    ("unlink while open", unlink_open),
    ("rmdir while open", rmdir_open),
    ("names", names),
    ("many entries", many_entries),
    ("delete while reading", delete_while_reading),
    ("deep path", deep_path),
    ("unnamed file", unnamed),
    ("fifo and socket", special),
];

fn mode_of(path: &Path) -> String {
    fs::symlink_metadata(path).map_or_else(|error| error.kind().to_string(), |meta| format!("{:o}", meta.mode()))
}

fn open_errors(dir: &Path) -> Log {
    let mut log = Log::default();
    drop(create(&dir.join("file")));
    fs::create_dir(dir.join("dir")).expect("mkdir");
    symlink("file", dir.join("link")).expect("symlink");
    log.end("missing", open(&dir.join("no"), libc::O_RDONLY, 0));
    log.end("below a file", open(&dir.join("file/x"), libc::O_RDONLY, 0));
    log.end("below missing", open(&dir.join("no/x"), libc::O_RDWR | libc::O_CREAT, 0o644));
    log.end("directory to write", open(&dir.join("dir"), libc::O_RDWR, 0));
    log.end("directory to create", open(&dir.join("dir"), libc::O_RDWR | libc::O_CREAT, 0o644));
    log.end("file as directory", open(&dir.join("file"), libc::O_DIRECTORY, 0));
    log.end("exclusive", open(&dir.join("file"), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o644));
    log.end("exclusive link", open(&dir.join("link"), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o644));
    log.end("link not followed", open(&dir.join("link"), libc::O_NOFOLLOW, 0));
    log.end("link followed", open(&dir.join("link"), libc::O_RDONLY, 0));
    log.end("truncate read-only", open(&dir.join("file"), libc::O_TRUNC, 0));
    log
}

fn modes(dir: &Path) -> Log {
    let mut log = Log::default();
    for mode in [0o644, 0o600, 0o000, 0o4755, 0o2755, 0o1777, 0o7777] {
        let path = dir.join(format!("f{mode:o}"));
        drop(open(&path, libc::O_RDWR | libc::O_CREAT, mode).expect("create"));
        log.say("file", mode_of(&path));
        let path = dir.join(format!("d{mode:o}"));
        fs::DirBuilder::new().mode(mode).create(&path).expect("mkdir");
        log.say("directory", mode_of(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o7070)).expect("chmod");
        log.say("changed", mode_of(&path));
    }
    log
}

fn directories(dir: &Path) -> Log {
    let mut log = Log::default();
    let at = |name: &str| dir.join(name);
    fs::create_dir(at("a")).expect("mkdir");
    log.end("again", fs::create_dir(at("a")));
    log.say("links", fs::metadata(at("a")).expect("stat").nlink());
    fs::create_dir(at("a/b")).expect("mkdir");
    log.say("links", fs::metadata(at("a")).expect("stat").nlink());
    log.end("not empty", fs::remove_dir(at("a")));
    log.end("unlink", fs::remove_file(at("a")));
    drop(create(&at("f")));
    log.end("rmdir of file", fs::remove_dir(at("f")));
    log.end("rmdir of missing", fs::remove_dir(at("no")));
    log.end("rmdir", fs::remove_dir(at("a/b")));
    log.say("links", fs::metadata(at("a")).expect("stat").nlink());
    log.end("rmdir", fs::remove_dir(at("a")));
    log
}

fn rename(dir: &Path) -> Log {
    let mut log = Log::default();
    let at = |name: &str| dir.join(name);
    for name in ["f", "g"] {
        fs::write(at(name), name).expect("write");
    }
    for name in ["d", "e", "full", "full/x"] {
        fs::create_dir(at(name)).expect("mkdir");
    }
    log.end("file over file", fs::rename(at("f"), at("g")));
    log.say("content", fs::read_to_string(at("g")).expect("read"));
    log.end("file over directory", fs::rename(at("g"), at("d")));
    log.end("directory over file", fs::rename(at("d"), at("g")));
    log.end("directory over full", fs::rename(at("d"), at("full")));
    log.end("directory over empty", fs::rename(at("d"), at("e")));
    log.end("into itself", fs::rename(at("full"), at("full/x/y")));
    log.end("missing", fs::rename(at("no"), at("yes")));
    log.end("same", fs::rename(at("g"), at("g")));
    log.end("into directory", fs::rename(at("g"), at("full/x/g")));
    log.say("content", fs::read_to_string(at("full/x/g")).expect("read"));
    log
}

fn rename_flags(dir: &Path) -> Log {
    let mut log = Log::default();
    let at = |name: &str| dir.join(name);
    fs::write(at("f"), "f").expect("write");
    fs::write(at("g"), "g").expect("write");
    fs::create_dir(at("d")).expect("mkdir");
    fs::write(at("d/in"), "in").expect("write");
    let go = |from: &str, to: &str, flags| renameat_with(CWD, at(from), CWD, at(to), flags);
    log.end("no replace", go("f", "g", RenameFlags::NOREPLACE));
    log.end("no replace", go("f", "h", RenameFlags::NOREPLACE));
    log.end("exchange", go("h", "g", RenameFlags::EXCHANGE));
    log.say("content", (fs::read_to_string(at("g")).ok(), fs::read_to_string(at("h")).ok()));
    log.end("exchange with directory", go("h", "d", RenameFlags::EXCHANGE));
    log.say("content", (fs::read_to_string(at("d")).ok(), fs::read_to_string(at("h/in")).ok()));
    log.end("exchange with missing", go("h", "no", RenameFlags::EXCHANGE));
    log
}

fn rename_open(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::create_dir_all(dir.join("a/b/c")).expect("mkdir");
    fs::write(dir.join("a/b/c/f"), "deep").expect("write");
    let inner = fs::File::open(dir.join("a/b")).expect("open");
    let ino = fs::metadata(dir.join("a/b/c/f")).expect("stat").ino();
    fs::rename(dir.join("a"), dir.join("z")).expect("rename");
    let file = rustix::fs::openat(inner.as_fd(), "c/f", OFlags::RDONLY, Mode::empty());
    log.end("through open directory", file);
    log.say("same inode", fs::metadata(dir.join("z/b/c/f")).expect("stat").ino() == ino);
    log.end("old path", fs::metadata(dir.join("a/b/c/f")));
    log
}

fn hard_links(dir: &Path) -> Log {
    let mut log = Log::default();
    let at = |name: &str| dir.join(name);
    fs::write(at("f"), "one").expect("write");
    log.end("link", fs::hard_link(at("f"), at("g")));
    log.end("again", fs::hard_link(at("f"), at("g")));
    fs::create_dir(at("d")).expect("mkdir");
    log.end("directory", fs::hard_link(at("d"), at("e")));
    symlink("f", at("s")).expect("symlink");
    log.end("symbolic link", linkat(CWD, at("s"), CWD, at("t"), AtFlags::empty()));
    log.say("still a link", mode_of(&at("t")));
    let (f, g) = (fs::metadata(at("f")).expect("stat"), fs::metadata(at("g")).expect("stat"));
    log.say("same", (f.ino() == g.ino(), f.nlink(), g.nlink()));
    fs::write(at("g"), "two").expect("write");
    log.say("content", fs::read_to_string(at("f")).expect("read"));
    fs::remove_file(at("g")).expect("unlink");
    log.say("links", fs::metadata(at("f")).expect("stat").nlink());
    log.say("content", fs::read_to_string(at("f")).expect("read"));
    log
}

fn symbolic_links(dir: &Path) -> Log {
    let mut log = Log::default();
    let long = "x".repeat(4000);
    for (name, target) in [("plain", "file"), ("long", long.as_str()), ("loop", "loop"), ("up", "../../..")] {
        log.end(name, symlink(target, dir.join(name)));
        log.say("target", fs::read_link(dir.join(name)).expect("readlink") == Path::new(target));
        log.say("size", fs::symlink_metadata(dir.join(name)).expect("stat").len());
    }
    log.end("empty", symlink("", dir.join("empty")));
    log.end("again", symlink("file", dir.join("plain")));
    log.end("through", fs::read(dir.join("plain")));
    fs::write(dir.join("plain"), "made").expect("write through");
    log.say("content", fs::read_to_string(dir.join("file")).expect("read"));
    log.end("loop", fs::read(dir.join("loop")));
    log.end("readlink of file", fs::read_link(dir.join("file")));
    log
}

fn unlink_open(dir: &Path) -> Log {
    use std::io::{Read, Seek, Write};
    let mut log = Log::default();
    let mut file = create(&dir.join("f"));
    file.write_all(b"before").expect("write");
    fs::remove_file(dir.join("f")).expect("unlink");
    log.end("write", file.write_all(b" after"));
    log.say("links", file.metadata().expect("fstat").nlink());
    log.end("truncate", file.set_len(10));
    log.end("mode", file.set_permissions(fs::Permissions::from_mode(0o600)));
    log.say("mode", format!("{:o}", file.metadata().expect("fstat").mode()));
    file.rewind().expect("seek");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    log.say("content", text);
    log.end("sync", file.sync_all());
    log.end("path", fs::metadata(dir.join("f")));
    log.end("made again", fs::write(dir.join("f"), "new"));
    log.say("old", file.metadata().expect("fstat").len());
    log
}

fn rmdir_open(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::create_dir(dir.join("d")).expect("mkdir");
    let open = fs::File::open(dir.join("d")).expect("open");
    fs::remove_dir(dir.join("d")).expect("rmdir");
    log.say("links", open.metadata().expect("fstat").nlink());
    let made = rustix::fs::openat(open.as_fd(), "x", OFlags::CREATE | OFlags::RDWR, Mode::RWXU);
    log.end("create in removed", made);
    log
}

fn names(dir: &Path) -> Log {
    let mut log = Log::default();
    for len in [1, 254, 255, 256] {
        log.end("length", fs::write(dir.join("n".repeat(len)), "x"));
    }
    for name in [&b"\xff\xfe"[..], b" ", b"a\nb", b"...", b"-", b"*"] {
        let path: PathBuf = dir.join(OsStr::from_bytes(name));
        log.end("odd", fs::write(&path, name));
        log.say("content", fs::read(&path).expect("read") == name);
    }
    let mut all: Vec<_> = fs::read_dir(dir).expect("readdir").map(|entry| entry.expect("entry").file_name()).collect();
    all.sort();
    log.say("all", all);
    log
}

fn many_entries(dir: &Path) -> Log {
    let mut log = Log::default();
    for number in 0..600 {
        drop(create(&dir.join(format!("file-{number:05}"))));
    }
    let mut all: Vec<_> = fs::read_dir(dir)
        .expect("readdir")
        .map(|entry| entry.expect("entry"))
        .map(|entry| (entry.file_name(), entry.file_type().expect("type").is_file(), entry.metadata().is_ok()))
        .collect();
    all.sort();
    log.say("all", (all.len(), all.iter().all(|(_, file, meta)| *file && *meta)));
    all.dedup();
    log.say("different", all.len());
    log
}

fn delete_while_reading(dir: &Path) -> Log {
    let mut log = Log::default();
    for number in 0..500 {
        drop(create(&dir.join(format!("a-rather-long-name-of-a-file-{number:05}"))));
    }
    let mut seen = 0;
    for entry in fs::read_dir(dir).expect("readdir") {
        fs::remove_file(entry.expect("entry").path()).expect("unlink");
        seen += 1;
    }
    log.say("seen", seen);
    log.say("left", fs::read_dir(dir).expect("readdir").count());
    log
}

fn deep_path(dir: &Path) -> Log {
    let mut log = Log::default();
    let mut path = dir.to_owned();
    for _ in 0..200 {
        path.push("dddd");
        fs::create_dir(&path).expect("mkdir");
    }
    log.end("write", fs::write(path.join("f"), "deep"));
    log.say("content", fs::read_to_string(path.join("f")).expect("read"));
    log.end("remove", fs::remove_dir_all(dir.join("dddd")));
    log
}

fn unnamed(dir: &Path) -> Log {
    use std::io::Write;
    let mut log = Log::default();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let opened = rustix::fs::open(dir, flags, Mode::from_raw_mode(0o640));
    log.end("open", opened.as_ref().map_err(|error| *error));
    let Ok(file) = opened else { return log };
    let mut file = fs::File::from(file);
    file.write_all(b"unnamed").expect("write");
    log.say("links", file.metadata().expect("fstat").nlink());
    log.say("listed", fs::read_dir(dir).expect("readdir").count());
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    log.end("link", linkat(CWD, link, CWD, dir.join("named"), AtFlags::SYMLINK_FOLLOW));
    log.say("content", fs::read_to_string(dir.join("named")).expect("read"));
    log.say("links", file.metadata().expect("fstat").nlink());
    log.say("mode", mode_of(&dir.join("named")));
    log
}

fn special(dir: &Path) -> Log {
    use std::io::{Read, Write};
    let mut log = Log::default();
    let fifo = dir.join("fifo");
    let made = nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o640));
    log.end("fifo", made);
    if made.is_err() {
        return log;
    }
    log.say("mode", mode_of(&fifo));
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::OpenOptions::new().write(true).open(fifo).expect("open").write_all(b"through").expect("write")
    });
    let mut text = String::new();
    fs::File::open(&fifo).expect("open").read_to_string(&mut text).expect("read");
    writer.join().expect("writer");
    log.say("read", text);
    let listener = UnixListener::bind(dir.join("socket"));
    log.end("bind", listener.as_ref().map(|_| ()).map_err(|error| std::io::Error::from(error.kind())));
    log.say("mode", mode_of(&dir.join("socket")));
    log.end("connect", UnixStream::connect(dir.join("socket")));
    drop(listener);
    log.end("connect to none", UnixStream::connect(dir.join("socket")));
    log
}
