//! The store when its process is killed, and when its disk is full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use supermachine_layers::digest::Digest;
use supermachine_layers::store::{Condition, Hold, Image, Key, Made, MakeError, Prune, Store};
use tempfile::TempDir;

/// Where a child of these tests has its store.
const STORE: &str = "SUPERMACHINE_TEST_STORE";

fn image(out: &mut File, bytes: &[u8]) -> io::Result<Made> {
    bytes.chunks(4096).try_for_each(|chunk| out.write_all(chunk))?;
    let (image, bytes) = (Digest::of(bytes), bytes.len() as u64);
    Ok(Made { image, bytes, entries: 1, content_bytes: 1, root_opaque: false, unlisted: false })
}

fn layer(store: &Store, number: u8, hold: &Hold) -> Result<Image, MakeError<io::Error>> {
    let bytes = vec![number; 1 << 20];
    store.layer(&Key::layer(&Digest::of(&[number]), "t"), hold, |mut out| image(&mut out, &bytes))
}

fn files(store: &Store, dir: &str) -> Vec<PathBuf> {
    fs::read_dir(store.dir().join(dir)).expect("reads").map(|entry| entry.expect("an entry").path()).collect()
}

/// Runs one test of this program in another process with a store at `dir`.
fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test]).env(STORE, dir).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The child of the next; by itself there is nothing to do.
#[test]
fn makes_layers_for_ever() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let store = Store::open(dir.into()).expect("opens");
    for round in 0_u64.. {
        let hold = store.hold("child").expect("holds");
        for number in 0..4 {
            layer(&store, number, &hold).expect("makes");
        }
        drop(hold);
        if round.is_multiple_of(2) {
            store.prune(Prune { all: true, older_than: None }).expect("prunes");
        }
    }
}

#[test]
fn a_kill_at_any_point_leaves_a_sound_store() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path().join("layers")).expect("opens");
    for round in 0..40 {
        let mut child = child("makes_layers_for_ever", store.dir()).spawn().expect("starts");
        // Where in its work it is hit is left to chance: that is the test.
        std::thread::sleep(Duration::from_millis(20 + round * 7 % 50));
        child.kill().expect("kills");
        child.wait().expect("waits");
        for verified in store.verify(false).expect("verifies") {
            assert_ne!(verified.condition, Condition::Damaged, "{verified:?}");
        }
        // Whatever is left, the next one works, and cleans up.
        let hold = store.hold("test").expect("holds");
        for number in 0..4 {
            let image = layer(&store, number, &hold).expect("makes");
            assert_eq!(fs::read(&image.path).expect("reads"), vec![number; 1 << 20]);
        }
        layer(&store, u8::try_from(round + 10).expect("small"), &hold).expect("makes");
        assert_eq!(files(&store, "making"), Vec::<PathBuf>::new());
        assert_eq!(files(&store, "holds").len(), 1);
        drop(hold);
        store.prune(Prune { all: true, older_than: None }).expect("prunes");
        assert!(files(&store, "images").is_empty() && files(&store, "records").is_empty());
    }
}

/// The child of the next; by itself there is nothing to do.
#[test]
fn fills_its_disk() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let store = Store::open(dir.into()).expect("opens");
    let hold = store.hold("child").expect("holds");
    let mut made = Vec::new();
    let error = (0..).find_map(|number| layer(&store, number, &hold).map(|image| made.push(image)).err());
    let error = error.expect("a full disk");
    assert!(matches!(&error, MakeError::Make(source) if source.kind() == io::ErrorKind::StorageFull), "{error:?}");
    assert!(files(&store, "making").is_empty() && files(&store, "locks").is_empty());
    assert_eq!(files(&store, "images").len(), made.len());
    assert!(made.len() >= 2, "{made:?}");
    // What is there can be used, and room can be made, on a disk that is full to the last byte.
    let filler = store.dir().join("filler");
    let mut file = File::create(&filler).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
    let full = store.hold("full").map(drop);
    assert!(full.is_err(), "not even a name fits");
    drop(hold);
    let pruned = store.prune(Prune { all: true, older_than: None }).expect("prunes");
    assert_eq!(pruned.images.len(), made.len());
    let hold = store.hold("child").expect("holds");
    layer(&store, 0, &hold).expect("makes");
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a small file system takes root");
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let inner = child("fills_its_disk", &dir.path().join("layers"));
    let mut command = Command::new("unshare");
    // The mount ends with its namespace.
    command.args(["--mount", "sh", "-c", "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\""]).arg(dir.path());
    command.arg(inner.get_program()).args(inner.get_args());
    command.env(STORE, dir.path().join("layers"));
    let output = command.output().expect("unshare runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it ran");
}
