//! Images: OCI layouts and archives, docker's archives. Everything in them is untrusted; nothing is unpacked but into layers of
//! the store, and nothing is written anywhere else.

pub mod accounts;
mod archive;
mod attributes;
mod blobs;
mod documents;
mod error;
mod layer;
mod platform;
mod resolve;
mod source;

pub use attributes::AttributesError;
pub use documents::{Config, ProcessConfig};
pub use error::{ImageError, LayerError};
pub use layer::made;
pub use platform::Platform;
pub use source::{Kind, Source};

use blobs::Blobs;

use crate::digest::Digest;
use crate::store::{Hold, Image as Kept, Key, MakeError, Store};
use crate::{Caps, Options};

/// How layers are converted, and how much of them.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// Form of the images.
    pub options: Options,
    /// A word for that form, as in [`Key::layer`].
    pub form: String,
    /// What a layer may hold.
    pub caps: Caps,
    /// Bytes of a layer's tar, unpacked: a small blob can hold a large one.
    pub tar_bytes_max: u64,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LayerSource {
    /// Name of its file.
    name: String,
    /// Digest and size of that, if they are known.
    blob: Option<(Digest, u64)>,
    /// Digest of its tar.
    diff_id: Digest,
}

/// An image that was found.
#[derive(Debug)]
pub struct Image {
    /// What it says of its process and itself.
    pub config: Config,
    blobs: Blobs,
    layers: Vec<LayerSource>,
}

/// A layer that is in the store, and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its tar; none for the layer of attributes.
    pub diff_id: Option<Digest>,
    /// What it became.
    pub image: Kept,
}

impl Image {
    /// Finds the image of a source for a platform, and reads its documents.
    pub fn open(source: &Source, wanted: &Platform) -> Result<Self, ImageError> {
        let reference = source.reference.as_deref();
        let blobs = match source.kind {
            Kind::OciLayout => Blobs::directory(&source.path)?,
            Kind::OciArchive | Kind::DockerArchive => Blobs::archive(&source.path)?,
        };
        let (config, layers) = match source.kind {
            Kind::DockerArchive => resolve::docker(&blobs, reference, wanted)?,
            Kind::OciLayout | Kind::OciArchive => resolve::oci(&blobs, reference, wanted)?,
        };
        Ok(Self { config, blobs, layers })
    }

    /// Has all layers in the store, the lowest first: those that are not there are converted.
    ///
    /// Layers below one that hides everything below it are left out. Where layers do not say what directories are like that others describe,
    /// a layer of these attributes is the topmost.
    pub fn unpack(&self, store: &Store, hold: &Hold, conversion: &Conversion) -> Result<Vec<Layer>, ImageError> {
        let mut layers: Vec<Layer> = Vec::new();
        for layer in &self.layers {
            let key = Key::layer(&layer.diff_id, &conversion.form);
            let made = store.layer(&key, hold, |out| layer::convert(&self.blobs, layer, conversion, out));
            let image = made.map_err(|error| match error {
                MakeError::Store(error) => ImageError::Store(error),
                MakeError::Make(source) => ImageError::Layer { diff_id: layer.diff_id, source: Box::new(source) },
            })?;
            layers.push(Layer { diff_id: Some(layer.diff_id), image });
        }
        let attributes = attributes::layer(store, hold, conversion, &layers)?;
        let lowest = layers.iter().rposition(|layer| layer.image.root_opaque).unwrap_or(0);
        layers.drain(..lowest);
        layers.extend(attributes);
        Ok(layers)
    }
}
