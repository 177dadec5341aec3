//! What is listed, and what is removed.

use std::fs;
use std::time::{Duration, SystemTime};

use supermachine_snapshot::store::{Kept, Parts, Store, Template};

use crate::common::{bake, get, mark, names, parts};
use crate::store;

fn kept(store: &Store, unused: Option<Duration>, parts: &Parts) -> Option<Kept> {
    let pruned = store.prune(unused).expect("prunes");
    pruned.iter().find(|pruned| pruned.key == parts.key()).expect("was looked at").kept
}

fn image(store: &Store, parts: &Parts, base: &Template) -> Template {
    let id = base.snapshot().id();
    store.get_or_bake(parts, |path| bake(path, parts, 9, Some(id)), &mut |_| ()).expect("bakes")
}

#[test]
fn a_template_in_use_stays() {
    let (_dir, store) = store();
    let parts = parts("a");
    let template = get(&store, &parts, 1).0.expect("bakes");
    assert_eq!(kept(&store, None, &parts), Some(Kept::InUse));
    let inherited = template.guard().try_clone().expect("as a child inherits it");
    drop(template);
    assert_eq!(kept(&store, None, &parts), Some(Kept::InUse));
    assert!(store.list().expect("lists")[0].in_use);
    drop(inherited);
    assert!(!store.list().expect("lists")[0].in_use);
    assert_eq!(kept(&store, None, &parts), None);
    assert_eq!(names(&store), [""; 0]);
    assert_eq!(mark(&get(&store, &parts, 2).0.expect("bakes")), 2);
}

#[test]
fn one_that_was_used_lately_stays() {
    let (_dir, store) = store();
    let parts = parts("a");
    get(&store, &parts, 1).0.expect("bakes");
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(kept(&store, Some(day), &parts), Some(Kept::Recent));
    let used = |ago: Duration| {
        let file = fs::File::open(store.dir().join(parts.key().as_str()).join("use")).expect("opens");
        file.set_modified(SystemTime::now() - ago).expect("sets");
    };
    used(2 * day);
    drop(store.get(&parts).expect("is there"));
    assert_eq!(kept(&store, Some(day), &parts), Some(Kept::Recent), "that was a use");
    used(2 * day);
    assert_eq!(kept(&store, Some(day), &parts), None);
}

#[test]
fn one_that_is_being_baked_stays() {
    let (_dir, store) = store();
    let parts = parts("a");
    let mut seen = Vec::new();
    let bake_it = |path: &std::path::Path| {
        bake(path, &parts, 1, None)?;
        seen = store.prune(None)?;
        Ok(())
    };
    let template = store.get_or_bake(&parts, bake_it, &mut |_| ()).expect("bakes");
    assert_eq!((mark(&template), seen.len()), (1, 0));
}

#[test]
fn bases_stay_with_what_lies_on_them() {
    let (_dir, store) = store();
    let (below, above) = (parts("base"), parts("image"));
    let base = get(&store, &below, 1).0.expect("bakes");
    let image = image(&store, &above, &base);
    drop(base);
    assert_eq!(kept(&store, None, &below), Some(Kept::Base));
    drop(image);
    assert_eq!(kept(&store, None, &below), None, "both went at once");
    assert_eq!(names(&store), [""; 0]);
}

#[test]
fn of_many_that_lie_on_others_the_least_used_go() {
    let (_dir, store) = store();
    let base = get(&store, &parts("base"), 1).0.expect("bakes");
    let images = ["a", "b", "c", "d"].map(|name| image(&store, &parts(name), &base));
    let keys: Vec<_> = images.iter().map(|image| image.key().clone()).collect();
    for (ago, image) in [4, 1, 2, 3].into_iter().zip(&images) {
        image.guard().set_modified(SystemTime::now() - Duration::from_secs(ago)).expect("sets");
    }
    let [a, b, c, d] = images;
    drop((b, c, d));
    let pruned: Vec<_> = store.prune_over(2).expect("prunes").into_iter().map(|one| (one.key, one.kept)).collect();
    assert_eq!(pruned, [(keys[3].clone(), None), (keys[0].clone(), Some(Kept::InUse))]);
    drop(a);
    assert_eq!(store.prune_over(2).expect("prunes").len(), 1);
    let left: Vec<_> = store.list().expect("lists").into_iter().map(|entry| entry.key).collect();
    assert!(left.len() == 3 && left.contains(base.key()) && left.contains(&keys[1]) && left.contains(&keys[2]));
}

#[test]
fn what_lies_on_nothing_goes() {
    let (_dir, store) = store();
    let (below, above) = (parts("base"), parts("image"));
    let base = get(&store, &below, 1).0.expect("bakes");
    drop(image(&store, &above, &base));
    fs::remove_dir_all(store.dir().join(below.key().as_str())).expect("removes");
    assert_eq!(kept(&store, Some(Duration::from_secs(3600)), &above), None);
}

#[test]
fn a_list_tells_of_good_and_bad() {
    let (_dir, store) = store();
    let (good, bad) = (parts("good"), parts("bad"));
    let template = get(&store, &good, 1).0.expect("bakes");
    get(&store, &bad, 1).0.expect("bakes");
    fs::write(store.dir().join(bad.key().as_str()).join("snapshot/state"), "nonsense").expect("writes");
    fs::write(store.dir().join("something else"), "").expect("writes");
    let list = store.list().expect("lists");
    assert_eq!(list.len(), 2);
    let entry = |parts: &Parts| list.iter().find(|entry| entry.key == parts.key()).expect("is listed");
    let (id, manifest) = entry(&good).content.as_ref().expect("opens");
    assert_eq!((*id, &manifest.about.key), (template.snapshot().id(), &good.to_map()));
    let (disk, age) = (entry(&good).disk_bytes, entry(&good).last_used.and_then(|used| used.elapsed().ok()));
    assert!((256 << 10..400 << 10).contains(&disk), "{disk} bytes");
    assert!(age.is_some_and(|age| age < Duration::from_secs(60)), "{age:?}");
    let reason = entry(&bad).content.as_ref().expect_err("is bad");
    assert_eq!(reason, "the state file is no part of a snapshot: its magic is missing");
    assert_eq!(kept(&store, Some(Duration::from_secs(3600)), &bad), None, "of no use to anybody");
}
