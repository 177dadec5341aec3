//! What the tests share: packing, looking at trees, making archives.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod archive;
pub(crate) mod facts;
pub(crate) mod zoo;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use supermachine_layers::{Caps, Compressor, Options, PackError, Summary, pack_tar, pack_tree};
use tempfile::TempDir;

pub(crate) const ALL: [Compressor; 3] = [Compressor::None, Compressor::Lz4, Compressor::Zstd { level: 3 }];

/// Whether this test can make devices and set owners; says so if not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped, only root can make devices and give files away");
    }
    root
}

/// Whether this machine's kernel reads squashfs; says so if not.
pub(crate) fn kernel_reads(test: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("squashfs"));
    let loops = Path::new("/dev/loop-control").exists();
    if !known || !loops {
        eprintln!("{test}: skipped, this machine's kernel has no squashfs or no loop devices");
    }
    known && loops && is_root(test)
}

pub(crate) fn options(compressor: Compressor) -> Options {
    Options { compressor, threads: 2, ..Options::default() }
}

pub(crate) fn create(path: &Path) -> File {
    File::options().read(true).write(true).create_new(true).open(path).expect("an image file")
}

pub(crate) fn image_of_tree(root: &Path, image: &Path, options: &Options) -> Result<Summary, PackError> {
    pack_tree(root, create(image), options, &Caps::default())
}

pub(crate) fn image_of_tar(input: impl Read, image: &Path) -> Result<Summary, PackError> {
    pack_tar(input, create(image), &options(Compressor::Lz4), &Caps::default())
}

/// Runs a command that must succeed; gives what it prints.
pub(crate) fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Unpacks an image with the tool of another author.
pub(crate) fn unsquashfs(image: &Path, into: &Path) {
    run("unsquashfs", &["-no-progress", "-quiet", "-d", text(into), text(image)]);
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// An image that this machine's kernel has mounted.
pub(crate) struct Mounted {
    at: TempDir,
}

impl Mounted {
    pub(crate) fn new(image: &Path) -> Self {
        let at = TempDir::new().expect("a directory");
        run("mount", &["-t", "squashfs", "-o", "loop,ro", text(image), text(at.path())]);
        Self { at }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.at.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[text(self.at.path())]);
    }
}
