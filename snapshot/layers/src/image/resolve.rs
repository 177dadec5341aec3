//! From a name and a platform to one image's configuration and layers.

use std::collections::BTreeSet;

use super::blobs::{Blobs, blob_name, check_digest};
use super::documents::{Config, Descriptor, DockerImage, Document, Layout, parse};
use super::error::refused;
use super::{ImageError, LayerSource, Platform};
use crate::digest::Digest;

/// Indexes in indexes.
const DEPTH_MAX: u32 = 8;
/// Indexes, manifests and configurations that are read in search of a platform.
const DOCUMENTS_MAX: u32 = 128;
/// Layers of an image: overlayfs takes 500 (`OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;
/// Where names of images are.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYER_TYPES: [&str; 8] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// What was found.
pub(super) type Found = (Config, Vec<LayerSource>);

/// The image in OCI's layout.
pub(super) fn oci(blobs: &Blobs, reference: Option<&str>, wanted: &Platform) -> Result<Found, ImageError> {
    let layout: Layout = parse(&blobs.read("oci-layout")?, "oci-layout")?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(refused("oci-layout", format!("version {:?} is not 1", layout.image_layout_version)));
    }
    let index: Document = parse(&blobs.read("index.json")?, "index.json")?;
    let all = index.manifests.ok_or_else(|| refused("index.json", "it has no manifests"))?;
    let named: Vec<_> = match reference {
        None => all.iter().collect(),
        Some(name) => all.iter().filter(|one| one.digest == name || names(one).any(|own| own == name)).collect(),
    };
    let there = || all.iter().map(|one| names(one).next().map_or(one.digest.clone(), str::to_owned)).collect();
    if named.is_empty() {
        let reference = reference.unwrap_or_default().to_owned();
        return Err(ImageError::NoReference { reference, there: there() });
    }
    let mut search = Search { blobs, wanted, documents: 0, platforms: BTreeSet::new() };
    let mut found = None;
    for descriptor in named {
        let one = search.descend(descriptor, 0)?;
        if one.is_some() && found.is_some() && reference.is_none() {
            return Err(ImageError::Ambiguous { there: there() });
        }
        found = found.or(one);
        if found.is_some() && reference.is_some() {
            break;
        }
    }
    found.ok_or_else(|| ImageError::NoPlatform {
        wanted: wanted.to_string(),
        there: search.platforms.into_iter().collect(),
    })
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    NAMES.iter().filter_map(|key| descriptor.annotations.get(*key)).map(String::as_str)
}

/// A search for a platform.
struct Search<'a> {
    blobs: &'a Blobs,
    wanted: &'a Platform,
    documents: u32,
    /// Those that were found instead.
    platforms: BTreeSet<String>,
}

impl Search<'_> {
    fn count(&mut self) -> Result<(), ImageError> {
        self.documents += 1;
        if self.documents > DOCUMENTS_MAX {
            return Err(refused("index", format!("more than {DOCUMENTS_MAX} documents lead to no image")));
        }
        Ok(())
    }

    /// The image that a descriptor leads to; none if it is for another platform.
    fn descend(&mut self, descriptor: &Descriptor, depth: u32) -> Result<Option<Found>, ImageError> {
        if let Some(platform) = descriptor.platform.as_ref().filter(|platform| !platform.is_unknown())
            && !platform.serves(self.wanted)
        {
            self.platforms.insert(platform.to_string());
            return Ok(None);
        }
        if depth > DEPTH_MAX {
            return Err(refused("index", format!("nested deeper than {DEPTH_MAX}")));
        }
        let is = |types: &[&str]| types.contains(&descriptor.media_type.as_str());
        let (is_index, is_manifest) = (is(&INDEX_TYPES), is(&MANIFEST_TYPES));
        if !is_index && !is_manifest {
            let reason = format!("media type {:?} is no image's", descriptor.media_type);
            return Err(refused(descriptor.digest.clone(), reason));
        }
        self.count()?;
        let what = if is_index { "index" } else { "manifest" };
        let document: Document = parse(&self.blobs.document(descriptor, what)?, what)?;
        check(&document, descriptor, is_index)?;
        if is_index {
            for child in document.manifests.unwrap_or_default() {
                if let Some(found) = self.descend(&child, depth + 1)? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        self.manifest(document)
    }

    fn manifest(&mut self, document: Document) -> Result<Option<Found>, ImageError> {
        let descriptor = document.config.ok_or_else(|| refused("manifest", "it has no config"))?;
        if !CONFIG_TYPES.contains(&descriptor.media_type.as_str()) {
            let reason = format!("media type {:?} is no container image's", descriptor.media_type);
            return Err(refused("config", reason));
        }
        self.count()?;
        let config: Config = parse(&self.blobs.document(&descriptor, "config")?, "config")?;
        if !config.platform.is_unknown() && !config.platform.serves(self.wanted) {
            self.platforms.insert(config.platform.to_string());
            return Ok(None);
        }
        let descriptors = document.layers.unwrap_or_default();
        let diff_ids = diff_ids(&config, descriptors.len())?;
        let layers = descriptors.iter().zip(diff_ids).map(|(layer, diff_id)| {
            if !LAYER_TYPES.contains(&layer.media_type.as_str()) {
                let reason = format!("media type {:?} is none that can be unpacked", layer.media_type);
                return Err(refused(format!("layer {}", layer.digest), reason));
            }
            let digest = layer.parsed("layer")?;
            Ok(LayerSource { name: blob_name(&digest), blob: Some((digest, layer.size)), diff_id })
        });
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Some((config, layers)))
    }
}

