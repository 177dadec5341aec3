use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::{Caps, Compressor, Options, pack_tar};

#[path = "../../../../tests/common/archive.rs"]
#[allow(dead_code, reason = "the tests of archives use all of it")]
mod archive;
mod model;

use archive::{Archive, Header};

/// A directory's line: path, mode, owner, group, time and the values of its attributes.
type Line = (String, u16, u32, u32, u32, String);

/// An entry of a directory with attributes that no other has; its time is what `number` says.
fn dir(archive: Archive, name: &str, mode: u32, number: u32) -> Archive {
    let note = format!("of {number}");
    let mut header = Header::new(b'5', name, 0).owner(number, number + 1);
    header.put(100, format!("{mode:07o}\0").as_bytes()).put(136, format!("{number:011o}\0").as_bytes());
    archive.pax(b'x', &[("SCHILY.xattr.user.note", note.as_bytes())]).header(&header)
}

fn line(path: &str, mode: u16, number: u32) -> Line {
    (path.to_owned(), mode, number, number + 1, number, format!("of {number}"))
}

/// What nothing says anything of, on the way to another.
fn plain(path: &str) -> Line {
    (path.to_owned(), 0o755, 0, 0, 0, String::new())
}

fn pack(archive: &[u8], path: &Path) -> bool {
    let out = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("a file");
    let options = Options { compressor: Compressor::Lz4, threads: 1, ..Options::default() };
    pack_tar(archive, out, &options, &Caps::default()).expect("packs").unlisted
}

fn layers(dir: &TempDir, archives: &[Archive]) -> Vec<Below> {
    let layer = |(number, archive): (usize, &Archive)| {
        let path = dir.path().join(number.to_string());
        let unlisted = pack(&archive.clone().end(), &path);
        Below { image: Image::open(&path).expect("opens"), path, unlisted }
    };
    archives.iter().enumerate().map(layer).rev().collect()
}

fn lines(found: &[Found]) -> Vec<Line> {
    let mut paths: Vec<String> = Vec::new();
    let line = |Found { place, description: Description { mode, uid, gid, mtime, xattrs } }: &Found| {
        let path = place
            .as_ref()
            .map_or_else(String::new, |(parent, name)| format!("{}/{}", paths[*parent], String::from_utf8_lossy(name)));
        paths.push(path.clone());
        assert!(xattrs.keys().all(|name| **name == *b"user.note"), "{xattrs:?}");
        let note = xattrs.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        (path, *mode, *uid, *gid, *mtime, note)
    };
    found.iter().map(line).collect()
}

/// The layer on those of these archives, the lowest first.
#[track_caller]
fn assert_found(archives: &[Archive], wanted: &[Line]) {
    let dir = TempDir::new().expect("a directory");
    let found = find(&layers(&dir, archives), &Caps::default()).expect("finds");
    assert_eq!(lines(&found), wanted);
}

fn new() -> Archive {
    Archive::new()
}

/// `a` and `a/b`, described.
fn base() -> Archive {
    dir(dir(new(), "a", 0o700, 10), "a/b", 0o1711, 20).file("a/b/old", "x")
}

#[test]
fn what_layers_below_say_of_unlisted_directories_counts() {
    let wanted = [plain(""), line("/a", 0o700, 10), line("/a/b", 0o1711, 20)];
    assert_found(&[base(), new().file("a/b/new", "x")], &wanted);
    // A whiteout, too, is something in a directory.
    assert_found(&[base(), new().file("a/b/.wh.old", "")], &wanted);
    assert_found(&[base(), new().file("a/x", "x"), new().dir("c"), new().file("a/b/new", "x")], &wanted);
    // Only what is below counts, and of that the topmost that says something.
    let again = dir(new().file("a/b/x", "x"), "a/b", 0o3755, 30);
    let wanted = [plain(""), line("/a", 0o700, 10), line("/a/b", 0o3755, 30)];
    assert_found(&[base(), again, new().file("a/b/new", "x")], &wanted);
    assert_found(&[new().file("a/b/new", "x"), base()], &[]);
    // What is listed is needed on the way.
    let listed = dir(new(), "a", 0o750, 40).file("a/b/new", "x");
    assert_found(&[base(), listed], &[plain(""), line("/a", 0o750, 40), line("/a/b", 0o1711, 20)]);
}

#[test]
fn without_need_there_is_none() {
    assert_found(&[new().file("a/b/new", "x")], &[]);
    assert_found(&[new().file("a/b/old", "x"), new().file("a/b/new", "x")], &[]);
    assert_found(&[base(), dir(dir(new(), "a", 0o700, 1), "a/b", 0o700, 2).file("a/b/new", "x")], &[]);
    // In whatever order.
    assert_found(&[base(), dir(dir(new().file("a/b/new", "x"), "a/b", 0o700, 2), "a", 0o700, 1)], &[]);
    // It says what is there already.
    let mut default = Header::new(b'5', "a", 0);
    default.put(100, b"0000755\0").put(136, b"00000000000\0");
    assert_found(&[new().header(&default), new().file("a/new", "x")], &[]);
    assert_found(&[base(), new().file("c/new", "x"), new().file("other", "x")], &[]);
}

