//! Image layer tars: what an image gives back is what `tar -x` makes of the archive, and whiteouts become overlayfs's.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::archive::{Archive, Header};
use common::facts::{self, Facts};
use common::{Mounted, image_of_tar, is_root, kernel_reads, run, text, unsquashfs, zoo};
use supermachine_layers::{Lost, Summary};
use tempfile::TempDir;

/// What an archive becomes.
fn unpacked(archive: &[u8]) -> (Facts, Summary) {
    let work = TempDir::new().expect("a directory");
    let (image, out) = (work.path().join("image"), work.path().join("out"));
    let summary = image_of_tar(archive, &image).expect("packs");
    unsquashfs(&image, &out);
    (facts::of(&out), summary)
}

fn tree_of(archive: &[u8]) -> BTreeMap<String, String> {
    let (facts, _) = unpacked(archive);
    let kind = |path: &Path| match (facts[path].mode & 0o170_000, facts[path].device) {
        (0o040_000, _) if facts[path].xattrs.get(&b"trusted.overlay.opaque"[..]) == Some(&b"y".to_vec()) => {
            "opaque".into()
        }
        (0o040_000, _) => "dir".to_owned(),
        (0o020_000, 0) => "whiteout".to_owned(),
        (0o120_000, _) => format!("-> {}", String::from_utf8_lossy(&facts[path].content)),
        (0o100_000, _) => {
            format!("file of {}", u64::from_le_bytes(facts[path].content[..8].try_into().expect("a size")))
        }
        other => format!("{other:?}"),
    };
    facts.keys().map(|path| (path.display().to_string(), kind(path))).collect()
}

#[track_caller]
fn assert_tree(archive: &[u8], wanted: &[(&str, &str)]) {
    let root = [("", "dir")].into_iter().filter(|_| wanted.iter().all(|(path, _)| !path.is_empty()));
    let wanted: BTreeMap<_, _> =
        wanted.iter().copied().chain(root).map(|(path, kind)| (path.into(), kind.into())).collect();
    assert_eq!(tree_of(archive), wanted);
}

/// A tree that every format of GNU's tar can hold.
fn plain_tree(root: &Path) {
    zoo::make(root, false);
    for too_much in ["socket", "attributes/sticky", "far", "many", "deep", "links/long", "attributes/opaque"] {
        let path = root.join(too_much);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect(too_much);
    }
    // What images do not take from archives, see the tests of that.
    rustix::fs::removexattr(root.join("attributes/all"), "system.posix_acl_access").expect("a list");
    fs::write(root.join("attributes").join("a-name-of-medium-length-".repeat(4)), "long").expect("a file");
    symlink("target/".repeat(13), root.join("attributes/medium-link")).expect("a link");
}

