//! Paths in archives.

use super::EntryError;
use crate::squashfs::NAME_BYTES;

/// The prefix of AUFS's whiteouts.
const WHITEOUT: &[u8] = b".wh.";
/// That of what AUFS keeps for itself.
const AUFS_OWN: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the path of an entry means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The layer's root.
    Root,
    /// A name in a directory.
    Name(Vec<&'a [u8]>, &'a [u8]),
    /// A name in a directory that is gone.
    Whiteout(Vec<&'a [u8]>, &'a [u8]),
    /// A directory that hides those below it.
    Opaque(Vec<&'a [u8]>),
    /// Nothing that belongs to the layer.
    Nothing,
}

/// The parts of a path. Slashes at its start and `.` mean nothing.
pub(super) fn parts(path: &[u8], cap: usize) -> Result<Vec<&[u8]>, EntryError> {
    if path.len() > cap {
        return Err(EntryError::Long { what: "path", cap });
    }
    if path.is_empty() || path.contains(&0) {
        return Err(EntryError::BadPath);
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(EntryError::DotDot);
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES) {
        return Err(EntryError::Long { what: "name", cap: NAME_BYTES });
    }
    Ok(parts)
}

/// What a path means.
pub(super) fn place(path: &[u8], cap: usize) -> Result<Place<'_>, EntryError> {
    let mut parents = parts(path, cap)?;
    let Some(name) = parents.pop() else { return Ok(Place::Root) };
    if parents.iter().any(|part| part.starts_with(AUFS_OWN)) {
        return Ok(Place::Nothing);
    }
    if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
        return Err(EntryError::Whiteout);
    }
    if name == OPAQUE {
        return Ok(Place::Opaque(parents));
    }
    if name.starts_with(AUFS_OWN) {
        return Ok(Place::Nothing);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Place::Name(parents, name)),
        Some(b"" | b"." | b"..") => Err(EntryError::Whiteout),
        Some(gone) => Ok(Place::Whiteout(parents, gone)),
    }
}

/// A path for people.
pub(super) fn show(parts: &[&[u8]]) -> String {
    String::from_utf8_lossy(&parts.join(&b'/')).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_places() {
        let name = |path: &[&'static str], name: &'static str| {
            Place::Name(path.iter().map(|part| part.as_bytes()).collect(), name.as_bytes())
        };
        for (path, meant) in [
            ("./", Place::Root),
            ("/", Place::Root),
            ("a", name(&[], "a")),
            ("//a/./b//c/", name(&["a", "b"], "c")),
            ("a/.wh.b", Place::Whiteout(vec![b"a"], b"b")),
            (".wh..wh..opq", Place::Opaque(vec![])),
            ("a/.wh..wh..opq", Place::Opaque(vec![b"a"])),
            (".wh..wh.plnk", Place::Nothing),
            (".wh..wh.plnk/1.2", Place::Nothing),
            ("a/...", name(&["a"], "...")),
        ] {
            assert_eq!(place(path.as_bytes(), 100).expect(path), meant, "{path}");
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = "a".repeat(256);
        for path in ["", "..", "a/../b", "/..", ".wh.", ".wh..", ".wh...", ".wh.a/b", "a\0b", &long, &"a/".repeat(60)] {
            assert!(
                place(path.as_bytes(), 100).is_err() || path == long && place(path.as_bytes(), 1000).is_err(),
                "{path}"
            );
        }
    }
}
