use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::bundle_layers::{BundleLayer, BundleLayers};

struct Place {
    dir: TempDir,
    store: Store,
}

fn place() -> Place {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path().join("data/layers")).expect("opens");
    Place { dir, store }
}

/// Writes `bytes` as an image.
fn image(mut out: File, bytes: &[u8]) -> io::Result<Made> {
    out.write_all(bytes)?;
    let (image, bytes) = (Digest::of(bytes), bytes.len() as u64);
    Ok(Made { image, bytes, entries: 1, content_bytes: 2, root_opaque: false, unlisted: false })
}

fn key(name: &str) -> Key {
    Key::layer(&Digest::of(name.as_bytes()), "test1")
}

/// Packs a tree into something that depends on the contents of its file.
fn pack(root: &Path, out: File) -> io::Result<Made> {
    image(out, &fs::read(root.join("file"))?)
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn layer(&self, name: &str, hold: &Hold) -> Image {
        self.store.layer(&key(name), hold, |out| image(out, name.as_bytes())).expect("makes")
    }

    fn count(&self, dir: &str) -> usize {
        self.store.names(dir).expect("names").len()
    }

    /// A tree that is not of this moment.
    fn tree(&self, content: &str) -> PathBuf {
        let tree = self.path("tree");
        fs::create_dir_all(&tree).expect("a directory");
        fs::write(tree.join("file"), content).expect("a file");
        tree
    }
}

#[test]
fn a_layer_is_made_once_and_found_again() {
    let place = place();
    let hold = place.store.hold("test").expect("holds");
    let made = place.layer("a", &hold);
    assert!(!made.found && fs::read(&made.path).expect("reads") == b"a");
    let again = Store::open(place.store.dir().to_owned()).expect("opens");
    let never = |_: File| -> io::Result<Made> { panic!("it is there") };
    let found = again.layer(&key("a"), &hold, never).expect("finds");
    assert_eq!(found, Image { found: true, ..made });
    let other_form = Key::layer(&Digest::of(b"a"), "test2");
    assert!(!place.store.layer(&other_form, &hold, |out| image(out, b"A")).expect("makes").found);
    assert_eq!([MAKING, LOCKS, IMAGES, RECORDS, HOLDS].map(|dir| place.count(dir)), [0, 0, 2, 2, 1]);
}

#[test]
fn of_many_that_want_a_layer_one_makes_it() {
    let place = place();
    let made = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let hold = place.store.hold("test").expect("holds");
                let make = |out| {
                    made.fetch_add(1, Ordering::Relaxed);
                    image(out, &vec![7; 1 << 20])
                };
                place.store.layer(&key("a"), &hold, make).expect("an image");
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
    assert_eq!([MAKING, LOCKS, IMAGES, HOLDS].map(|dir| place.count(dir)), [0, 0, 1, 0]);
}

#[test]
fn a_failure_leaves_nothing_and_the_next_tries_again() {
    let place = place();
    let hold = place.store.hold("test").expect("holds");
    let error = place.store.layer(&key("a"), &hold, |mut out| {
        out.write_all(b"half")?;
        Err::<Made, _>(io::Error::other("no more"))
    });
    assert!(matches!(error, Err(MakeError::Make(_))), "{error:?}");
    let error = place.store.layer(&key("a"), &hold, |out| image(out, b"half").map(|made| Made { bytes: 5, ..made }));
    assert!(matches!(error, Err(MakeError::Store(StoreError::Length { found: 4, said: 5 }))), "{error:?}");
    assert_eq!([MAKING, LOCKS, IMAGES, RECORDS].map(|dir| place.count(dir)), [0; 4]);
    assert!(!place.layer("a", &hold).found);
}

#[test]
fn what_the_dead_leave_is_swept_by_the_next_that_is_made() {
    let place = place();
    for (dir, name) in [(MAKING, "1-1-1"), (HOLDS, "1-1-2"), (RECORDS, "layer-x-y.json"), (LOCKS, "layer-z")] {
        fs::write(place.store.in_dir(dir, name), "half").expect("a file");
    }
    let orphan = place.store.image_path(&Digest::of(b"orphan"));
    fs::write(&orphan, "orphan").expect("a file");
    let hold = place.store.hold("test").expect("holds");
    place.layer("a", &hold);
    assert_eq!([MAKING, LOCKS, HOLDS, IMAGES, RECORDS].map(|dir| place.count(dir)), [0, 0, 1, 1, 1]);
}

