//! One bakes, all use.

use std::fs::{self, File};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use supermachine_snapshot::store::{Event, Parts, StoreError};

use crate::common::{bake, get, mark, names, parts};
use crate::store;

#[test]
fn the_first_bakes_and_the_next_finds_it() {
    let (_dir, store) = store();
    let parts = parts("a");
    assert!(store.get(&parts).is_none());
    let (first, told) = get(&store, &parts, 1);
    assert_eq!((mark(&first.expect("bakes")), told.as_slice()), (1, ["baking".to_owned()].as_slice()));
    let (second, told) = get(&store, &parts, 2);
    assert_eq!((mark(&second.expect("is there")), told.len()), (1, 0));
    assert_eq!(mark(&store.get(&parts).expect("is there")), 1);
    let key = parts.key();
    assert_eq!(names(&store), [key.to_string(), format!("{key}.lock")]);
}

#[test]
fn other_parts_are_another_template() {
    let (_dir, store) = store();
    let (first, second) =
        (get(&store, &parts("a"), 1).0.expect("bakes"), get(&store, &parts("b"), 2).0.expect("bakes"));
    assert_eq!((mark(&first), mark(&second)), (1, 2));
    let [one, two] = [("ab", "c"), ("a", "bc")].map(|(name, value)| Parts::new().with(name, value).key());
    assert_ne!(one, two);
}

#[test]
fn of_many_at_once_one_bakes() {
    let (_dir, store) = store();
    let parts = parts("a");
    let bakes = AtomicU32::new(0);
    thread::scope(|scope| {
        let create = || {
            let count = |path: &std::path::Path| {
                bakes.fetch_add(1, Ordering::Relaxed);
                bake(path, &parts, 7, None)
            };
            assert_eq!(mark(&store.get_or_bake(&parts, count, &mut |_| ()).expect("is there")), 7);
        };
        (0..16).for_each(|_| drop(scope.spawn(create)));
    });
    assert_eq!(bakes.into_inner(), 1);
}

/// Lets one bake, until another waits for it; gives what became of the second.
fn while_another_waits(fails: bool) -> Result<u8, StoreError> {
    let (_dir, store) = store();
    let parts = parts("a");
    let (baking, begun) = mpsc::channel();
    let (waiting, waits) = mpsc::channel();
    thread::scope(|scope| {
        let (store, parts) = (&store, &parts);
        let first = scope.spawn(move || {
            let bake = |path: &std::path::Path| {
                baking.send(()).expect("is heard");
                waits.recv().expect("the other waits");
                if fails { Err("the kernel\nis bad".into()) } else { bake(path, parts, 1, None) }
            };
            store.get_or_bake(parts, bake, &mut |_| ()).map(|template| mark(&template))
        });
        begun.recv().expect("it bakes");
        let mut tell = |event: Event<'_>| {
            assert!(matches!(event, Event::Waiting));
            waiting.send(()).expect("is heard");
        };
        let second = store.get_or_bake(parts, |_| panic!("the first bakes"), &mut tell);
        assert_eq!(first.join().expect("ends").is_err(), fails);
        second.map(|template| mark(&template))
    })
}

#[test]
fn who_waits_gets_what_the_other_baked() {
    assert_eq!(while_another_waits(false).expect("is there"), 1);
}

#[test]
fn who_waits_is_told_that_the_other_failed() {
    let error = while_another_waits(true).expect_err("failed");
    let told = "the template could not be baked by another process: the template could not be baked: the kernel is bad";
    assert_eq!(error.to_string(), told);
}

#[test]
fn nothing_is_left_of_a_bake_that_fails_and_the_next_bakes() {
    let (_dir, store) = store();
    let parts = parts("a");
    let bad = |path: &std::path::Path| {
        bake(path, &parts, 1, None)?;
        Err("no".into())
    };
    let error = store.get_or_bake(&parts, bad, &mut |_| ()).expect_err("fails");
    assert!(matches!(error, StoreError::Bake { .. }), "{error}");
    assert_eq!(names(&store), [format!("{}.lock", parts.key())]);
    assert_eq!(mark(&get(&store, &parts, 2).0.expect("bakes")), 2);
}

#[test]
fn what_is_no_snapshot_or_one_of_other_parts_is_not_taken() {
    let (_dir, store) = store();
    let (one, two) = (parts("a"), parts("b"));
    let error = store.get_or_bake(&one, |_| Ok(()), &mut |_| ()).expect_err("made nothing");
    assert!(matches!(error, StoreError::NotBaked { .. }), "{error}");
    let error = store.get_or_bake(&one, |path| bake(path, &two, 1, None), &mut |_| ()).expect_err("made another");
    assert!(matches!(error, StoreError::OtherKey), "{error}");
    let error = store.get_or_bake(&parts("\n"), |_| Ok(()), &mut |_| ()).expect_err("no part of a key");
    assert!(matches!(error, StoreError::Parts { .. }), "{error}");
    assert!(store.get(&one).is_none());
}

#[test]
fn what_a_dead_baker_left_is_cleared_by_the_next() {
    let (_dir, store) = store();
    let (parts, other) = (parts("a"), parts("b"));
    let left = |key: &str| store.dir().join(format!("{key}.work.0123456789abcdef"));
    let (own, others) = (left(parts.key().as_str()), left(other.key().as_str()));
    for dir in [&own, &others] {
        fs::create_dir_all(dir.join("snapshot")).expect("a directory");
        File::create(dir.join("snapshot/memory")).expect("a file");
    }
    get(&store, &parts, 1).0.expect("bakes");
    assert!(!own.exists());
    store.prune(None).expect("prunes");
    assert!(!others.exists(), "pruning clears it all");
}
