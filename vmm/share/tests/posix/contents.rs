//! Data, times, locks and attributes.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nix::libc;
use rustix::fs::{FallocateFlags, FlockOperation, XattrFlags};

use super::{Case, Log, create, open};

pub(super) const CASES: &[Case] = &[
    ("append", append),
    ("read and write", read_write),
    ("truncate", truncate),
    ("holes", holes),
    ("fallocate", fallocate),
    ("copy_file_range", copy_range),
    ("shared map", shared_map),
    ("private map", private_map),
    ("flock", flock),
    ("record locks", record_locks),
    ("extended attributes", attributes),
    ("extended attributes of directories", directory_attributes),
    ("times", times),
    ("sync", sync),
    ("program", program),
    ("notifications", notifications),
    ("file system", file_system),
];

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn append(dir: &Path) -> Log {
    let mut log = Log::default();
    let path = dir.join("log");
    let mut one = open(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, 0o644).expect("open");
    let mut two = open(&path, libc::O_WRONLY | libc::O_APPEND, 0).expect("open");
    for round in 0..50 {
        writeln!(one, "one {round}").expect("write");
        writeln!(two, "two {round}").expect("write");
    }
    log.say("position", one.stream_position().expect("tell"));
    log.say("content", fs::read_to_string(&path).expect("read"));
    log
}

fn read_write(dir: &Path) -> Log {
    let mut log = Log::default();
    let data = pattern(3 << 20);
    let file = create(&dir.join("f"));
    file.write_all_at(&data, 0).expect("write");
    file.write_all_at(b"middle", 1_000_001).expect("write");
    file.write_all_at(b"far", 10 << 20).expect("write");
    log.say("size", file.metadata().expect("fstat").len());
    let mut back = vec![1; 12 << 20];
    let mut at = 0;
    while let Ok(read @ 1..) = file.read_at(&mut back[at..], at as u64) {
        at += read;
    }
    log.say("read", at);
    log.say("start", back[..1_000_001] == data[..1_000_001]);
    log.say("middle", &back[1_000_001..1_000_007] == b"middle");
    log.say("hole", back[4 << 20..10 << 20].iter().all(|byte| *byte == 0));
    log.say("past the end", file.read_at(&mut back, 1 << 40).expect("read"));
    let reader = File::open(dir.join("f")).expect("open");
    log.end("write without right", reader.write_at(b"x", 0));
    let writer = open(&dir.join("f"), libc::O_WRONLY, 0).expect("open");
    log.end("read without right", writer.read_at(&mut back, 0));
    log
}

fn truncate(dir: &Path) -> Log {
    let mut log = Log::default();
    let path = dir.join("f");
    fs::write(&path, pattern(10_000)).expect("write");
    for len in [5000, 20_000, 0, 1 << 33] {
        log.end("set", nix::unistd::truncate(&path, len));
        log.say("size", fs::metadata(&path).expect("stat").len());
    }
    nix::unistd::truncate(&path, 5).expect("truncate");
    log.say("content", fs::read(&path).expect("read"));
    log.end("negative", nix::unistd::truncate(&path, -1));
    log.end("directory", nix::unistd::truncate(dir, 0));
    fs::write(&path, "again").expect("write");
    log.say("content", fs::read(&path).expect("read"));
    log
}

fn holes(dir: &Path) -> Log {
    let mut log = Log::default();
    let mut file = create(&dir.join("f"));
    file.set_len(1 << 20).expect("size");
    file.write_all_at(&[1; 4096], 512 << 10).expect("write");
    for (whence, name) in [(libc::SEEK_DATA, "data"), (libc::SEEK_HOLE, "hole")] {
        for from in [0i64, 512 << 10, (512 << 10) + 4096, 1 << 20] {
            let whence =
                if whence == libc::SEEK_DATA { nix::unistd::Whence::SeekData } else { nix::unistd::Whence::SeekHole };
            log.say(name, nix::unistd::lseek(file.as_fd(), from, whence));
        }
    }
    file.seek(SeekFrom::End(-1)).expect("seek");
    log.say("last", file.read(&mut [0; 2]).expect("read"));
    log.say("blocks", file.metadata().expect("fstat").blocks());
    log
}

fn fallocate(dir: &Path) -> Log {
    let mut log = Log::default();
    let file = create(&dir.join("f"));
    file.write_all_at(&[7; 65536], 0).expect("write");
    let go = |flags, offset, len| rustix::fs::fallocate(&file, flags, offset, len);
    log.end("grow", go(FallocateFlags::empty(), 0, 100_000));
    log.say("size", file.metadata().expect("fstat").len());
    log.end("keep", go(FallocateFlags::KEEP_SIZE, 0, 1 << 20));
    log.say("size", file.metadata().expect("fstat").len());
    log.end("punch", go(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 8192));
    log.end("zero", go(FallocateFlags::ZERO_RANGE, 32768, 4096));
    log.end("punch without keep", go(FallocateFlags::PUNCH_HOLE, 0, 4096));
    log.end("nothing", go(FallocateFlags::empty(), 0, 0));
    let mut back = vec![1; 65536];
    file.read_exact_at(&mut back, 0).expect("read");
    let zeros = |from: usize, to: usize| back[from..to].iter().all(|byte| *byte == 0);
    log.say("content", (back[4095], zeros(4096, 12288), back[12288], zeros(32768, 36864), back[36864]));
    log
}

