//! Opening an image: all of it is read and checked, for it may come from anywhere.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use supermachine_agent_protocol::spec::LAYERS_MAX;
use supermachine_snapshot::{Limits, Snapshot, sparse};

use super::{CheckpointError, MANIFEST, Manifest, VERSION, VolumeMark, io_error, is_data_name};

/// Largest manifest, bytes.
const MANIFEST_MAX: u64 = 1 << 20;
/// Most volumes that a machine can have.
const VOLUMES_MAX: usize = 64;

/// An image that was checked: it is what was saved.
#[derive(Debug)]
pub struct Image {
    /// What it has.
    pub manifest: Manifest,
    /// Directory of the snapshot.
    pub snapshot: PathBuf,
    /// The root file system's images, open, the lowest first.
    pub layers: Vec<File>,
    /// The disk for what was written to it.
    pub upper: Option<File>,
}

impl Image {
    /// Opens the image in `folder` and reads all of it.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let manifest = manifest(folder)?;
        let data = folder.join(&manifest.data);
        let snapshot = data.join("snapshot");
        let bad = |source| CheckpointError::Snapshot { path: snapshot.clone(), source };
        let opened = Snapshot::open(&snapshot, &Limits::default()).map_err(bad)?;
        if opened.id() != manifest.snapshot {
            return Err(CheckpointError::Damaged { path: snapshot });
        }
        opened.verify().map_err(bad)?;
        let numbered = manifest.layers.iter().enumerate();
        let layers = numbered.map(|(number, digest)| checked(data.join("layers").join(number.to_string()), digest));
        let layers = layers.collect::<Result<_, _>>()?;
        let upper = manifest.upper.as_deref().map(|digest| checked(data.join("upper"), digest)).transpose()?;
        Ok(Self { snapshot, layers, upper, manifest })
    }

    /// Says that the volumes are as they were.
    ///
    /// # Errors
    /// One is not there, or was written to since.
    pub fn check_volumes(&self) -> Result<(), CheckpointError> {
        for volume in &self.manifest.volumes {
            if VolumeMark::now(&volume.path, volume.read_only)? != *volume {
                return Err(CheckpointError::Volume { path: volume.path.clone() });
            }
        }
        Ok(())
    }
}

fn manifest(folder: &Path) -> Result<Manifest, CheckpointError> {
    let path = folder.join(MANIFEST);
    let file = match open(&path) {
        Err(CheckpointError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(CheckpointError::None { path: folder.to_owned() });
        }
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_MAX).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
    let malformed = |source| CheckpointError::Manifest { path: path.clone(), source };
    // The version first: other versions have other fields.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(malformed)?;
    match value.get("version").and_then(serde_json::Value::as_u64).and_then(|version| u32::try_from(version).ok()) {
        Some(found) if found != VERSION => return Err(CheckpointError::Version { path, found }),
        _ => {}
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
    let bad = |what| Err(CheckpointError::Bad { path: path.clone(), what });
    match &manifest {
        manifest if !is_data_name(&manifest.data) => bad("names no directory of an image"),
        manifest if manifest.layers.len() > LAYERS_MAX => bad("has too many layers"),
        manifest if manifest.volumes.len() > VOLUMES_MAX => bad("has too many volumes"),
        manifest if manifest.volumes.iter().any(|volume| !volume.path.is_absolute()) => {
            bad("has a volume whose path is not absolute")
        }
        _ => Ok(manifest),
    }
}

/// Never through a link, and without waiting for the other end of a pipe.
fn open(path: &Path) -> Result<File, CheckpointError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(io_error("open", path))?;
    if !file.metadata().map_err(io_error("look at", path))?.is_file() {
        return Err(CheckpointError::Damaged { path: path.to_owned() });
    }
    Ok(file)
}

fn checked(path: PathBuf, digest: &str) -> Result<File, CheckpointError> {
    let file = open(&path)?;
    let found = sparse::digest(&file).map_err(io_error("read", &path))?;
    if found == digest { Ok(file) } else { Err(CheckpointError::Damaged { path }) }
}
