//! Files in a stack of layers, as overlayfs would show them: the topmost wins, links stay inside.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::{Directory, Image, Node, ReadError};

/// Links that are followed on one path, as Linux does.
const LINKS_MAX: u32 = 40;
/// Bytes of a path with all its links.
const PATH_MAX: usize = 64 << 10;

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A layer's image.
    #[error("{}", path.display())]
    Layer {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Links that lead to links for ever.
    #[error("too many links")]
    Links,
}

/// A stack of layers.
#[derive(Debug)]
pub struct Stack {
    /// The topmost first.
    layers: Vec<(PathBuf, Image)>,
}

/// A directory as it is seen: which layers it comes from, the topmost first.
type Merged = Vec<(usize, Directory)>;

enum Seen {
    Directory(Merged),
    Leaf(usize, Node),
}

impl Stack {
    /// Opens the images of layers, the lowest first.
    pub fn open(images: &[PathBuf]) -> Result<Self, StackError> {
        let open = |path: &PathBuf| match Image::open(path) {
            Ok(image) => Ok((path.clone(), image)),
            Err(source) => Err(StackError::Layer { path: path.clone(), source }),
        };
        Ok(Self { layers: images.iter().rev().map(open).collect::<Result<_, _>>()? })
    }

    /// The file at an absolute path, if there is one that is not larger than `cap` bytes.
    pub fn read(&self, path: &str, cap: u64) -> Result<Option<Vec<u8>>, StackError> {
        let mut parts: VecDeque<Vec<u8>> = split(path.as_bytes()).collect();
        let root = self.root()?;
        let mut above = vec![root];
        let (mut links, mut length) = (0, path.len());
        while let Some(part) = parts.pop_front() {
            if part == b".." {
                // The root's parent is the root.
                above.truncate(above.len().saturating_sub(1).max(1));
                continue;
            }
            let Some(here) = above.last() else { return Ok(None) };
            match self.lookup(here, &part)? {
                None => return Ok(None),
                Some(Seen::Directory(merged)) => above.push(merged),
                Some(Seen::Leaf(_, Node::Link(target))) => {
                    links += 1;
                    length = length.saturating_add(target.len());
                    if links > LINKS_MAX || length > PATH_MAX {
                        return Err(StackError::Links);
                    }
                    if target.starts_with(b"/") {
                        above.truncate(1);
                    }
                    split(&target).collect::<Vec<_>>().into_iter().rev().for_each(|part| parts.push_front(part));
                }
                Some(Seen::Leaf(layer, Node::File(file))) if parts.is_empty() => {
                    let content = self.image(layer, |image| image.read(&file, cap))?;
                    return Ok(content);
                }
                Some(Seen::Leaf(..)) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn image<T>(
        &self,
        layer: usize,
        work: impl FnOnce(&Image) -> Result<T, ReadError>,
    ) -> Result<Option<T>, StackError> {
        let Some((path, image)) = self.layers.get(layer) else { return Ok(None) };
        work(image).map(Some).map_err(|source| StackError::Layer { path: path.clone(), source })
    }

    fn root(&self) -> Result<Merged, StackError> {
        let mut merged = Vec::new();
        for layer in 0..self.layers.len() {
            // An opaque root has had the layers below it left out.
            if let Some(Node::Directory(root)) = self.image(layer, Image::root)? {
                merged.push((layer, root));
            }
        }
        Ok(merged)
    }

    /// A name in a directory.
    fn lookup(&self, directory: &Merged, name: &[u8]) -> Result<Option<Seen>, StackError> {
        let mut merged = Vec::new();
        for (layer, part) in directory {
            match self.image(*layer, |image| image.lookup(part, name))?.flatten() {
                None => {}
                Some(Node::Directory(directory)) => {
                    merged.push((*layer, directory));
                    if directory.opaque {
                        break;
                    }
                }
                Some(Node::Whiteout) => break,
                // Below a directory something else does not show.
                Some(_) if !merged.is_empty() => break,
                Some(leaf) => return Ok(Some(Seen::Leaf(*layer, leaf))),
            }
        }
        Ok(if merged.is_empty() { None } else { Some(Seen::Directory(merged)) })
    }
}

fn split(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