#[test]
fn what_gnu_tar_writes_is_read_as_gnu_tar_reads_it() {
    if !kernel_reads("what_gnu_tar_writes_is_read_as_gnu_tar_reads_it") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    plain_tree(&tree);
    let formats: [&[&str]; 8] = [
        &["--format=gnu"],
        &["--format=oldgnu", "--sparse"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--xattrs", "--xattrs-include=*"],
        &["--format=pax", "--sparse", "--sparse-version=0.0", "--xattrs", "--xattrs-include=*"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"],
        &["--format=gnu", "--hard-dereference"],
    ];
    for (number, format) in formats.iter().enumerate() {
        let archive = work.path().join(format!("{number}.tar"));
        run("tar", &[format, &["--numeric-owner", "-C", text(&tree), "-cf", text(&archive), "."][..]].concat());
        compare_with_tar(&archive, work.path());
    }
}

/// Compares what an image has of an archive with what GNU's tar makes of it.
fn compare_with_tar(archive: &Path, work: &Path) {
    let (image, out) = (work.join("image"), work.join("out"));
    fs::create_dir(&out).expect("a directory");
    let words = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", text(&out), "-xpf", text(archive)];
    run("tar", &words);
    let summary = image_of_tar(File::open(archive).expect("the archive"), &image).expect("packs");
    assert_eq!((summary.lost, summary.unmarked_end), (Lost::default(), false), "{archive:?}");
    facts::assert_same(&facts::of(&Mounted::new(&image).path()), &facts::of(&out));
    fs::remove_dir_all(out).and_then(|()| fs::remove_file(image)).expect("files");
}

#[test]
fn long_names_of_every_form() {
    if !kernel_reads("long_names_of_every_form") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    let deep: PathBuf = (0..12).map(|depth| format!("{depth}{}", "d".repeat(60))).collect();
    fs::create_dir_all(tree.join(&deep)).expect("directories");
    fs::write(tree.join(&deep).join("n".repeat(255)), "deep").expect("a file");
    symlink("t".repeat(3000), tree.join("link")).expect("a link");
    fs::hard_link(tree.join(&deep).join("n".repeat(255)), tree.join("zz")).expect("a link");
    for (number, format) in ["gnu", "oldgnu", "pax"].iter().enumerate() {
        let archive = work.path().join(format!("{number}.tar"));
        run("tar", &["--format", format, "--numeric-owner", "-C", text(&tree), "-cf", text(&archive), "."]);
        compare_with_tar(&archive, work.path());
    }
}

#[test]
fn compressed_archives_give_the_same_image() {
    if !is_root("compressed_archives_give_the_same_image") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let plain = Archive::new().dir("d").file("d/f", &"text ".repeat(100_000)).end();
    let image = |bytes: &[u8], name: &str| image_of_tar(bytes, &work.path().join(name)).expect("packs").sha256;
    let wanted = image(&plain, "plain");
    for (program, words) in [("gzip", &["-c"][..]), ("zstd", &["-c", "-q"]), ("zstd", &["-c", "-q", "--long=27"])] {
        let path = work.path().join("input");
        // In two members or frames, as parallel compressors write.
        let mut packed = Vec::new();
        for half in plain.chunks(plain.len() / 2 + 1) {
            fs::write(&path, half).expect("a file");
            let output = Command::new(program)
                .args(words)
                .stdin(File::open(&path).expect("a file"))
                .stdout(Stdio::piped())
                .output();
            packed.extend(output.expect("runs").stdout);
        }
        assert!(packed.len() < plain.len() / 10);
        assert_eq!(image(&packed, &format!("{program}{}", words.len())), wanted, "{program}");
    }
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    if !is_root("whiteouts_become_those_of_overlayfs") {
        return;
    }
    let archive = Archive::new().dir("a").file("a/.wh.gone", "").file("b/.wh..wh..opq", "").file("b/new", "x");
    let archive = archive.file(".wh..wh.plnk/1.2", "own").dir(".wh..wh.aufs").file(".wh.top", "");
    let end = archive.end();
    let wanted = [("a", "dir"), ("a/gone", "whiteout"), ("b", "opaque"), ("b/new", "file of 1"), ("top", "whiteout")];
    assert_tree(&end, &wanted);
    let (facts, summary) = unpacked(&end);
    assert_eq!((summary.whiteouts, summary.root_opaque), (3, false));
    let gone = &facts[Path::new("top")];
    assert_eq!((gone.mode, gone.uid, gone.gid, gone.mtime), (0o020_000, 0, 0, 0));
}

#[test]
fn a_whiteout_hides_only_the_layers_below() {
    if !is_root("a_whiteout_hides_only_the_layers_below") {
        return;
    }
    // The order of entries makes no difference.
    let new_file = [("f", "file of 1")];
    assert_tree(&Archive::new().file(".wh.f", "").file("f", "x").end(), &new_file);
    assert_tree(&Archive::new().file("f", "x").file(".wh.f", "").end(), &new_file);
    let new_dir = [("d", "opaque"), ("d/f", "file of 1")];
    assert_tree(&Archive::new().file(".wh.d", "").dir("d").file("d/f", "x").end(), &new_dir);
    assert_tree(&Archive::new().file(".wh.d", "").file("d/f", "x").end(), &new_dir);
    assert_tree(&Archive::new().file("d/f", "x").file(".wh.d", "").end(), &new_dir);
    assert_tree(&Archive::new().file("d/.wh..wh..opq", "").dir("d").file("d/f", "x").end(), &new_dir);
    let (_, summary) = unpacked(&Archive::new().file(".wh..wh..opq", "").end());
    assert!(summary.root_opaque);
}

/// umoci writes such layers where a file replaces a directory.
#[test]
fn a_whiteout_below_a_file_is_one_of_nothing() {
    if !is_root("a_whiteout_below_a_file_is_one_of_nothing") {
        return;
    }
    for name in ["d/.wh.x", "d/.wh..wh..opq", "d/a/b/.wh.x"] {
        let after = Archive::new().file("d", "1").file(name, "").end();
        assert_tree(&after, &[("d", "file of 1")]);
        assert_eq!(unpacked(&after).1.whiteouts, 0, "{name}");
        assert_tree(&Archive::new().file(name, "").file("d", "1").end(), &[("d", "file of 1")]);
    }
}

#[test]
fn overlay_attributes_in_a_tar_do_not_count() {
    if !is_root("overlay_attributes_in_a_tar_do_not_count") {
        return;
    }
    let records: [(&str, &[u8]); 2] =
        [("SCHILY.xattr.trusted.overlay.redirect", b"/etc"), ("SCHILY.xattr.trusted.kept", b"1")];
    let (facts, summary) = unpacked(&Archive::new().pax(b'x', &records).dir("d").end());
    assert_eq!(facts[Path::new("d")].xattrs, BTreeMap::from([(b"trusted.kept".to_vec(), b"1".to_vec())]));
    assert_eq!(summary.lost, Lost { overlay_xattrs: 1, ..Lost::default() });
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root("later_entries_replace_earlier_ones") {
        return;
    }
    assert_tree(&Archive::new().file("f", "one").file("f", "three").end(), &[("f", "file of 5")]);
    assert_tree(&Archive::new().file("d/x", "1").file("d", "22").end(), &[("d", "file of 2")]);
    assert_tree(
        &Archive::new().symlink("d", "/etc").dir("d").file("d/x", "1").end(),
        &[("d", "dir"), ("d/x", "file of 1")],
    );
    assert_tree(&Archive::new().file("d/x", "1").dir("d").end(), &[("d", "dir"), ("d/x", "file of 1")]);
    // The other name keeps the old content.
    let archive = Archive::new().file("a", "old").hard_link("b", "a").file("a", "newer").end();
    assert_tree(&archive, &[("a", "file of 5"), ("b", "file of 3")]);
    assert_eq!(unpacked(&archive).0[Path::new("b")].links, 1);
    assert_tree(&Archive::new().file("a", "x").hard_link("a", "./a").end(), &[("a", "file of 1")]);
}

#[test]
fn directories_get_what_entries_say() {
    if !is_root("directories_get_what_entries_say") {
        return;
    }
    let mut root = Header::new(b'5', "./", 0).owner(5, 6);
    root.put(100, b"0001700\0");
    let mut late = Header::new(b'5', "a", 0).owner(7, 8);
    late.put(100, b"0002750\0");
    let records: [(&str, &[u8]); 1] = [("SCHILY.xattr.user.one", b"1")];
    let archive =
        Archive::new().file("/a/b/f", "x").pax(b'x', &records).header(&late).header(&late).header(&root).end();
    let (facts, _) = unpacked(&archive);
    let of = |path: &str| &facts[Path::new(path)];
    let seen = |path: &str| (of(path).mode & 0o7777, of(path).uid, of(path).gid, of(path).mtime);
    assert_eq!((seen(""), seen("a"), seen("a/b")), ((0o1700, 5, 6, 100), (0o2750, 7, 8, 100), (0o755, 0, 0, 0)));
    assert_eq!(of("a").xattrs.len(), 1, "a further entry adds and takes nothing away");
    // Without an entry the root is like a parent that nothing describes.
    let (facts, _) = unpacked(&Archive::new().file("f", "").end());
    let root = &facts[Path::new("")];
    assert_eq!((root.mode & 0o7777, root.uid, root.gid), (0o755, 0, 0));
}

#[test]
fn extended_headers_count_more_than_headers() {
    if !is_root("extended_headers_count_more_than_headers") {
        return;
    }
    let own: [(&str, &[u8]); 8] = [
        ("path", b"dir/na\xffme"),
        ("uid", b"4000000000"),
        ("gid", b"70000"),
        ("mtime", b"4294967295.9"),
        ("size", b"3"),
        ("SCHILY.xattr.user.a", b"line\nfeed\0"),
        ("LIBARCHIVE.xattr.user.b%3d", b"AAH/"),
        ("SCHILY.acl.access", b"user::rw-"),
    ];
    let archive = Archive::new().pax(b'g', &[("uid", b"9"), ("comment", b"none")]).pax(b'x', &own);
    let archive = archive.header(&Header::new(b'0', "short", 0)).content(b"abc").file("second", "").end();
    let (facts, summary) = unpacked(&archive);
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"dir/na\xffme");
    let fact = &facts[Path::new(name)];
    assert_eq!((fact.uid, fact.gid, fact.mtime, fact.content[0]), (4_000_000_000, 70_000, 4_294_967_295, 3));
    let xattrs = [(b"user.a".to_vec(), b"line\nfeed\0".to_vec()), (b"user.b=".to_vec(), vec![0, 1, 255])];
    assert_eq!(fact.xattrs, xattrs.into());
    assert_eq!((facts[Path::new("second")].uid, summary.lost.acls), (9, 1));
}

#[test]
fn times_out_of_range_are_counted() {
    if !is_root("times_out_of_range_are_counted") {
        return;
    }
    let archive = Archive::new()
        .pax(b'x', &[("mtime", b"-5")])
        .file("old", "")
        .pax(b'x', &[("mtime", b"5000000000")])
        .file("late", "");
    let (facts, summary) = unpacked(&archive.end());
    assert_eq!((facts[Path::new("old")].mtime, facts[Path::new("late")].mtime), (0, 4_294_967_295));
    assert_eq!(summary.lost, Lost { times: 2, ..Lost::default() });
}

#[test]
fn a_directory_of_100_000_entries() {
    if !kernel_reads("a_directory_of_100_000_entries") {
        return;
    }
    let name = |number: u32| format!("big/entry-{:x}-{number}", number.wrapping_mul(2_654_435_761));
    let mut archive = Archive::new();
    for number in 0..100_000 {
        archive = archive.header(&Header::new(b'0', &name(number), 0).owner(number % 7, 0));
    }
    let work = TempDir::new().expect("a directory");
    let image = work.path().join("image");
    let summary = image_of_tar(&archive.end()[..], &image).expect("packs");
    assert_eq!(summary.entries, 100_002);
    let mounted = Mounted::new(&image);
    assert_eq!(fs::read_dir(mounted.path().join("big")).expect("a directory").count(), 100_000);
    for number in (0..100_000).step_by(97).chain([99_999]) {
        let metadata = fs::symlink_metadata(mounted.path().join(name(number))).expect("an entry");
        assert_eq!(metadata.uid(), number % 7);
    }
    assert!(fs::symlink_metadata(mounted.path().join("big/entry-0-1")).is_err());
}

#[test]
fn a_file_beyond_4_gib_in_a_sparse_archive() {
    if !kernel_reads("a_file_beyond_4_gib_in_a_sparse_archive") {
        return;
    }
    let size = (6u64 << 30) + 1;
    let map = format!("{},2,{},1", 5u64 << 30, size - 1);
    let real = size.to_string();
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", real.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
    let archive = Archive::new().pax(b'x', &records).file("big", "abc").end();
    let work = TempDir::new().expect("a directory");
    let image = work.path().join("image");
    image_of_tar(&archive[..], &image).expect("packs");
    let mounted = Mounted::new(&image);
    let file = File::open(mounted.path().join("big")).expect("the file");
    let metadata = file.metadata().expect("its length");
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 <= 2 * 131_072, "{} blocks", metadata.blocks());
    let mut part = [9; 4];
    file.read_exact_at(&mut part, (5 << 30) - 1).expect("a part");
    assert_eq!(part, *b"\0ab\0");
    file.read_exact_at(&mut part[..1], size - 1).expect("the end");
    assert_eq!(part[0], b'c');
}

#[test]
fn ends_of_archives() {
    if !is_root("ends_of_archives") {
        return;
    }
    let archive = Archive::new().file("f", "x");
    let unmarked = |bytes: &[u8]| unpacked(bytes).1.unmarked_end;
    assert!(unmarked(&archive.0));
    assert!(unmarked(b""));
    assert!(!unmarked(&[&archive.0[..], &[0; 512]].concat()));
    // What follows the end is no part of the archive.
    assert!(!unmarked(&[&archive.clone().end()[..], &[7; 3000]].concat()));
    assert!(!unmarked(&[0; 10_240]));
}
