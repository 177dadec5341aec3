//! Errors with images.

use std::io;
use std::path::PathBuf;

use crate::digest::{Digest, DigestError};
use crate::store::StoreError;

/// Why an image cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A name that says no kind of image.
    #[error(
        "image {name:?}: neither oci-layout:PATH, oci-archive:FILE nor docker-archive:FILE, with :REF behind it or not"
    )]
    Source {
        /// What was given.
        name: String,
    },
    /// A file or directory of the image.
    #[error("image: cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that the image needs is not in it.
    #[error("image: {name} is not in it")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A platform that is none.
    #[error("platform {text:?}: not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT")]
    Platform {
        /// What was given.
        text: String,
    },
    /// No image of the wanted name.
    #[error("image: nothing is named {reference:?}; there is {}", list(there))]
    NoReference {
        /// What was wanted.
        reference: String,
        /// Names that are there.
        there: Vec<String>,
    },
    /// Several images, and no name.
    #[error("image: there are several, name one of {}", list(there))]
    Ambiguous {
        /// Names that are there.
        there: Vec<String>,
    },
    /// No image for the platform.
    #[error("image: there is none for {wanted}, but for {}", list(there))]
    NoPlatform {
        /// What was wanted.
        wanted: String,
        /// Platforms that are there.
        there: Vec<String>,
    },
    /// A digest that is none, or of a kind that is not supported.
    #[error("image: {what}")]
    Digest {
        /// What it is the digest of.
        what: String,
        /// What is wrong.
        #[source]
        source: DigestError,
    },
    /// Bytes that are not what their digest says.
    #[error("image: {what} has digest {found}, and should have {wanted}")]
    WrongDigest {
        /// What has.
        what: String,
        /// What was read.
        found: Digest,
        /// What was named.
        wanted: Digest,
    },
    /// Bytes that are not as many as they should be.
    #[error("image: {what} has {found} bytes, and should have {wanted}")]
    WrongSize {
        /// What has.
        what: String,
        /// Bytes that are there.
        found: u64,
        /// Bytes that were named.
        wanted: u64,
    },
    /// A document that is longer than any that is read.
    #[error("image: {what} has more than {cap} bytes")]
    TooLong {
        /// Which.
        what: String,
        /// The cap.
        cap: u64,
    },
    /// A document that is no JSON, or other than it must be.
    #[error("image: {what}")]
    Json {
        /// Which.
        what: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Something the specification does not allow, or this program does not do.
    #[error("image: {what}: {reason}")]
    Refused {
        /// What it is about.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// An archive that is none.
    #[error("image archive {}, byte {at}: {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A layer that could not be converted.
    #[error("layer {diff_id}")]
    Layer {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        source: Box<LayerError>,
    },
    /// What lies on the layers could not be made.
    #[error("the layer of attributes")]
    Attributes {
        /// Why.
        #[source]
        source: Box<super::AttributesError>,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a layer could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Its bytes.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// They cannot be read, or unpacked.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// More than is unpacked.
    #[error("it is more than {cap} bytes unpacked")]
    TooLarge {
        /// The cap.
        cap: u64,
    },
    /// Its archive.
    #[error(transparent)]
    Pack(#[from] crate::PackError),
}

pub(super) fn refused(what: impl Into<String>, reason: impl Into<String>) -> ImageError {
    ImageError::Refused { what: what.into(), reason: reason.into() }
}

/// Some names, not all of a hostile number.
fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(10).map(|name| name.chars().take(100).collect()).collect();
    match names.len() {
        0 => "none".to_owned(),
        more if more > shown.len() => format!("{} and {} more", shown.join(", "), more - shown.len()),
        _ => shown.join(", "),
    }
}
