//! A control group before it is made: what of it is not there yet is written down first, so that whoever finds the record
//! of a `create` that was killed can remove what that had made by then.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Cgroup, CgroupError, Hierarchy, Place, detect};

/// A control group that is to be made.
#[derive(Debug)]
pub struct Intent {
    path: String,
    is_asked: bool,
    /// Each hierarchy, and the group's path in it.
    spots: Vec<(Hierarchy, PathBuf)>,
}

impl Intent {
    /// To make the group `asked` (`linux.cgroupsPath`), or `/<id>` if nothing is asked for.
    ///
    /// # Errors
    /// A path that cannot be.
    pub fn new(asked: Option<&str>, id: &str) -> Result<Self, CgroupError> {
        let path = asked.map_or_else(|| format!("/{id}"), str::to_owned);
        let inner = inner_path(&path)?;
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let hierarchies = detect::hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let spots = hierarchies.into_iter().map(|hierarchy| {
            let inner = if path.starts_with('/') { inner.clone() } else { hierarchy.own.join(&inner) };
            (hierarchy, inner)
        });
        let spots = spots.collect();
        Ok(Self { path, is_asked: asked.is_some(), spots })
    }

    /// What [`Intent::make`] will make, for the record: [`Cgroup::remove`] of it removes what is there by then, unless
    /// somebody uses it.
    pub fn promised(&self) -> Cgroup {
        Cgroup { places: self.spots.iter().map(|(hierarchy, inner)| Place::promised(hierarchy, inner)).collect() }
    }

    /// Makes the group, without limits.
    ///
    /// # Errors
    /// A path asked for that no hierarchy takes. Nothing is left.
    pub fn make(&self) -> Result<Cgroup, CgroupError> {
        let path = &self.path;
        let mut group = Cgroup::default();
        let mut last = None;
        for (hierarchy, inner) in &self.spots {
            match Place::make_again(hierarchy, inner) {
                Ok(place) => group.places.push(place),
                Err(source) => {
                    log::debug!("no control group {path:?} in {}: {source}", hierarchy.mount.display());
                    last = Some(source);
                }
            }
        }
        match last {
            Some(source) if group.places.is_empty() && self.is_asked => {
                return Err(CgroupError::Nowhere { path: path.clone(), source });
            }
            Some(source) if group.places.is_empty() => log::warn!("no control group on this host: {source}"),
            _ => {}
        }
        Ok(group)
    }
}

impl Place {
    fn promised(hierarchy: &Hierarchy, inner: &Path) -> Self {
        let mut place = Self { is_intended: true, ..Self::at(hierarchy) };
        for component in inner.components() {
            place.folder.push(component);
            if !place.folder.exists() {
                place.made.insert(0, place.folder.clone());
            }
        }
        place
    }
}

/// The path without its root.
fn inner_path(path: &str) -> Result<PathBuf, CgroupError> {
    let refused = || CgroupError::Path { path: path.to_owned() };
    let mut inner = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => inner.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    if inner.as_os_str().is_empty() || path.contains('\0') { Err(refused()) } else { Ok(inner) }
}
