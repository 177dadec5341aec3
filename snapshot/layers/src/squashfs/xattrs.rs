//! Extended attributes: sets of them, each kept once, and their tables in the image.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::metadata::MetadataWriter;
use super::{ImageError, spec};

/// Names, with their namespaces, and values.
pub(crate) type XattrSet = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The number of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct XattrId(u32);

/// All sets.
#[derive(Debug, Default)]
pub(crate) struct Xattrs {
    numbers: HashMap<Arc<XattrSet>, XattrId>,
    sets: Vec<Arc<XattrSet>>,
}

/// Whether an image can hold an attribute of this name.
pub(crate) fn can_hold(name: &[u8]) -> bool {
    split(name).is_some()
}

/// Whether Linux allows an attribute of such a name and value.
pub(crate) fn is_sane(name: &[u8], value: &[u8]) -> bool {
    name.len() <= spec::XATTR_NAME_BYTES && value.len() <= spec::XATTR_VALUE_BYTES && !name.contains(&0)
}

/// The number of a namespace, and the name in it.
fn split(name: &[u8]) -> Option<(u16, &[u8])> {
    let mut prefixes = spec::XATTR_PREFIXES.iter();
    prefixes.find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix).filter(|rest| !rest.is_empty())?)))
}

impl Xattrs {
    /// The number of a set, and the bytes that it takes if it is new; none for the empty set.
    pub(crate) fn intern(&mut self, set: XattrSet) -> Result<Option<(XattrId, u64)>, ImageError> {
        if set.is_empty() {
            return Ok(None);
        }
        if let Some(id) = self.numbers.get(&set) {
            return Ok(Some((*id, 0)));
        }
        let too_many = |_| ImageError::TooLarge { what: "the number of sets of extended attributes" };
        let id = XattrId(u32::try_from(self.sets.len()).map_err(too_many)?);
        let bytes = set.iter().map(|(name, value)| name.len() as u64 + value.len() as u64).sum();
        let set = Arc::new(set);
        self.sets.push(Arc::clone(&set));
        self.numbers.insert(set, id);
        Ok(Some((id, bytes)))
    }

    /// The set of a number; empty for none.
    pub(crate) fn set(&self, id: Option<XattrId>) -> XattrSet {
        id.and_then(|id| self.sets.get(id.0 as usize)).map(|set| XattrSet::clone(set)).unwrap_or_default()
    }
}

/// The tables of those sets that inodes use, numbered in the order in which these come.
pub(super) struct XattrTable<'a> {
    xattrs: &'a Xattrs,
    values: MetadataWriter,
    ids: Vec<u8>,
    numbers: HashMap<XattrId, u32>,
}

impl<'a> XattrTable<'a> {
    pub(super) fn new(xattrs: &'a Xattrs, values: MetadataWriter) -> Self {
        Self { xattrs, values, ids: Vec::new(), numbers: HashMap::new() }
    }

    /// The number in the image of an inode's set.
    pub(super) fn number(&mut self, id: Option<XattrId>) -> Result<u32, ImageError> {
        let Some(id) = id else { return Ok(spec::NO_XATTRS) };
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        let too_many = |_| ImageError::TooLarge { what: "the number of sets of extended attributes" };
        let number = u32::try_from(self.numbers.len()).map_err(too_many)?;
        self.write(id)?;
        self.numbers.insert(id, number);
        Ok(number)
    }

    fn write(&mut self, id: XattrId) -> Result<(), ImageError> {
        let too_large = |_| ImageError::TooLarge { what: "an extended attribute" };
        let start = self.values.position()?;
        let mut listed = 0;
        let mut count = 0u32;
        for (name, value) in self.xattrs.set(Some(id)) {
            let Some((namespace, rest)) = split(&name) else { continue };
            self.values.write(&namespace.to_le_bytes())?;
            self.values.write(&u16::try_from(rest.len()).map_err(too_large)?.to_le_bytes())?;
            self.values.write(rest)?;
            self.values.write(&u32::try_from(value.len()).map_err(too_large)?.to_le_bytes())?;
            self.values.write(&value)?;
            listed += name.len() + 1;
            count += 1;
        }
        self.ids.extend_from_slice(&start.reference().to_le_bytes());
        self.ids.extend_from_slice(&count.to_le_bytes());
        self.ids.extend_from_slice(&u32::try_from(listed).map_err(too_large)?.to_le_bytes());
        Ok(())
    }

    /// The blocks of names and values, the entries of the sets and their count.
    pub(super) fn finish(self) -> Result<(Vec<u8>, Vec<u8>, u32), ImageError> {
        let too_many = |_| ImageError::TooLarge { what: "the number of sets of extended attributes" };
        let count = u32::try_from(self.numbers.len()).map_err(too_many)?;
        Ok((self.values.finish()?, self.ids, count))
    }
}
