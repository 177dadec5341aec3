//! Sets of extended attributes.

use super::{Image, ReadError, table};
use crate::squashfs::{XATTR_PREFIXES, XattrSet};

/// The number of no set.
pub(super) const NO_XATTRS: u32 = u32::MAX;
/// In the number of a namespace: the value is elsewhere.
const OUT_OF_LINE: u16 = 0x100;
/// Sets in a block of their table.
const SETS: u32 = 512;
/// Bytes of a set: no layer may have more.
const SET_MAX: u64 = 64 << 20;

impl Image {
    /// The set of a number, names with their namespaces.
    pub(super) fn xattrs(&self, set: u32) -> Result<XattrSet, ReadError> {
        let mut found = XattrSet::new();
        if set == NO_XATTRS || self.xattrs == u64::MAX {
            return Ok(found);
        }
        let start = table::long_at(&self.file, self.xattrs)?;
        let lists = self.xattrs.saturating_add(16).saturating_add(u64::from(set / SETS) * 8);
        let mut entry = self.cursor(table::long_at(&self.file, lists)?, (set % SETS * 16) as u16);
        let (reference, count) = (entry.long()?, entry.word()?);
        let place = |reference: u64| self.cursor(start.saturating_add(reference >> 16), reference as u16);
        let mut at = place(reference);
        let mut bytes = 0;
        for _ in 0..count {
            let (kind, length) = (at.short()?, at.short()?);
            let name = at.bytes(length.into())?;
            let mut length = at.word()?;
            let mut elsewhere = None;
            if kind & OUT_OF_LINE != 0 {
                let value = elsewhere.insert(place(at.long()?));
                length = value.word()?;
            }
            bytes += name.len() as u64 + u64::from(length);
            if bytes > SET_MAX {
                return Err(ReadError::Damaged("extended attributes are too long"));
            }
            let value = elsewhere.as_mut().unwrap_or(&mut at).bytes(length as usize)?;
            let namespace = XATTR_PREFIXES.iter().find(|(_, number)| *number == kind & !OUT_OF_LINE);
            let (prefix, _) = namespace.ok_or(ReadError::Damaged("an extended attribute of an unknown namespace"))?;
            found.insert([prefix, name.as_slice()].concat().into(), value.into());
        }
        Ok(found)
    }
}
