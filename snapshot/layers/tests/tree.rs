//! Directory trees: what an image gives back is what went in.

mod common;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{ALL, Mounted, facts, image_of_tree, is_root, kernel_reads, options, text, unsquashfs, zoo};
use supermachine_layers::{Caps, Compressor, ImageError, Options, PackError, TreeError, pack_tree};
use tempfile::TempDir;

/// Sizes of a block: the smallest, the usual and the largest.
const BLOCK_SIZES: [u32; 3] = [4096, 131_072, 1_048_576];

#[test]
fn the_kernel_gives_the_same_tree() {
    if !kernel_reads("the_kernel_gives_the_same_tree") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    zoo::make(&tree, false);
    let wanted = facts::of(&tree);
    for (number, (compressor, block_size)) in ALL.into_iter().zip(BLOCK_SIZES).enumerate() {
        let image = work.path().join(number.to_string());
        let summary = image_of_tree(&tree, &image, &Options { block_size, ..options(compressor) }).expect("packs");
        assert_eq!(summary.entries as usize, wanted.len());
        assert_eq!(summary.lost, supermachine_layers::Lost { acls: 1, ..Default::default() });
        facts::assert_same(&facts::of(&Mounted::new(&image).path()), &wanted);
    }
}

#[test]
fn unsquashfs_gives_the_same_tree() {
    if !is_root("unsquashfs_gives_the_same_tree") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    zoo::make(&tree, false);
    let root_time = fs::metadata(&tree).and_then(|metadata| metadata.modified()).expect("a time");
    // The tool leaves sockets away.
    fs::remove_file(tree.join("socket")).expect("a socket");
    File::open(&tree).and_then(|root| root.set_modified(root_time)).expect("a time");
    let wanted = facts::of(&tree);
    for compressor in ALL {
        let (image, out) = (work.path().join("image"), work.path().join("out"));
        image_of_tree(&tree, &image, &options(compressor)).expect("packs");
        unsquashfs(&image, &out);
        facts::assert_same(&facts::of(&out), &wanted);
        fs::remove_dir_all(out).expect("a directory");
        fs::remove_file(image).expect("an image");
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    if !is_root("the_same_tree_gives_the_same_bytes") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let (one, two) = (work.path().join("one"), work.path().join("two"));
    fs::create_dir(&one).and_then(|()| fs::create_dir(&two)).expect("directories");
    zoo::make(&one, false);
    zoo::make(&two, true);
    facts::assert_same(&facts::of(&two), &facts::of(&one));
    for compressor in ALL {
        let mut digests = Vec::new();
        for (tree, threads) in [(&one, 1), (&one, 2), (&two, 7)] {
            let image = work.path().join("image");
            let summary = image_of_tree(tree, &image, &Options { threads, ..options(compressor) }).expect("packs");
            let bytes = fs::read(&image).expect("an image");
            assert_eq!((bytes.len() as u64, bytes.len() % 4096), (summary.bytes, 0));
            assert_eq!(<sha2::Sha256 as sha2::Digest>::digest(&bytes)[..], summary.sha256);
            digests.push(summary.sha256);
            fs::remove_file(image).expect("an image");
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{compressor:?}");
    }
}

#[test]
fn a_file_beyond_4_gib() {
    if !kernel_reads("a_file_beyond_4_gib") {
        return;
    }
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    let size = (5u64 << 30) + 12_345;
    let file = File::create(tree.join("big")).expect("a file");
    file.set_len(size).expect("a length");
    let places = [0, (4 << 30) - 15, (4 << 30) - 5, (4 << 30) + 131_071, size - 10];
    for place in places {
        file.write_all_at(&zoo::noise(10, place), place).expect("a part");
    }
    let image = work.path().join("image");
    let summary = image_of_tree(&tree, &image, &Options::default()).expect("packs");
    assert!(summary.content_bytes == size && summary.bytes < 1 << 20, "{summary:?}");
    let mounted = Mounted::new(&image);
    let file = File::open(mounted.path().join("big")).expect("the file");
    assert_eq!(file.metadata().expect("its length").len(), size);
    for place in places {
        let mut part = [0; 10];
        file.read_exact_at(&mut part, place).expect("a part");
        assert_eq!(part[..], zoo::noise(10, place), "at {place}");
    }
    assert_eq!(file.read_at(&mut [0; 10], (3 << 30) - 7).expect("a hole"), 10);
}

#[test]
fn equal_files_are_stored_once() {
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    for number in 0..10 {
        fs::write(tree.join(format!("big{number}")), zoo::noise(1_000_000, 1)).expect("a file");
        fs::write(tree.join(format!("small{number}")), zoo::noise(10_000, 2)).expect("a file");
    }
    let summary = image_of_tree(&tree, &work.path().join("image"), &Options::default()).expect("packs");
    assert_eq!(summary.duplicates, 18);
    assert!(summary.bytes < 1_020_000, "{summary:?}");
}

#[test]
fn a_tree_that_changes_is_an_error_or_a_good_image() {
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("directories");
    for number in 0..100 {
        fs::write(tree.join(format!("a/b/{number}")), zoo::noise(50_000, number)).expect("a file");
    }
    let stop = AtomicBool::new(false);
    let (mut changed, mut packed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let victim = tree.join(format!("a/b/{}", round % 100));
                fs::write(&victim, zoo::noise(1 + round as usize % 300_000, round)).expect("a file");
                if round % 3 == 0 {
                    fs::remove_file(&victim).expect("a file");
                }
                if round % 10 == 0 {
                    fs::rename(tree.join("a/b"), tree.join("b"))
                        .and_then(|()| fs::rename(tree.join("b"), tree.join("a/b")))
                        .expect("moves");
                }
            }
        });
        for number in 0..12 {
            let image = work.path().join(number.to_string());
            match image_of_tree(&tree, &image, &Options::default()) {
                Err(PackError::Tree(TreeError::Changed { path })) => {
                    assert!(path.starts_with(&tree), "{path:?}");
                    changed += 1;
                }
                Err(error) => panic!("{error:?}"),
                Ok(_) => {
                    packed += 1;
                    common::run(
                        "unsquashfs",
                        &[
                            "-no-progress",
                            "-quiet",
                            "-d",
                            text(&work.path().join(format!("out{number}"))),
                            text(&image),
                        ],
                    );
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(changed > 0, "no run saw a change, {packed} did not");
}

#[test]
fn nothing_outside_the_root_is_read() {
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    fs::create_dir(work.path().join("outside")).expect("a directory");
    fs::write(work.path().join("outside/secret"), "a secret that no image may have").expect("a file");
    std::os::unix::fs::symlink("../outside", tree.join("dir")).expect("a link");
    std::os::unix::fs::symlink("../outside/secret", tree.join("file")).expect("a link");
    let image = work.path().join("image");
    let summary = image_of_tree(&tree, &image, &options(Compressor::None)).expect("packs");
    assert_eq!((summary.entries, summary.content_bytes), (3, 0));
    let bytes = fs::read(image).expect("an image");
    assert!(!bytes.windows(8).any(|window| window == b"a secret"));
}

#[test]
fn roots_that_are_none() {
    let work = TempDir::new().expect("a directory");
    fs::write(work.path().join("file"), "").expect("a file");
    for name in ["missing", "file"] {
        let error =
            image_of_tree(&work.path().join(name), &work.path().join(format!("image-{name}")), &Options::default());
        let Err(PackError::Tree(TreeError::Io { path, .. })) = error else { panic!("{error:?}") };
        assert_eq!(path, work.path().join(name));
    }
}

#[test]
fn a_full_disk_is_told() {
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    for number in 0..50 {
        fs::write(tree.join(number.to_string()), zoo::noise(300_000, number)).expect("a file");
    }
    let full = File::options().read(true).write(true).open("/dev/full").expect("a full disk");
    let options = options(Compressor::None);
    match pack_tree(&tree, full, &options, &Caps::default()) {
        Err(error) => assert!(error.is_storage_full(), "{error:?}"),
        Ok(summary) => panic!("{summary:?}"),
    }
}

#[test]
fn caps_and_options_are_kept() {
    let work = TempDir::new().expect("a directory");
    let tree = work.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    for number in 0..10 {
        fs::write(tree.join(number.to_string()), "0123456789").expect("a file");
    }
    let pack = |options: &Options, caps: &Caps| {
        let out = tempfile::tempfile().expect("a file");
        pack_tree(&tree, out, options, caps)
    };
    let (options, caps) = (Options::default(), Caps { bytes: 100, entries: 11, ..Caps::default() });
    pack(&options, &caps).expect("just fits");
    for caps in [Caps { bytes: 99, ..caps.clone() }, Caps { entries: 10, ..caps.clone() }] {
        let error = pack(&options, &caps).expect_err("more than fits");
        let PackError::Tree(TreeError::Image { source: ImageError::Cap(_), .. }) = error else { panic!("{error:?}") };
    }
    for block_size in [0, 4095, 2048, 100_000, 2 << 20] {
        let error = pack(&Options { block_size, ..options.clone() }, &caps).expect_err("no block size");
        assert!(matches!(error, PackError::Image(ImageError::BlockSize(_))), "{error:?}");
    }
    for level in [0, 23, -5] {
        let compressor = Compressor::Zstd { level };
        let error = pack(&Options { compressor, ..options.clone() }, &caps).expect_err("no level");
        assert!(matches!(error, PackError::Image(ImageError::Level(_))), "{error:?}");
    }
    let no_write = File::open("/dev/null").expect("a file");
    let error = pack_tree(&tree, no_write, &options, &caps).expect_err("cannot write");
    assert!(
        matches!(error, PackError::Image(ImageError::Write(ref error)) if error.kind() != io::ErrorKind::StorageFull)
    );
}
