//! Images of volumes: made if absent, locked while a machine has them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ext4::{self, FormatError};
use crate::plan::HostVolume;

/// How often an image is looked for again when others make and remove it meanwhile.
const TRIES: u32 = 100;

/// A volume that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A step on its file.
    #[error("mounts[{index}].source: cannot {what} {}", path.display())]
    Io {
        /// Index of its first mount in `config.json`.
        index: usize,
        /// What was tried.
        what: &'static str,
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another machine has it.
    #[error("mounts[{index}].source: volume {} is in use by another container", path.display())]
    InUse {
        /// Index of its first mount in `config.json`.
        index: usize,
        /// The image.
        path: PathBuf,
    },
    /// It cannot be formatted.
    #[error("mounts[{index}].source: cannot make volume {}", path.display())]
    Format {
        /// Index of its first mount in `config.json`.
        index: usize,
        /// The image.
        path: PathBuf,
        /// Why not.
        #[source]
        source: FormatError,
    },
}

/// Opens and locks a volume's image: for this machine alone, or shared if nobody writes. One that is to be written is made
/// if there is none.
pub(super) fn open(volume: &HostVolume) -> Result<File, VolumeError> {
    let io_error = |what| move |source| io_error(volume, what, source);
    for _ in 0..TRIES {
        let file = match open_image(volume) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !volume.read_only => match make(volume)? {
                Some(file) => return Ok(file),
                None => continue,
            },
            opened => opened.map_err(io_error("open"))?,
        };
        let locked = if volume.read_only { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) if is_at(&file, &volume.source) => return Ok(file),
            // It was removed or replaced meanwhile.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(VolumeError::InUse { index: volume.mount, path: volume.source.clone() });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock")(source)),
        }
    }
    Err(io_error("open")(io::ErrorKind::ResourceBusy.into()))
}

fn open_image(volume: &HostVolume) -> io::Result<File> {
    // A pipe must not be waited for.
    OpenOptions::new().read(true).write(!volume.read_only).custom_flags(nix::libc::O_NONBLOCK).open(&volume.source)
}

/// Makes an image, whole or not at all, and locks it; nothing if another did meanwhile. Its directory is locked for that
/// time, and it has another name until it is whole.
fn make(volume: &HostVolume) -> Result<Option<File>, VolumeError> {
    let io_error = |what| move |source| io_error(volume, what, source);
    let nameless = || io_error("name")(io::ErrorKind::InvalidInput.into());
    let unfinished = unfinished(&volume.source).ok_or_else(nameless)?;
    let dir = File::open(unfinished.parent().ok_or_else(nameless)?).map_err(io_error("make"))?;
    dir.lock().map_err(io_error("make"))?;
    if volume.source.exists() {
        return Ok(None);
    }
    // What a crash left is in the way.
    let _ = fs::remove_file(&unfinished);
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io_error("make"))?;
    let format = |source| VolumeError::Format { index: volume.mount, path: volume.source.clone(), source };
    let made = ext4::format(&file, volume.size_mib, ext4::Kind::Lasting).map_err(format).and_then(|()| {
        file.sync_all().and_then(|()| file.lock()).map_err(io_error("write"))?;
        match fs::hard_link(&unfinished, &volume.source) {
            // Somebody else's image is as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            linked => linked.map(|()| Some(())).map_err(io_error("make")),
        }
    });
    // It has its own name now, or is worth nothing.
    let _ = fs::remove_file(&unfinished);
    Ok(made?.map(|()| file))
}

/// The name of an image that is being made.
fn unfinished(path: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(".unfinished");
    Some(path.with_file_name(name))
}

/// Whether an open file is the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, named) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

fn io_error(volume: &HostVolume, what: &'static str, source: io::Error) -> VolumeError {
    VolumeError::Io { index: volume.mount, what, path: volume.source.clone(), source }
}
