//! Somebody on the host, or the guest itself, exchanges directories and files for links while requests run.

mod client;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Folders, body, share};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use supermachine_share::SymlinkPolicy;
use supermachine_share::spec::{self, errno};

/// How long requests and exchanges run against each other.
const TIME: Duration = Duration::from_millis(1500);
/// Exchanges and requests that there must have been, or nothing was tested.
const LEAST: usize = 200;

/// Ends what runs beside a test, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A share with a directory and a file, each beside a link out that it is exchanged with.
fn stage() -> Folders {
    let folders = Folders::new();
    for dir in [folders.shared.join("victim"), folders.outside.clone()] {
        fs::create_dir_all(dir.join("sub")).expect("mkdir");
    }
    fs::write(folders.shared.join("victim/file"), "public").expect("write");
    fs::write(folders.shared.join("victim/sub/file"), "public").expect("write");
    fs::write(folders.outside.join("file"), "secret").expect("write");
    fs::write(folders.outside.join("sub/file"), "secret").expect("write");
    symlink("../outside", folders.shared.join("link")).expect("symlink");
    fs::write(folders.shared.join("plain"), "public").expect("write");
    symlink("../outside/file", folders.shared.join("plain-link")).expect("symlink");
    folders
}

fn untouched(folders: &Folders) {
    assert_eq!(fs::read(folders.outside.join("file")).expect("read"), b"secret");
    assert_eq!(fs::read(folders.outside.join("sub/file")).expect("read"), b"secret");
    assert_eq!(fs::read_dir(&folders.outside).expect("readdir").count(), 2);
    assert_eq!(fs::read_dir(folders.outside.join("sub")).expect("readdir").count(), 1);
}

/// One round of requests that each name what is being exchanged; gives how many were answered with success.
fn attack(client: &Client, round: usize) -> usize {
    let mut done = 0;
    let mut public = |content: Result<Vec<u8>, i32>| {
        if let Ok(content) = content {
            assert_ne!(content, b"secret");
            done += 1;
        }
    };
    public(client.walk("0/victim/file").and_then(|node| client.content(node)));
    public(client.walk("0/victim/sub/file").and_then(|node| client.content(node)));
    public(client.walk("0/plain").and_then(|node| client.content(node)));
    let made = client.walk("0/victim/sub").and_then(|sub| {
        let (node, fh) = client.create(sub, b"made", spec::O_RDWR, 0o600)?;
        client.write(node, fh, 0, b"made")?;
        client.release(spec::FUSE_RELEASE, node, fh)?;
        client.call(spec::FUSE_UNLINK, sub, b"made\0")
    });
    public(made);
    if let Ok(node) = client.walk("0/plain") {
        let set =
            spec::fuse_setattr_in { valid: spec::FATTR_MODE | spec::FATTR_MTIME, mode: 0o640, ..Default::default() };
        public(client.call(spec::FUSE_SETATTR, node, &body(&set, &[])));
        // Rarely: some file systems write a file that was emptied to the disk when it is closed.
        if round.is_multiple_of(50)
            && let Ok(fh) = client.open(node, spec::O_RDWR | spec::O_TRUNC)
        {
            client.write(node, fh, 0, b"public").expect("write");
            client.release(spec::FUSE_RELEASE, node, fh).expect("release");
        }
    }
    done
}

fn race(symlinks: SymlinkPolicy, exchange: impl Fn(&Client, &Folders) -> bool + Sync) {
    let folders = stage();
    let client = Client::new(vec![share(&folders.shared, false, symlinks)]);
    let over = AtomicBool::new(false);
    let (mut successes, mut exchanges) = (0, 0);
    std::thread::scope(|scope| {
        let exchanger = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                count += usize::from(exchange(&client, &folders));
            }
            count
        });
        let at_the_end = Over(&over);
        let end = Instant::now() + TIME;
        for round in 0.. {
            successes += attack(&client, round);
            if Instant::now() > end {
                break;
            }
        }
        drop(at_the_end);
        exchanges = exchanger.join().expect("exchanger");
    });
    untouched(&folders);
    assert!(successes > LEAST && exchanges > LEAST, "{successes} requests, {exchanges} exchanges");
}

fn by_host(_client: &Client, folders: &Folders) -> bool {
    let at = |name: &str| folders.shared.join(name);
    let exchanged = renameat_with(CWD, at("victim"), CWD, at("link"), RenameFlags::EXCHANGE).is_ok();
    let also = renameat_with(CWD, at("plain"), CWD, at("plain-link"), RenameFlags::EXCHANGE).is_ok();
    exchanged && also
}

#[test]
fn the_host_exchanges_opaque_links() {
    race(SymlinkPolicy::Opaque, by_host);
}

#[test]
fn the_host_exchanges_links_that_are_followed() {
    race(SymlinkPolicy::Follow, by_host);
}

#[test]
fn the_guest_exchanges_links() {
    race(SymlinkPolicy::Follow, |client, _| {
        let root = client.walk("0").expect("share");
        client.rename(root, b"victim", root, b"link", spec::RENAME_EXCHANGE).is_ok()
            && client.rename(root, b"plain", root, b"plain-link", spec::RENAME_EXCHANGE).is_ok()
    });
}

/// A directory is moved out of the share and back while its entries are used by node, without any lookup.
#[test]
fn directories_move_away_under_requests() {
    let folders = stage();
    let client = Client::new(vec![share(&folders.shared, false, SymlinkPolicy::Opaque)]);
    let sub = client.walk("0/victim/sub").expect("sub");
    let file = client.walk("0/victim/sub/file").expect("file");
    let away = folders.shared.join("victim");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&away, folders.shared.join("elsewhere")).expect("rename");
                symlink("../outside", &away).expect("symlink");
                fs::remove_file(&away).expect("unlink");
                fs::rename(folders.shared.join("elsewhere"), &away).expect("rename");
            }
        });
        let _at_the_end = Over(&over);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            match client.content(file) {
                Ok(content) => assert_eq!(content, b"public"),
                Err(error) => assert_eq!(error, errno::ESTALE),
            }
            match client.create(sub, b"made", spec::O_RDWR, 0o600) {
                Ok((node, fh)) => client.release(spec::FUSE_RELEASE, node, fh).expect("release"),
                Err(error) => assert!(matches!(error, errno::ESTALE | errno::EEXIST), "{error}"),
            }
        }
    });
    untouched(&folders);
}
