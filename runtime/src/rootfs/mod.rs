//! The root file system of a container as images in the layer store.

#[cfg(target_os = "linux")]
mod overlay;

use std::path::{Path, PathBuf};

use supermachine_layers::digest::Digest;
use supermachine_layers::image::{Conversion, made};
use supermachine_layers::store::{Hold, MakeError, Store, StoreError};
use supermachine_layers::{Caps, Compressor, Options, PackError, Summary, form, pack_tree};

use crate::paths;

/// A layer's tar may be this large, unpacked.
const TAR_BYTES_MAX: u64 = 64 << 30;

/// Errors with root file systems.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// There is no such directory.
    #[error("root.path: {} is no directory", path.display())]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// Two root file systems.
    #[error("root.path: {} is not empty, and the bundle has a layers.json: which of them is meant?", path.display())]
    Both {
        /// The path.
        path: PathBuf,
    },
    /// The tree cannot be packed.
    #[error("root.path: cannot pack {}", path.display())]
    Pack {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: PackError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store of all layers.
pub fn store() -> Result<Store, StoreError> {
    Store::open(paths::layers_dir())
}

/// How layers of images are converted for machines on this back end.
pub fn conversion(hypervisor: Option<&str>) -> Conversion {
    let options = options(hypervisor);
    Conversion { form: form(&options), options, caps: Caps::default(), tar_bytes_max: TAR_BYTES_MAX }
}

/// How images are written. An emulated CPU takes longer to unpack a page than the host to read two: to it nothing is
/// packed, which a third of a container's start was spent on.
fn options(hypervisor: Option<&str>) -> Options {
    let compressor = if hypervisor == Some("soft") { Compressor::None } else { Compressor::Lz4 };
    Options { compressor, ..Options::default() }
}

/// Has the images of a root file system in the store, held, the lowest first: those of `layers`, or else those of the directories
/// of the overlay at `rootfs` or that of the tree there, packed for machines on this back end.
pub fn images(
    store: &Store,
    rootfs: &Path,
    layers: Option<&[Digest]>,
    hypervisor: Option<&str>,
    hold: &Hold,
) -> Result<Vec<PathBuf>, RootfsError> {
    if !rootfs.is_dir() {
        return Err(RootfsError::NoDirectory { path: rootfs.to_owned() });
    }
    let Some(layers) = layers else { return packed(store, rootfs, hypervisor, hold) };
    if rootfs.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(RootfsError::Both { path: rootfs.to_owned() });
    }
    Ok(store.hold_images(layers, hold)?)
}

fn packed(store: &Store, rootfs: &Path, hypervisor: Option<&str>, hold: &Hold) -> Result<Vec<PathBuf>, RootfsError> {
    let options = options(hypervisor);
    let image = |directory: &Path, part| tree(store, directory, part, &options, hold);
    if let Some(directories) = overlaid(rootfs) {
        let layers = directories.iter().map(|directory| image(directory, Part::Layer));
        if let Some(images) = layers.collect::<Result<Option<_>, _>>()? {
            return Ok(images);
        }
        log::info!("{} is packed as a whole: a directory of its overlay has redirects", rootfs.display());
    }
    Ok(image(rootfs, Part::Whole)?.into_iter().collect())
}

/// What a directory is of a root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// One of several that are laid over each other.
    Layer,
}

/// The image of a directory; nothing if it is a layer that has redirects.
fn tree(
    store: &Store,
    directory: &Path,
    part: Part,
    options: &Options,
    hold: &Hold,
) -> Result<Option<PathBuf>, RootfsError> {
    let pack = |root: &Path, out| match pack_tree(root, out, options, &Caps::default())? {
        Summary { redirected: true, .. } if part == Part::Layer => Err(LayerError::Redirected),
        summary => Ok(made(&summary)),
    };
    let mut form = form(options);
    if part == Part::Layer {
        // Not what it became as a whole, when nobody looked for redirects.
        form.push_str("overlaid");
    }
    match store.tree(directory, &form, hold, pack) {
        Ok(image) => Ok(Some(image.path)),
        Err(MakeError::Store(error)) => Err(error.into()),
        Err(MakeError::Make(LayerError::Redirected)) => Ok(None),
        Err(MakeError::Make(LayerError::Pack(source))) => Err(RootfsError::Pack { path: directory.to_owned(), source }),
    }
}

/// Why a directory of an overlay is no layer.
#[derive(Debug, thiserror::Error)]
enum LayerError {
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("it has redirects")]
    Redirected,
}

/// The directories of the overlay at a path, if one is there that can be taken apart.
#[cfg(target_os = "linux")]
fn overlaid(rootfs: &Path) -> Option<Vec<PathBuf>> {
    overlay::directories(rootfs)
}

#[cfg(not(target_os = "linux"))]
fn overlaid(_: &Path) -> Option<Vec<PathBuf>> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use supermachine_layers::store::Prune;

    use super::*;

    #[test]
    fn a_tree_is_packed_once_and_layers_are_taken_from_the_store() {
        let work = tempfile::TempDir::new().expect("a directory");
        let (tree, empty) = (work.path().join("tree"), work.path().join("empty"));
        fs::create_dir_all(tree.join("a/b")).expect("directories");
        fs::create_dir(&empty).expect("a directory");
        fs::write(tree.join("a/file"), vec![7; 100_000]).expect("a file");
        let store = Store::open(work.path().join("layers")).expect("opens");
        let hold = store.hold("test").expect("holds");
        let first = images(&store, &tree, None, None, &hold).expect("packs");
        assert_eq!(images(&store, &tree, None, None, &hold).expect("finds"), first);
        let unpacked = images(&store, &tree, None, Some("soft"), &hold).expect("packs");
        let length = |images: &[PathBuf]| fs::metadata(&images[0]).expect("an image").len();
        assert!(length(&unpacked) > 100_000 && length(&first) < 50_000, "nothing is compressed for an emulated CPU");
        let bytes = fs::read(&first[0]).expect("an image");
        assert!(bytes.starts_with(b"hsqs") && bytes.len().is_multiple_of(512), "whole sectors");
        let listed = store.list().expect("lists");
        let lz4 = |image: &Digest| first[0].to_string_lossy().contains(&image.hex());
        let layers = [listed.iter().map(|layer| layer.image).find(lz4).expect("it is listed")];
        assert_eq!(images(&store, &empty, Some(&layers), None, &hold).expect("finds"), first);
        let error = images(&store, &tree, Some(&layers), None, &hold).expect_err("two roots");
        assert!(error.to_string().contains("layers.json"), "{error}");
        drop(hold);
        // A process that another test starts has the hold as well, until it executes.
        let begin = Instant::now();
        while !store.list().expect("lists").is_empty() && begin.elapsed() < Duration::from_secs(10) {
            store.prune(Prune { all: true, older_than: None }).expect("prunes");
        }
        let hold = store.hold("test").expect("holds");
        let error = images(&store, &empty, Some(&layers), None, &hold).expect_err("it is gone");
        assert!(error.to_string().contains("make the bundle again"), "{error}");
    }

    #[test]
    fn a_missing_root_is_named() {
        let work = tempfile::TempDir::new().expect("a directory");
        let store = Store::open(work.path().join("layers")).expect("opens");
        let hold = store.hold("test").expect("holds");
        let error = images(&store, Path::new("/no/such"), None, None, &hold).expect_err("must fail");
        assert_eq!(error.to_string(), "root.path: /no/such is no directory");
    }
}
