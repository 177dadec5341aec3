//! The layer of attributes: what layers say of directories that layers above have without saying anything of them.
//!
//! A layer's tar may have `a/b/file` and neither `a` nor `a/b`. Unpacked over other layers that leaves these as they are. In an overlay the
//! topmost directory's attributes show, so a further layer lies on top of all, of nothing but these directories and those above them.

mod walk;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::PathBuf;

pub(super) use walk::{Below, Found, find};

use super::{Conversion, ImageError, Layer};
use crate::caps::CapError;
use crate::digest::Digest;
use crate::reader::{Description, Image, ReadError};
use crate::squashfs::{self, Attributes, ImageWriter, Kind, NodeId};
use crate::store::{Hold, Key, Made, MakeError, Store};

/// Why there is no layer of attributes.
#[derive(Debug, thiserror::Error)]
pub enum AttributesError {
    /// A layer's image cannot be read.
    #[error("{}", path.display())]
    Layer {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The layers have too much of what it is made of.
    #[error(transparent)]
    Cap(#[from] CapError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] squashfs::ImageError),
}

/// The layer that lies on these, the lowest first, if one is needed: in the store, and held.
pub(super) fn layer(
    store: &Store,
    hold: &Hold,
    conversion: &Conversion,
    layers: &[Layer],
) -> Result<Option<Layer>, ImageError> {
    let images: Vec<Digest> = layers.iter().map(|layer| layer.image.digest).collect();
    let key = Key::attributes(&images, &conversion.form);
    if let Some(image) = store.find(&key, hold)? {
        return Ok(Some(Layer { diff_id: None, image }));
    }
    let failed = |source| ImageError::Attributes { source: Box::new(source) };
    let below = layers.iter().rev().map(|layer| {
        let path = &layer.image.path;
        let image = Image::open(path).map_err(|source| AttributesError::Layer { path: path.clone(), source })?;
        Ok(Below { path: path.clone(), image, unlisted: layer.image.unlisted })
    });
    let below = below.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let found = find(&below, &conversion.caps).map_err(failed)?;
    if found.is_empty() {
        return Ok(None);
    }
    let made = store.layer(&key, hold, |out| write(found, out, conversion));
    let image = made.map_err(|error| match error {
        MakeError::Store(error) => ImageError::Store(error),
        MakeError::Make(error) => failed(error),
    })?;
    Ok(Some(Layer { diff_id: None, image }))
}

/// Writes an image of these directories.
fn write(found: Vec<Found>, out: File, conversion: &Conversion) -> Result<Made, AttributesError> {
    let mut image = ImageWriter::new(out, &conversion.options, &conversion.caps)?;
    let mut nodes: Vec<NodeId> = Vec::with_capacity(found.len());
    for Found { place, description: Description { mode, uid, gid, mtime, xattrs } } in found {
        let xattrs = image.keep_xattrs(xattrs)?;
        let attributes = Attributes { mode, unlisted: false, uid, gid, mtime, xattrs };
        // The first is the root; each other's parent stands before it.
        let parent = place.and_then(|(parent, name)| Some((*nodes.get(parent)?, name)));
        let node = match parent {
            Some((parent, name)) => {
                let node = image.add(attributes, Kind::Directory(Default::default()))?;
                image.tree.link(parent, &name, node);
                node
            }
            None => {
                image.tree.node_mut(NodeId::ROOT).attributes = attributes;
                NodeId::ROOT
            }
        };
        nodes.push(node);
    }
    Ok(super::made(&image.finish()?))
}
