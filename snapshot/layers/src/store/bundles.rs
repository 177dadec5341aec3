//! Bundles that name their layers: the store keeps those as long as the bundle is there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::{if_there, io_error};
use super::{BUNDLES, Store, StoreError, write};
use crate::bundle_layers::BundleLayers;
use crate::digest::Digest;

impl Store {
    /// Keeps the layers that the bundle at `dir`, an absolute path, names, as long as it names them.
    pub fn keep_for_bundle(&self, dir: &Path) -> Result<(), StoreError> {
        let bytes = dir.as_os_str().as_bytes();
        let path = self.in_dir(BUNDLES, &Digest::of(bytes).hex());
        write::replace(self, &path, bytes)
    }

    /// Images that bundles name. Bundles that are gone are forgotten if `sweep` says so.
    pub(super) fn of_bundles(&self, sweep: bool) -> Result<BTreeSet<Digest>, StoreError> {
        let mut images = BTreeSet::new();
        for name in self.names(BUNDLES)? {
            let path = self.in_dir(BUNDLES, &name);
            let Some(bytes) = if_there(fs::read(&path)).map_err(io_error("read", &path))? else { continue };
            match BundleLayers::read(Path::new(OsStr::from_bytes(&bytes))) {
                Ok(Some(layers)) => images.extend(layers.layers.iter().map(|layer| layer.image)),
                Ok(None) if sweep => {
                    if_there(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
                }
                Ok(None) => {}
                // It may be readable again: its layers are unknown, so it is told.
                Err(error) => log::warn!("the layers of a bundle are not kept for it: {error}"),
            }
        }
        Ok(images)
    }
}