fn copy_range(dir: &Path) -> Log {
    let mut log = Log::default();
    let data = pattern(300_000);
    fs::write(dir.join("from"), &data).expect("write");
    let from = File::open(dir.join("from")).expect("open");
    let to = create(&dir.join("to"));
    let (mut at, mut to_at) = (1000, 5000);
    let mut copied = 0;
    while copied < 200_000 {
        let left = 200_000 - copied;
        match rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), left) {
            Ok(count @ 1..) => copied += count,
            _ => break,
        }
    }
    log.say("copied", copied);
    let back = fs::read(dir.join("to")).expect("read");
    log.say("content", back[..5000].iter().all(|byte| *byte == 0) && back[5000..] == data[1000..201_000]);
    log.end("to read-only", rustix::fs::copy_file_range(&to, None, &from, None, 10));
    log
}

fn shared_map(dir: &Path) -> Log {
    let mut log = Log::default();
    let path = dir.join("f");
    fs::write(&path, vec![b'.'; 10_000]).expect("write");
    // A program with a shared writable map: dd cannot do that, python can.
    let script = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[5000:5006]=b'mapped'\nm.flush()\nf.seek(5000)\nprint(f.read(6))\nm[0:1]=b'!'\nm.close()";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(&path).output().expect("python3");
    log.say("output", String::from_utf8_lossy(&output.stdout).into_owned());
    log.say("status", output.status.code());
    let back = fs::read(&path).expect("read");
    log.say("content", (back[0], String::from_utf8_lossy(&back[4999..5007]).into_owned(), back.len()));
    log
}

fn private_map(dir: &Path) -> Log {
    let mut log = Log::default();
    let path = dir.join("f");
    fs::write(&path, vec![b'.'; 10_000]).expect("write");
    let script = "import mmap,sys\nf=open(sys.argv[1],'rb')\nm=mmap.mmap(f.fileno(),0,access=mmap.ACCESS_COPY)\nm[5:6]=b'x'\nprint(m[4:7])";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(&path).output().expect("python3");
    log.say("output", String::from_utf8_lossy(&output.stdout).into_owned());
    log.say("unchanged", fs::read(&path).expect("read") == vec![b'.'; 10_000]);
    log
}

fn flock(dir: &Path) -> Log {
    let mut log = Log::default();
    let one = create(&dir.join("f"));
    let two = create(&dir.join("f"));
    let go = |file: &File, how| rustix::fs::flock(file, how);
    log.end("exclusive", go(&one, FlockOperation::NonBlockingLockExclusive));
    log.end("second", go(&two, FlockOperation::NonBlockingLockExclusive));
    log.end("second shared", go(&two, FlockOperation::NonBlockingLockShared));
    log.end("down", go(&one, FlockOperation::NonBlockingLockShared));
    log.end("second shared", go(&two, FlockOperation::NonBlockingLockShared));
    drop(one);
    log.end("alone", go(&two, FlockOperation::NonBlockingLockExclusive));
    log
}

fn record_locks(dir: &Path) -> Log {
    use nix::fcntl::{FcntlArg, fcntl};
    let mut log = Log::default();
    let one = create(&dir.join("f"));
    let two = create(&dir.join("f"));
    let lock = |kind: i32, start, len| libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    let set = |file: &File, kind, start, len| fcntl(file, FcntlArg::F_OFD_SETLK(&lock(kind, start, len)));
    log.end("write", set(&one, libc::F_WRLCK, 0, 100));
    log.end("overlap", set(&two, libc::F_RDLCK, 50, 100));
    log.end("beside", set(&two, libc::F_WRLCK, 100, 10));
    log.end("unlock", set(&one, libc::F_UNLCK, 50, 50));
    log.end("overlap", set(&two, libc::F_RDLCK, 50, 50));
    // A lock that has to wait is had when the other one goes.
    let waiter = std::thread::spawn({
        let three = create(&dir.join("f"));
        let wanted = lock(libc::F_WRLCK, 0, 10);
        move || fcntl(&three, FcntlArg::F_OFD_SETLKW(&wanted)).is_ok()
    });
    drop(one);
    log.say("waited", waiter.join().expect("waiter"));
    log
}

