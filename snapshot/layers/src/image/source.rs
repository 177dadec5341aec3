//! Where an image is: `oci-layout:PATH[:REF]`, `oci-archive:FILE[:REF]`, `docker-archive:FILE[:REF]`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ImageError;

/// What kind of thing an image is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory in OCI's image layout.
    OciLayout,
    /// The same as a tar.
    OciArchive,
    /// A tar as `docker save` writes it.
    DockerArchive,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is in.
    pub kind: Kind,
    /// Directory or file.
    pub path: PathBuf,
    /// Its name there.
    pub reference: Option<String>,
}

impl Source {
    fn new(kind: Kind, rest: &str) -> Option<Self> {
        // Paths and names may have colons: the longest path that is there is meant.
        let ends = rest.match_indices(':').map(|(at, _)| at).chain([rest.len()]);
        let path = |end: &usize| rest.get(..*end).filter(|path| Path::new(path).exists());
        let mut ends: Vec<_> = ends.collect();
        ends.reverse();
        let first = rest.find(':').unwrap_or(rest.len());
        let end = ends.into_iter().find(|end| path(end).is_some()).unwrap_or(first);
        let path = rest.get(..end).filter(|path| !path.is_empty())?;
        let reference = rest.get(end..)?.strip_prefix(':').filter(|name| !name.is_empty());
        Some(Self { kind, path: path.into(), reference: reference.map(str::to_owned) })
    }
}

impl FromStr for Source {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self, ImageError> {
        let source = match name.split_once(':') {
            Some(("oci-layout", rest)) => Self::new(Kind::OciLayout, rest),
            Some(("oci-archive", rest)) => Self::new(Kind::OciArchive, rest),
            Some(("docker-archive", rest)) => Self::new(Kind::DockerArchive, rest),
            _ => None,
        };
        source.ok_or_else(|| ImageError::Source { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_may_have_colons() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let with_colon = dir.path().join("a:b");
        std::fs::create_dir(&with_colon).expect("a directory");
        let path = with_colon.to_str().expect("text");
        for (name, want_path, want_name) in [
            (format!("oci-layout:{path}"), path, None),
            (format!("oci-layout:{path}:host:5000/x:latest"), path, Some("host:5000/x:latest")),
            (format!("oci-layout:{path}:"), path, None),
            ("oci-archive:/missing:latest".to_owned(), "/missing", Some("latest")),
        ] {
            let source: Source = name.parse().expect(&name);
            assert_eq!((source.path.to_str(), source.reference.as_deref()), (Some(want_path), want_name), "{name}");
        }
        for bad in ["", "busybox", "docker://busybox", "oci-layout:", "oci-archive::x"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
