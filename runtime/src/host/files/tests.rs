//! Tests of what is opened, made and locked, and of what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::bundle::Bundle;
use crate::plan::{self, GuestArch, PlanSettings};

/// Plans a bundle with these mounts.
fn planned(mounts: serde_json::Value) -> Plan {
    let config = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    let settings = PlanSettings {
        id: "x".to_owned(),
        systemd_cgroup: false,
        rootless: false,
        arch: GuestArch::X86_64,
        host_memory_mib: None,
    };
    let bundle = Bundle::parse("/bundle".into(), config.to_string().as_bytes()).expect("a bundle");
    plan::plan(&bundle, &settings).expect("a plan")
}

fn bind(source: &Path, options: &[&str]) -> serde_json::Value {
    json!({"destination": "/x", "type": "bind", "source": source, "options": options})
}

#[test]
fn one_source_is_one_share() {
    let dir = TempDir::new().expect("a directory");
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&file, "x").expect("a file");
    symlink("file", &link).expect("a link");
    let mounts = [
        bind(dir.path(), &["rbind"]),
        bind(&file, &["bind"]),
        bind(dir.path(), &["rbind", "nosuid"]),
        bind(dir.path(), &["rbind", "ro"]),
        bind(&link, &["bind", "ro"]),
    ];
    let mut plan = planned(json!(mounts));
    let files = Files::of_binds(&mut plan).expect("opens");
    let numbers: Vec<_> = plan.container.mounts.iter().map(|mount| mount.source.clone()).collect();
    let share = |number| supermachine_agent_protocol::container::MountSource::Share { number };
    assert_eq!(numbers, [share(0), share(1), share(0), share(2), share(3)]);
    let read_only: Vec<_> = files.names().shares.iter().map(|share| share.read_only).collect();
    assert_eq!(read_only, [false, false, true, true]);
    let inode = |fd: &BorrowedFd<'_>| nix::sys::stat::fstat(fd).expect("open").st_ino;
    let expected = [dir.path(), &file, dir.path(), &file].map(|path| fs::metadata(path).expect("there").ino());
    assert_eq!(files.open().iter().map(inode).collect::<Vec<_>>(), expected);
}

#[test]
fn what_could_not_be_used_is_refused_by_name() {
    let dir = TempDir::new().expect("a directory");
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (path, words) in [(&socket, "is a socket"), (&pipe, "is a named pipe"), (&dir.path().join("none"), "none")] {
        let mut plan = planned(json!([bind(path, &["bind"])]));
        let error = Files::of_binds(&mut plan).expect_err("refused").to_string();
        assert!(error.starts_with("mounts[0].source: ") && error.contains(words), "{error}");
    }
}

#[test]
fn a_tmpfs_for_shared_memory_becomes_the_guests() {
    let shm = json!({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "nosuid"]});
    let mut plan = planned(json!([shm]));
    let files = Files::of_binds(&mut plan).expect("opens");
    let mount = &plan.container.mounts[0];
    assert!(files.open().is_empty() && mount.data.starts_with("mode=1777,size="), "{mount:?}");
    assert_eq!(mount.flags, ["nosuid"]);
}

fn volume(path: &Path, read_only: bool) -> HostVolume {
    HostVolume { mount: 2, source: path.to_owned(), size_mib: 64, read_only }
}

/// Opens a volume that nobody has, but for a process that another test starts: until it executes, that has every lock that is held here.
fn free(volume: &HostVolume) -> fs::File {
    let begin = Instant::now();
    loop {
        match volumes::open(volume) {
            Err(VolumeError::InUse { .. }) if begin.elapsed() < Duration::from_secs(10) => std::thread::yield_now(),
            other => return other.expect("free"),
        }
    }
}

#[test]
fn a_volume_is_made_once_and_has_one_writer_or_many_readers() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("volume");
    let first = volumes::open(&volume(&path, false)).expect("made");
    let metadata = fs::metadata(&path).expect("there");
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (64 << 20, 0o600));
    assert!(metadata.blocks() < 16 << 11, "it is sparse: {} blocks", metadata.blocks());
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing else is left");
    let error = volumes::open(&volume(&path, true)).expect_err("in use").to_string();
    assert_eq!(error, format!("mounts[2].source: volume {} is in use by another container", path.display()));
    fs::write(&path, "kept").expect("written");
    drop(first);
    let readers = [true, true].map(|read_only| free(&volume(&path, read_only)));
    assert!(volumes::open(&volume(&path, false)).is_err(), "readers have it");
    drop(readers);
    drop(free(&volume(&path, false)));
    assert_eq!(fs::read_to_string(&path).expect("there"), "kept", "what is there is not formatted");
}

#[test]
fn a_volume_that_was_not_finished_is_made_anew() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("volume");
    fs::write(dir.path().join(".volume.unfinished"), vec![7; 100_000]).expect("left by a crash");
    let opened = std::thread::scope(|scope| {
        let open = || scope.spawn(|| volumes::open(&volume(&path, false)));
        [open(), open(), open()].map(|opened| opened.join().expect("no panic"))
    });
    let refused = |opened: &Result<fs::File, VolumeError>| matches!(opened, Err(VolumeError::InUse { .. }));
    assert_eq!(opened.iter().filter(|opened| refused(opened)).count(), 2, "one has it: {opened:?}");
    assert_eq!(fs::metadata(&path).expect("there").len(), 64 << 20);
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    let error = volumes::open(&volume(Path::new("/no/such/volume"), false)).expect_err("no directory").to_string();
    assert!(error.starts_with("mounts[2].source: cannot make /no/such"), "{error}");
}

#[test]
fn the_disk_for_the_root_has_no_name() {
    let dir = TempDir::new().expect("a directory");
    let mut files = Files::default();
    files.add_disk(&dir.path().join("data"), 32).expect("made");
    assert_eq!(files.names().upper, Some(0));
    assert_eq!(fs::read_dir(dir.path().join("data")).expect("a directory").count(), 0);
}