/// A document must be what its descriptor says, and nothing else at the same time.
fn check(document: &Document, descriptor: &Descriptor, is_index: bool) -> Result<(), ImageError> {
    let wrong = |reason: &str| Err(refused(descriptor.digest.clone(), reason));
    if document.schema_version.is_some_and(|version| version != 2) {
        return wrong("schema version is not 2");
    }
    if !document.media_type.is_empty() && document.media_type != descriptor.media_type {
        return wrong("it says another media type than what leads to it");
    }
    match (&document.manifests, &document.config, &document.layers) {
        (Some(_), None, None) if is_index => Ok(()),
        (None, Some(_), _) if !is_index => Ok(()),
        _ => wrong("neither clearly an index nor clearly a manifest"),
    }
}

fn diff_ids(config: &Config, layers: usize) -> Result<Vec<Digest>, ImageError> {
    let rootfs = &config.rootfs;
    if rootfs.kind != "layers" {
        return Err(refused("config", format!("rootfs.type {:?} is not \"layers\"", rootfs.kind)));
    }
    if rootfs.diff_ids.len() != layers || layers == 0 {
        return Err(refused("config", format!("{} diff_ids for {layers} layers", rootfs.diff_ids.len())));
    }
    if layers > LAYERS_MAX {
        return Err(refused("manifest", format!("{layers} layers are more than {LAYERS_MAX}")));
    }
    let parse = |text: &String| {
        text.parse().map_err(|source| ImageError::Digest { what: "config: diff_ids".to_owned(), source })
    };
    rootfs.diff_ids.iter().map(parse).collect()
}

/// The image in docker's archive.
pub(super) fn docker(blobs: &Blobs, reference: Option<&str>, wanted: &Platform) -> Result<Found, ImageError> {
    let images: Vec<DockerImage> = parse(&blobs.read("manifest.json")?, "manifest.json")?;
    let there = || images.iter().flat_map(|image| image.repo_tags.clone()).collect();
    let named = |image: &&DockerImage| {
        reference.is_none_or(|name| image.repo_tags.iter().any(|tag| full_name(tag) == full_name(name)))
    };
    let image = match images.iter().filter(named).collect::<Vec<_>>().as_slice() {
        [image] => *image,
        [] => {
            let reference = reference.unwrap_or_default().to_owned();
            return Err(ImageError::NoReference { reference, there: there() });
        }
        _ => return Err(ImageError::Ambiguous { there: there() }),
    };
    let bytes = blobs.read(&image.config)?;
    let stem = image.config.rsplit('/').next().unwrap_or_default();
    if let Some(digest) = Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem)) {
        check_digest(&|| format!("config {}", image.config), Digest::of(&bytes), digest)?;
    }
    let config: Config = parse(&bytes, "config")?;
    if !config.platform.is_unknown() && !config.platform.serves(wanted) {
        let there = vec![config.platform.to_string()];
        return Err(ImageError::NoPlatform { wanted: wanted.to_string(), there });
    }
    let diff_ids = diff_ids(&config, image.layers.len())?;
    let layers = image.layers.iter().zip(diff_ids);
    let layers = layers.map(|(name, diff_id)| LayerSource { name: name.clone(), blob: None, diff_id }).collect();
    Ok((config, layers))
}

/// A name as docker means it.
fn full_name(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}