fn attributes(dir: &Path) -> Log {
    let mut log = Log::default();
    let file = create(&dir.join("f"));
    let set = |name: &str, value: &[u8], flags| rustix::fs::fsetxattr(&file, name, value, flags);
    log.end("set", set("user.one", b"1", XattrFlags::empty()));
    log.end("create", set("user.one", b"1", XattrFlags::CREATE));
    log.end("replace", set("user.two", b"2", XattrFlags::REPLACE));
    log.end("empty", set("user.empty", b"", XattrFlags::empty()));
    log.end("long", set("user.long", &[b'l'; 2000], XattrFlags::empty()));
    log.end("no name", set("user.", b"", XattrFlags::empty()));
    log.end("no space", set("nothing", b"", XattrFlags::empty()));
    let get = |name: &str, size| {
        let mut value = vec![0; size];
        rustix::fs::fgetxattr(&file, name, &mut value[..]).map(|len| value[..len].to_vec())
    };
    log.say("get", get("user.one", 10));
    log.say("empty", get("user.empty", 10));
    log.say("too small", get("user.long", 10));
    log.say("long", get("user.long", 4000).map(|value| value.len()));
    log.say("length", rustix::fs::fgetxattr_query(&file, "user.long"));
    log.say("missing", get("user.no", 10));
    let mut names = vec![0; 1000];
    let len = rustix::fs::flistxattr(&file, &mut names[..]).expect("list");
    let mut names: Vec<_> = names[..len].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    names.sort();
    log.say("names", names);
    log.end("remove", rustix::fs::fremovexattr(&file, "user.one"));
    log.end("again", rustix::fs::fremovexattr(&file, "user.one"));
    // A file capability, which a write takes away.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    log.end("capability", set("security.capability", &capability, XattrFlags::empty()));
    log.say("capability", get("security.capability", 100));
    file.write_all_at(b"x", 0).expect("write");
    log.say("after write", get("security.capability", 100));
    log
}

fn directory_attributes(dir: &Path) -> Log {
    let mut log = Log::default();
    log.end("set", rustix::fs::setxattr(dir, "user.dir", b"value", XattrFlags::empty()));
    let mut value = [0; 10];
    log.say("get", rustix::fs::getxattr(dir, "user.dir", &mut value[..]));
    std::os::unix::fs::symlink("nowhere", dir.join("link")).expect("symlink");
    log.end("of a link", rustix::fs::lsetxattr(dir.join("link"), "user.x", b"1", XattrFlags::empty()));
    log
}

fn times(dir: &Path) -> Log {
    let mut log = Log::default();
    let file = create(&dir.join("f"));
    let at = |secs, nanos| UNIX_EPOCH + Duration::new(secs, nanos);
    file.set_times(fs::FileTimes::new().set_accessed(at(1000, 123_456_789)).set_modified(at(2000, 987_654_321)))
        .expect("utimens");
    let meta = file.metadata().expect("fstat");
    log.say("set", (meta.atime(), meta.atime_nsec(), meta.mtime(), meta.mtime_nsec()));
    file.set_times(fs::FileTimes::new().set_modified(at(5, 0))).expect("utimens");
    let meta = file.metadata().expect("fstat");
    log.say("one kept", (meta.atime(), meta.mtime()));
    log.say("ctime is now", meta.ctime() > 1_000_000_000);
    file.write_all_at(b"x", 0).expect("write");
    log.say("written", file.metadata().expect("fstat").mtime() > 1_000_000_000);
    let link = dir.join("link");
    std::os::unix::fs::symlink("f", &link).expect("symlink");
    let stamp = nix::sys::time::TimeSpec::new(77, 0);
    let flag = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
    log.end("of a link", nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &link, &stamp, &stamp, flag));
    log.say("link", fs::symlink_metadata(&link).expect("lstat").mtime());
    log.say("born", fs::metadata(dir).expect("stat").created().is_ok());
    log
}

fn sync(dir: &Path) -> Log {
    let mut log = Log::default();
    let file = create(&dir.join("f"));
    file.write_all_at(b"x", 0).expect("write");
    log.end("file", file.sync_all());
    log.end("data", file.sync_data());
    log.end("directory", File::open(dir).expect("open").sync_all());
    log.end("file system", rustix::fs::syncfs(&file));
    log
}

fn program(dir: &Path) -> Log {
    let mut log = Log::default();
    fs::copy("/bin/echo", dir.join("echo")).expect("copy");
    let output = std::process::Command::new(dir.join("echo")).arg("run").output();
    log.say("output", output.map(|output| output.stdout).map_err(|error| error.kind()));
    log
}

fn notifications(dir: &Path) -> Log {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let mut log = Log::default();
    let inotify = Inotify::init(InitFlags::empty()).expect("inotify");
    let wanted =
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_MODIFY;
    inotify.add_watch(dir, wanted).expect("watch");
    fs::write(dir.join("a"), "x").expect("write");
    fs::rename(dir.join("a"), dir.join("b")).expect("rename");
    fs::remove_file(dir.join("b")).expect("unlink");
    let events = inotify.read_events().expect("events");
    log.say("events", events.into_iter().map(|event| (event.mask, event.name)).collect::<Vec<_>>());
    log
}

fn file_system(dir: &Path) -> Log {
    let mut log = Log::default();
    let stat = rustix::fs::statvfs(dir).expect("statvfs");
    log.say("sizes", (stat.f_blocks, stat.f_bsize, stat.f_frsize, stat.f_files, stat.f_namemax));
    log
}