#[test]
fn a_record_or_an_image_that_a_crash_cut_is_made_again() {
    let place = place();
    let hold = place.store.hold("test").expect("holds");
    let made = place.layer("a", &hold);
    fs::write(place.store.in_dir(RECORDS, &format!("{}.json", key("a").as_str())), "").expect("cuts");
    assert!(!place.layer("a", &hold).found);
    fs::remove_file(&made.path).expect("removes");
    fs::write(&made.path, "").expect("cuts");
    assert!(!place.layer("a", &hold).found);
    assert_eq!(fs::read(&made.path).expect("reads"), b"a");
}

#[test]
fn a_record_that_does_not_tell_of_unlisted_directories_may_be_of_some() {
    let place = place();
    let hold = place.store.hold("test").expect("holds");
    assert!(!place.layer("a", &hold).unlisted);
    let path = place.store.in_dir(RECORDS, &format!("{}.json", key("a").as_str()));
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("reads")).expect("JSON");
    assert!(record.as_object_mut().expect("an object").remove("unlisted").is_some());
    fs::write(&path, record.to_string()).expect("writes");
    let found = place.store.find(&key("a"), &hold).expect("reads").expect("finds");
    assert!(found.found && found.unlisted);
}

#[test]
fn prune_takes_what_nobody_uses() {
    let place = place();
    let hold = place.store.hold("container one").expect("holds");
    let used = place.layer("used", &hold);
    let free = place.store.hold("makes").expect("holds");
    let [bundled, loose] = ["bundled", "loose"].map(|name| place.layer(name, &free));
    let bundle = place.path("bundle");
    fs::create_dir(&bundle).expect("a directory");
    let layers = vec![BundleLayer { image: bundled.digest, diff_id: Some(Digest::of(b"bundled")) }];
    let json = serde_json::to_string(&BundleLayers::new(layers)).expect("JSON");
    fs::write(bundle.join("layers.json"), json).expect("a file");
    place.store.keep_for_bundle(&bundle).expect("keeps");
    let old = Prune { older_than: Some(Duration::from_secs(3600)), all: true };
    assert_eq!(place.store.prune(old).expect("prunes"), Pruned::default());
    assert_eq!(place.store.prune(Prune::default()).expect("prunes"), Pruned::default(), "all are held");
    drop(free);
    assert_eq!(place.store.prune(Prune::default()).expect("prunes").images, [loose.digest]);
    let listed = place.store.list().expect("lists");
    let row = |image: &Image| listed.iter().find(|row| row.image == image.digest).expect("listed");
    assert!(row(&used).users == ["container one"] && !row(&used).bundle);
    assert!(row(&bundled).users.is_empty() && row(&bundled).bundle);
    assert_eq!(row(&bundled).sources, [Source::Layer(Digest::of(b"bundled"))]);
    fs::remove_dir_all(&bundle).expect("removes");
    assert_eq!(place.store.prune(Prune::default()).expect("prunes").images, [bundled.digest]);
    drop(hold);
    assert_eq!(place.store.prune(Prune { all: true, older_than: None }).expect("prunes").images, [used.digest]);
    assert_eq!([IMAGES, RECORDS, HOLDS, BUNDLES].map(|dir| place.count(dir)), [0; 4]);
    let hold = place.store.hold("test").expect("holds");
    let error = place.store.hold_images(&[used.digest], &hold).expect_err("it is gone");
    assert!(matches!(error, StoreError::NoImage { .. }));
}

#[test]
fn images_found_while_others_prune_stay() {
    let place = place();
    let (rounds, over) = (200, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..rounds).for_each(|_| drop(place.store.prune(Prune { all: true, older_than: None }).expect("prunes")));
            over.store(true, Ordering::Release);
        });
        for worker in 0..3 {
            let (store, over) = (&place.store, &over);
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Acquire) || round < 10 {
                    round += 1;
                    let name = format!("{}", (round + worker) % 2);
                    let hold = store.hold("test").expect("holds");
                    let made = store.layer(&key(&name), &hold, |out| image(out, name.as_bytes())).expect("makes");
                    assert_eq!(fs::read(&made.path).expect("a held image stays"), name.as_bytes());
                }
            });
        }
    });
    assert_eq!([MAKING, LOCKS, HOLDS].map(|dir| place.count(dir)), [0; 3]);
}

