//! The reader against the writer, and against images that are damaged anywhere.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use supermachine_layers::reader::Stack;
use supermachine_layers::{Caps, Compressor, Options, pack_tree};
use tempfile::TempDir;

/// Numbers without a pattern, the same each time.
fn noise(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

fn pack(tree: &Path, image: &Path, compressor: Compressor) {
    let out = File::options().read(true).write(true).create(true).truncate(true).open(image).expect("a file");
    let options = Options { compressor, threads: 1, ..Options::default() };
    pack_tree(tree, out, &options, &Caps::default()).expect("packs");
}

#[test]
fn every_file_is_read_as_it_was_packed() {
    let dir = TempDir::new().expect("a directory");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("many/deep/er")).expect("directories");
    for number in 0..2000 {
        fs::write(tree.join(format!("many/{number}")), number.to_string()).expect("a file");
    }
    let sizes = [0, 1, 4095, 131_071, 131_072, 131_073, 262_144, 500_001];
    let content =
        |size: usize| noise(size as u64 + 1).map(|n| if n % 3 == 0 { 7 } else { n as u8 }).take(size).collect();
    for size in sizes {
        let bytes: Vec<u8> = content(size);
        fs::write(tree.join(format!("many/deep/er/{size}")), bytes).expect("a file");
    }
    let hole = File::create(tree.join("hole")).expect("a file");
    hole.write_all_at(b"end", 300_000).expect("writes");
    let image = dir.path().join("image");
    for compressor in [Compressor::None, Compressor::Lz4, Compressor::Zstd { level: 3 }] {
        pack(&tree, &image, compressor);
        let stack = Stack::open(std::slice::from_ref(&image)).expect("opens");
        let read = |path: String| stack.read(&path, 1 << 20).expect("reads");
        for size in sizes {
            assert!(read(format!("/many/deep/er/{size}")) == Some(content(size)), "{compressor:?} {size}");
        }
        for number in [0, 1, 255, 256, 1999] {
            assert_eq!(read(format!("many/{number}")), Some(number.to_string().into_bytes()));
        }
        assert_eq!(read("/many/2000".to_owned()), None);
        assert!(read("/hole".to_owned()) == Some([vec![0; 300_000], b"end".to_vec()].concat()));
    }
}

#[test]
fn a_damaged_image_is_an_error_or_other_bytes_and_nothing_else() {
    let dir = TempDir::new().expect("a directory");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc/more")).expect("directories");
    fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:\n").expect("a file");
    fs::write(tree.join("etc/more/large"), vec![1; 200_000]).expect("a file");
    std::os::unix::fs::symlink("../etc/more/large", tree.join("etc/link")).expect("a link");
    let (image, damaged) = (dir.path().join("image"), dir.path().join("damaged"));
    for compressor in [Compressor::None, Compressor::Lz4, Compressor::Zstd { level: 3 }] {
        pack(&tree, &image, compressor);
        let good = fs::read(&image).expect("reads");
        let mut random = noise(0x9e37_79b9_7f4a_7c15);
        let mut errors = 0;
        for round in 0..500 {
            let mut bytes = good.clone();
            for _ in 0..1 + round % 4 {
                let [at, value] = [random.next(), random.next()].map(Option::unwrap_or_default);
                // The superblock and the tables are what matters; contents are at the front.
                let at = if round % 2 == 0 { at as usize % 96 } else { at as usize % bytes.len() };
                bytes[at] = value as u8;
            }
            bytes.truncate(if round % 7 == 0 { bytes.len() / 2 } else { bytes.len() });
            fs::write(&damaged, bytes).expect("writes");
            let read = Stack::open(std::slice::from_ref(&damaged)).and_then(|stack| {
                ["/etc/passwd", "/etc/link"].map(|path| stack.read(path, 1 << 20)).into_iter().collect()
            });
            let read: Result<Vec<_>, _> = read;
            errors += u32::from(read.is_err());
        }
        assert!(errors > 50, "{compressor:?}: {errors}");
    }
}
