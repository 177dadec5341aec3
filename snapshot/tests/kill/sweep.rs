//! The parent: kills the child everywhere, and looks what the next one finds.

use std::sync::mpsc;
use std::thread;

use supermachine_snapshot::store::{Event, Store};
use tempfile::TempDir;

use crate::baker::{Baker, MARK};
use crate::common::{bake, get, mark, names, parts};

/// What the next baker would bake.
const NEXT: u8 = 2;

pub(crate) fn run() {
    let steps = count();
    assert!(steps > 100, "{steps} points");
    // The end of one call and the begin of the next are one point.
    let points: Vec<_> = (1..=steps).step_by(2).collect();
    let baked = points.iter().filter(|steps| killed_after(**steps)).count();
    assert!(0 < baked && baked < points.len(), "both were seen: the dead one's template, and the next one's");
    let waited = (1..=steps).step_by(7).filter(|steps| killed_while_another_waits(*steps)).count();
    assert!(waited > 5, "{waited} waited");
    println!("killed at {} points: {baked} left a whole template, {waited} died while another waited", points.len());
}

/// Points in a whole bake.
fn count() -> usize {
    let dir = TempDir::new().expect("a directory");
    let mut baker = Baker::start(dir.path());
    let mut steps = 0;
    while baker.step() {
        steps += 1;
    }
    baker.kill();
    steps
}

fn at(dir: &TempDir, steps: usize) -> Baker {
    let mut baker = Baker::start(dir.path());
    let _ended = (0..steps).all(|_| baker.step());
    baker
}

/// Kills a baker; whether it left a template.
fn killed_after(steps: usize) -> bool {
    let dir = TempDir::new().expect("a directory");
    at(&dir, steps).kill();
    let store = Store::open(dir.path()).expect("a store");
    let (template, told) = get(&store, &parts("a"), NEXT);
    let mark = mark(&template.expect("bakes"));
    let expected: &[&str] = if mark == MARK { &[] } else { &["baking"] };
    assert_eq!(told, expected, "killed after {steps}");
    check(&store, steps);
    mark == MARK
}

/// Kills a baker when another waits for it; whether one did.
fn killed_while_another_waits(steps: usize) -> bool {
    let dir = TempDir::new().expect("a directory");
    let baker = at(&dir, steps);
    let store = Store::open(dir.path()).expect("a store");
    let (waiting, waits) = mpsc::channel();
    let waited = thread::scope(|scope| {
        let (store, parts) = (&store, parts("a"));
        let next = scope.spawn(move || {
            let mut tell = |event: Event<'_>| {
                assert!(!matches!(event, Event::Removed { .. }), "killed after {steps}: {event:?}");
                if matches!(event, Event::Waiting) {
                    waiting.send(()).expect("is heard");
                }
            };
            let bake = |path: &std::path::Path| bake(path, &parts, NEXT, None);
            mark(&store.get_or_bake(&parts, bake, &mut tell).expect("is there"))
        });
        // Heard when it waits, or when it is through without waiting.
        let waited = waits.recv().is_ok();
        baker.kill();
        next.join().expect("ends");
        waited
    });
    check(&store, steps);
    waited
}

/// One whole template and nothing else.
fn check(store: &Store, steps: usize) {
    let key = parts("a").key();
    assert_eq!(names(store), [key.to_string(), format!("{key}.lock")], "killed after {steps}");
    store.verify(&key).expect("reads").expect("is whole");
}
