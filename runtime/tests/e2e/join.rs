//! Processes of the host that join the mount namespace of a container's process, as `podman cp` does: they see the
//! container's files, and nothing of ours waits for a guest that does not answer them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::json;

use crate::harness::{Container, PATIENCE, Place, noise, text, wait_for};

/// What `look` finds in the container, on a thread that has joined it.
fn joined<T: Send>(container: &Container<'_>, look: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/{}/ns/mnt", container.pid)).expect("a mount namespace");
    let join = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("the thread's own root");
        setns(&namespace, CloneFlags::CLONE_NEWNS).expect("joined");
        look()
    };
    thread::scope(|scope| scope.spawn(join).join().expect("no panic"))
}

/// A process that looks for a file in the container, and waits as long as the guest makes it.
fn walker(container: &Container<'_>) -> Child {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", container.pid)).args(["--", "/walks/into/it"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nsenter")
}

/// Whether a process waits in a request to a FUSE file system.
fn waits(child: &Child) -> bool {
    fs::read_to_string(format!("/proc/{}/wchan", child.id()))
        .is_ok_and(|name| name.contains("request_wait") || name.contains("fuse"))
}

fn start<'a>(place: &'a Place, script: &str) -> Container<'a> {
    let container = place.create_with("c", &["sh", "-c", script], |config| {
        let names = ["CAP_CHOWN", "CAP_DAC_OVERRIDE"];
        config["process"]["capabilities"] = json!({"bounding": names, "effective": names, "permitted": names});
    });
    place.good(&["start", "c"]);
    container.wait_for_output("ready");
    container
}

/// Ends it and says that nothing is left.
fn end(place: &Place, container: &Container<'_>) {
    place.good(&["delete", "--force", "c"]);
    container.wait();
    place.assert_clean();
}

#[test]
fn both_sides_see_each_others_files_at_once() {
    let place = Place::new();
    let script = "mkdir /made; echo guest >/made/file; chmod 640 /made/file; chown 5:6 /made/file; ln -s /made/file /link; echo ready; sleep 1000";
    let container = start(&place, script);
    let data = noise(3_000_000);
    joined(&container, || {
        assert_eq!(fs::read_to_string("/link").expect("a link inside"), "guest\n");
        let file = fs::metadata("/made/file").expect("a file");
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o640, 5, 6));
        let mut names: Vec<_> =
            fs::read_dir("/made").expect("listed").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["file"]);
        fs::create_dir("/made/dir").expect("a directory");
        fs::write("/made/dir/big", &data).expect("written");
        chown("/made/dir/big", Some(1000), Some(1001)).expect("chown");
        fs::set_permissions("/made/dir/big", fs::Permissions::from_mode(0o4755)).expect("chmod");
        symlink("big", "/made/dir/small").expect("a link");
        fs::rename("/made/file", "/made/dir/moved").expect("moved");
        assert!(fs::read_to_string("/proc/version").expect("a file without a size").starts_with("Linux version"));
    });
    let seen =
        container.exec(&["sh", "-c", "cd /made/dir; stat -c '%a %u:%g %s' big; readlink small; cat moved; ls /made"]);
    assert_eq!(seen.stdout, "4755 1000:1001 3000000\nbig\nguest\ndir\n", "{}", seen.stderr);
    // What was read a moment ago is not what is read now.
    assert_eq!(container.exec(&["sh", "-c", "echo other >/made/dir/moved; rm /made/dir/small"]).status, 0);
    joined(&container, || {
        assert_eq!(fs::read_to_string("/made/dir/moved").expect("read again"), "other\n");
        assert!(fs::symlink_metadata("/made/dir/small").is_err());
        assert!(fs::read("/made/dir/big").expect("read") == data, "other bytes than were written");
    });
    end(&place, &container);
}