#[test]
fn a_tree_is_found_again_until_it_changes() {
    let place = place();
    let tree = place.tree("one");
    let hold = place.store.hold("test").expect("holds");
    let find = |hold: &Hold| place.store.tree(&tree, "f", hold, pack).expect("an image");
    let first = find(&hold);
    assert!(!first.found && find(&hold).found);
    fs::write(tree.join("file"), "two").expect("writes");
    let second = find(&hold);
    assert!(!second.found && second.digest == Digest::of(b"two"));
    assert!(first.path.exists(), "it is held");
    drop(hold);
    let hold = place.store.hold("test").expect("holds");
    fs::write(tree.join("file"), "three").expect("writes");
    find(&hold);
    assert_eq!(place.count(IMAGES), 1, "those that the tree was before are gone");
    fs::remove_dir_all(&tree).expect("removes");
    drop(hold);
    place.layer("a", &place.store.hold("test").expect("holds"));
    assert_eq!([IMAGES, RECORDS].map(|dir| place.count(dir)), [1, 1], "a tree that is gone takes its image with it");
}

#[test]
fn a_tree_that_changes_while_it_is_packed_is_packed_again_or_refused() {
    let place = place();
    let tree = place.tree("one");
    let hold = place.store.hold("test").expect("holds");
    let mut times = 0;
    let made = place.store.tree(&tree, "f", &hold, |root, out| {
        times += 1;
        if times == 1 {
            fs::write(root.join("late"), "")?;
        }
        pack(root, out)
    });
    assert!(made.is_ok_and(|image| fs::read(image.path).is_ok_and(|bytes| bytes == b"one")));
    assert_eq!(times, 2);
    let mut times = 0;
    let error = place.store.tree(&tree, "g", &hold, |root, out| {
        times += 1;
        fs::write(root.join("late"), times.to_string())?;
        pack(root, out)
    });
    assert!(matches!(error, Err(MakeError::Store(StoreError::Changing { tries: 3, .. }))), "{error:?}");
    assert_eq!([MAKING, LOCKS].map(|dir| place.count(dir)), [0; 2]);
}

#[test]
fn a_tree_is_never_stale() {
    let place = place();
    let tree = place.tree("0000");
    let hold = place.store.hold("test").expect("holds");
    for round in 0..60 {
        let content = format!("{round:04}");
        fs::write(tree.join("file"), &content).expect("writes");
        let image = place.store.tree(&tree, "f", &hold, pack).expect("an image");
        assert_eq!(fs::read_to_string(image.path).expect("reads"), content);
    }
}

#[test]
fn damage_is_found_and_made_good() {
    let place = place();
    let hold = place.store.hold("test").expect("holds");
    let [a, b, c] = ["a", "b", "c"].map(|name| place.layer(name, &hold));
    fs::remove_file(&b.path).expect("removes");
    fs::write(&b.path, "B").expect("damages");
    fs::remove_file(&c.path).expect("removes");
    let verify = |remove| {
        let mut all = place.store.verify(remove).expect("verifies");
        all.sort_by_key(|one| one.image);
        let condition = |image: &Image| all.iter().find(|one| one.image == image.digest).map(|one| one.condition);
        ([&a, &b, &c].map(condition), all.iter().filter(|one| one.removed).count())
    };
    let bad = [Some(Condition::Good), Some(Condition::Damaged), Some(Condition::Missing)];
    assert_eq!(verify(false), (bad, 0));
    assert_eq!(verify(true), (bad, 0), "one in use stays");
    drop(hold);
    assert_eq!(verify(true), (bad, 2));
    let hold = place.store.hold("test").expect("holds");
    assert!(place.layer("a", &hold).found && !place.layer("b", &hold).found && !place.layer("c", &hold).found);
}
