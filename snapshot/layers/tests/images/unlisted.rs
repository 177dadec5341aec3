//! Images whose layers do not list all directories, from the archive to what the kernel shows.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use supermachine_layers::image::Layer;
use supermachine_layers::store::{Prune, Source};
use tempfile::TempDir;

use super::build::{Files, NONE, Tar};
use super::{Place, text};

fn base() -> Vec<u8> {
    let mut tar = Tar::default();
    tar.entry(b'5', "var/", "", 0o751, b"").entry(b'5', "var/tmp/", "", 0o1777, b"").file("var/tmp/old", "x").end()
}

fn upper() -> Vec<u8> {
    Tar::default().file("var/tmp/new", "x").file("etc/new", "x").end()
}

fn layout(place: &Place, name: &str, tars: &[Vec<u8>]) -> String {
    let mut files = Files::default();
    let image = files.image(tars, &NONE);
    files.layout(&[image], &NONE).write_dir(&place.path(name));
    format!("oci-layout:{}", text(&place.path(name)))
}

#[test]
fn layers_are_shared_and_what_lies_on_them_is_found_again() {
    let place = Place::new();
    let hold = place.store.hold("test").expect("holds");
    let alone = layout(&place, "alone", &[upper()]);
    let both = layout(&place, "both", &[base(), upper()]);
    let unpack = |name: &str| place.unpack(name, "linux/amd64", &hold).expect("unpacks").1;
    let (alone, first, again) = (unpack(&alone), unpack(&both), unpack(&both));
    assert_eq!((alone.len(), first.len(), again.len()), (1, 3, 3));
    assert!(first[1].image.found && first[1].image.digest == alone[0].image.digest, "whatever it lies on");
    assert!(first[2].diff_id.is_none() && !first[2].image.found && again[2].image.found);
    assert_eq!(first[2].image.digest, again[2].image.digest);
    assert_eq!(place.in_store(), 6, "three images and records");
    let listed = place.store.list().expect("lists");
    let on_top = listed.iter().find(|row| row.image == first[2].image.digest).expect("listed");
    assert!(matches!(on_top.sources[..], [Source::Attributes(_)]) && on_top.entries == 3, "{on_top:?}");
    drop(hold);
    assert_eq!(place.store.prune(Prune::default()).expect("prunes").images.len(), 3);
    assert_eq!(place.in_store(), 0);
}

#[test]
fn the_kernel_shows_what_unpacking_gives() {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = ["squashfs", "overlay"].iter().all(|name| filesystems.contains(name));
    if !known || !Path::new("/dev/loop-control").exists() || !rustix::process::geteuid().is_root() {
        eprintln!("the_kernel_shows_what_unpacking_gives: skipped, needs root, squashfs, overlayfs and loop devices");
        return;
    }
    let place = Place::new();
    let hold = place.store.hold("test").expect("holds");
    let (_, layers) = place.unpack(&layout(&place, "both", &[base(), upper()]), "linux/amd64", &hold).expect("unpacks");
    let shown = Overlay::new(&layers);
    for (path, mode, time) in
        [("", 0o755, 0), ("var", 0o751, 0), ("var/tmp", 0o1777, 0), ("var/tmp/old", 0o644, 0), ("etc", 0o755, 0)]
    {
        let there = fs::symlink_metadata(shown.root().join(path)).expect(path);
        assert_eq!((there.permissions().mode() & 0o7777, there.mtime()), (mode, time), "{path}");
    }
    assert!(shown.root().join("var/tmp/new").is_file() && shown.root().join("etc/new").is_file());
    // The marks are the overlay's own; the topmost layer has no attributes of any name.
    for (path, wanted) in [("", Err(rustix::io::Errno::OPNOTSUPP)), ("etc", Ok(0))] {
        let mut names = [0; 100];
        assert_eq!(rustix::fs::llistxattr(shown.root().join(path), &mut names[..]), wanted, "{path}");
    }
}

/// Layers as the guest mounts them.
struct Overlay {
    dir: TempDir,
    layers: usize,
}

impl Overlay {
    fn new(layers: &[Layer]) -> Self {
        let this = Self { dir: TempDir::new().expect("a directory"), layers: layers.len() };
        let mut lower = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let at = this.dir.path().join(number.to_string());
            fs::create_dir(&at).expect("a directory");
            run("mount", &["-t", "squashfs", "-o", "loop,ro", text(&layer.image.path), text(&at)]);
            lower.insert(0, text(&at).to_owned());
        }
        fs::create_dir(this.root()).expect("a directory");
        let options = format!("lowerdir={}", lower.join(":"));
        run("mount", &["-t", "overlay", "overlay", "-o", &options, text(&this.root())]);
        this
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        run("umount", &[text(&self.root())]);
        (0..self.layers).for_each(|number| run("umount", &[text(&self.dir.path().join(number.to_string()))]));
    }
}

fn run(program: &str, words: &[&str]) {
    let status = std::process::Command::new(program).args(words).status().expect(program);
    assert!(status.success(), "{program} {words:?}");
}