#[test]
fn what_joins_finds_nothing_of_the_host_and_may_run_nothing() {
    let place = Place::new();
    let shared = place.path("shared");
    fs::create_dir(&shared).expect("a directory");
    fs::write(shared.join("in"), "host\n").expect("a file");
    let change = |config: &mut serde_json::Value| {
        let mount = json!({"destination": "/data", "type": "bind", "source": shared, "options": ["rbind"]});
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    };
    let container = place.create_with("c", &["sleep", "1000"], change);
    let here = place.path("here");
    fs::write(&here, "").expect("a file");
    joined(&container, || {
        assert!(fs::metadata(&here).is_err() && fs::metadata(Path::new("/..").join(&here)).is_err());
        assert_eq!(fs::read_to_string("/data/in").expect("a shared file"), "host\n");
        fs::write("/data/out", "through the guest\n").expect("written");
        let status = nix::sys::statvfs::statvfs("/").expect("statvfs").flags();
        let wanted = nix::sys::statvfs::FsFlags::ST_NOSUID
            | nix::sys::statvfs::FsFlags::ST_NODEV
            | nix::sys::statvfs::FsFlags::ST_NOEXEC;
        assert!(status.contains(wanted), "{status:?}");
        assert_eq!(File::open("/dev/null").expect_err("no devices").kind(), io::ErrorKind::PermissionDenied);
    });
    assert_eq!(fs::read_to_string(shared.join("out")).expect("shared"), "through the guest\n");
    // The machine itself is where it was: in the host's tree, with its directory under its name.
    let root = fs::metadata(format!("/proc/{}/root/", container.pid)).expect("its root");
    let own = fs::metadata("/").expect("the root");
    assert_eq!((root.dev(), root.ino()), (own.dev(), own.ino()));
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", container.pid)).expect("its directory"), place.path("root/c"));
    end(&place, &container);
}

#[test]
fn a_guest_that_does_not_answer_holds_up_only_who_asks_and_until_that_is_killed() {
    let place = Place::new();
    let container = start(&place, "echo ready; sleep 1000");
    joined(&container, || assert!(fs::metadata("/etc").is_ok()));
    place.good(&["pause", "c"]);
    let mut walkers: Vec<_> = (0..6).map(|_| walker(&container)).collect();
    walkers.iter().for_each(|child| wait_for(|| waits(child), "a request"));
    assert_eq!(place.status("c"), "paused");
    for child in &mut walkers[..5] {
        child.kill().expect("a child");
    }
    let begin = Instant::now();
    for child in &mut walkers[..5] {
        assert_eq!(child.wait().expect("a child").signal(), Some(9));
    }
    assert!(begin.elapsed() < PATIENCE);
    // The sixth is told, or gets its answer; and whoever comes next.
    place.good(&["resume", "c"]);
    assert!(!walkers[5].wait().expect("a child").success());
    joined(&container, || assert!(fs::metadata("/etc").is_ok()));
    // An end does not wait for those who wait.
    place.good(&["pause", "c"]);
    let mut last = walker(&container);
    wait_for(|| waits(&last), "a request");
    place.good(&["delete", "--force", "c"]);
    container.wait();
    assert!(!last.wait().expect("a child").success());
    place.assert_clean();
}

#[test]
fn a_container_that_was_saved_has_its_files_seen_again() {
    let place = Place::new();
    let container = start(&place, "echo ready; sleep 1000");
    joined(&container, || fs::write("/before", "one\n").expect("written"));
    let image = place.path("image");
    place.good(&["checkpoint", "--image-path", text(&image), "c"]);
    container.wait();
    let copy = place.restore("c", &image);
    joined(&copy, || {
        assert_eq!(fs::read_to_string("/before").expect("saved with it"), "one\n");
        fs::write("/after", "two\n").expect("written");
    });
    assert_eq!(copy.exec(&["cat", "/after"]).stdout, "two\n");
    fs::remove_dir_all(&image).expect("removed");
    end(&place, &copy);
}