#[test]
fn what_is_gone_says_nothing() {
    let upper = || new().file("a/b/new", "x");
    assert_found(&[base(), new().file(".wh.a", ""), upper()], &[]);
    assert_found(&[base(), new().file("a", "now a file"), upper()], &[]);
    assert_found(&[base(), new().symlink("a", "c"), upper()], &[]);
    // In one layer: another directory takes the place of the one below.
    assert_found(&[base(), upper().file(".wh.a", "")], &[]);
    assert_found(&[base(), new().file(".wh.a", "").file("a/b/new", "x")], &[]);
    let only_a = [plain(""), line("/a", 0o700, 10)];
    assert_found(&[base(), new().file("a/.wh.b", ""), upper()], &only_a);
    assert_found(&[base(), upper().file("a/.wh.b", "")], &only_a);
    // What was gone may be back.
    let back = dir(new(), "a", 0o711, 50);
    assert_found(&[base(), new().file(".wh.a", ""), back, upper()], &[plain(""), line("/a", 0o711, 50)]);
}

#[test]
fn an_emptied_directory_is_what_it_was() {
    let only_a = [plain(""), line("/a", 0o700, 10)];
    assert_found(&[base(), new().file("a/.wh..wh..opq", "").file("a/b/new", "x")], &only_a);
    assert_found(&[base(), new().file("a/.wh..wh..opq", ""), new().file("a/b/new", "x")], &only_a);
    // It says so itself, and hides what was in it.
    let listed = dir(new(), "a", 0o777, 60).file("a/.wh..wh..opq", "");
    assert_found(&[base(), listed, new().file("a/b/new", "x")], &[plain(""), line("/a", 0o777, 60)]);
}

#[test]
fn the_root_is_a_directory_like_others() {
    let root = || dir(base(), "./", 0o1755, 70);
    assert_found(&[root(), new().file("new", "x")], &[line("", 0o1755, 70)]);
    assert_found(&[root(), new().file(".wh..wh..opq", "").file("a/new", "x")], &[line("", 0o1755, 70)]);
    assert_found(&[root(), dir(new(), "./", 0o755, 80).file("new", "x")], &[]);
    let wanted = [line("", 0o755, 80), line("/a", 0o700, 10)];
    assert_found(&[root(), dir(new(), "./", 0o755, 80).file("a/new", "x")], &wanted);
}

#[test]
fn large_directories_are_read_side_by_side() {
    let (mut lower, mut upper) = (new(), new());
    let mut wanted = vec![plain(""), plain("/many")];
    for number in 0..3000 {
        let name = format!("many/{number:05}{}", "n".repeat(number as usize % 80));
        lower = dir(lower, &name, 0o711, number + 1);
        if number % 3 == 0 {
            upper = upper.file(&format!("{name}/new"), "x");
            wanted.push(line(&format!("/{name}"), 0o711, number + 1));
        } else if number % 3 == 1 {
            upper = upper.file(&name, "x");
        }
    }
    assert_found(&[lower, upper], &wanted);
}

#[test]
fn the_deepest_path_is_walked_and_more_than_the_caps_is_refused() {
    let deep = vec!["d"; 3000].join("/");
    let path = |name: &str| archive::record("path", format!("{deep}/{name}").as_bytes());
    let lower = dir(new(), "d", 0o700, 5).entry(b'x', "pax", &path("old")).file("long", "x");
    let upper = new().entry(b'x', "pax", &path("new")).file("long", "x");
    let mut listed = Header::new(b'5', "long", 0);
    listed.put(100, b"0000711\0");
    let middle = new().entry(b'x', "pax", &path("")).header(&listed);
    let dir = TempDir::new().expect("a directory");
    let layers = layers(&dir, &[lower, middle, upper]);
    let found = find(&layers, &Caps::default()).expect("finds");
    assert_eq!((found.len(), found[1].description.mode), (3001, 0o700));
    assert_eq!((found[2].description.mode, found[3000].description.mode), (0o755, 0o711));
    for caps in [Caps { entries: 3000, ..Caps::default() }, Caps { xattr_bytes: 10, ..Caps::default() }] {
        let error = find(&layers, &caps).map(|found| found.len()).expect_err("too much");
        assert!(matches!(error, AttributesError::Cap(_)), "{error:?}");
    }
    // As long as its path, and a byte less.
    assert!(find(&layers, &Caps { path_bytes: 5999, ..Caps::default() }).is_ok());
    assert!(find(&layers, &Caps { path_bytes: 5998, ..Caps::default() }).is_err());
}

#[test]
fn damaged_layers_are_errors_or_others_and_nothing_else() {
    let work = TempDir::new().expect("a directory");
    let archives = [base(), new().file("a/b/new", "x").file("c/d/new", "x"), new().file("a/b/.wh.old", "")];
    let good = layers(&work, &archives);
    let bytes: Vec<_> = good.iter().map(|layer| fs::read(&layer.path).expect("reads")).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut errors = 0;
    for round in 0..2000 {
        let victim = random() % bytes.len();
        let mut damaged = bytes[victim].clone();
        // What is written ends long before the page does.
        for _ in 0..=round % 4 {
            let at = if round % 2 == 0 { random() % 96 } else { random() % 700 };
            damaged[at] = random() as u8;
        }
        fs::write(&good[victim].path, damaged).expect("writes");
        let open = |layer: &Below| {
            Some(Below { path: layer.path.clone(), image: Image::open(&layer.path).ok()?, unlisted: layer.unlisted })
        };
        let opened: Option<Vec<_>> = good.iter().map(open).collect();
        let found = opened.map(|opened| find(&opened, &Caps::default()));
        errors += u32::from(!matches!(found, Some(Ok(_))));
        fs::write(&good[victim].path, &bytes[victim]).expect("writes");
    }
    assert!((200..2000).contains(&errors), "{errors}");
}
