//! A header's block, field by field.

use super::EntryError;
use super::stream::BLOCK;

/// Types of entries: POSIX's, then GNU's.
pub(super) mod kind {
    pub(in super::super) const OLD_FILE: u8 = 0;
    pub(in super::super) const FILE: u8 = b'0';
    pub(in super::super) const HARD_LINK: u8 = b'1';
    pub(in super::super) const SYMLINK: u8 = b'2';
    pub(in super::super) const CHARACTER: u8 = b'3';
    pub(in super::super) const BLOCK: u8 = b'4';
    pub(in super::super) const DIRECTORY: u8 = b'5';
    pub(in super::super) const FIFO: u8 = b'6';
    pub(in super::super) const CONTIGUOUS: u8 = b'7';
    pub(in super::super) const GLOBAL: u8 = b'g';
    pub(in super::super) const EXTENDED: u8 = b'x';
    pub(in super::super) const LONG_NAME: u8 = b'L';
    pub(in super::super) const LONG_LINK: u8 = b'K';
    pub(in super::super) const SPARSE: u8 = b'S';
    pub(in super::super) const VOLUME: u8 = b'V';
}

/// Entries of the map in a header of GNU's sparse files, and in each block that continues it.
const SPARSE_IN_HEADER: usize = 4;
const SPARSE_IN_BLOCK: usize = 21;

/// A header whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
}

impl Header {
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Self, EntryError> {
        let this = Self { block };
        let told = number(this.field(148, 8)).ok_or(EntryError::Checksum)?;
        let counted = |byte: fn(u8) -> i64| {
            let sum: i64 = this.block.iter().map(|value| byte(*value)).sum();
            let own: i64 = this.field(148, 8).iter().map(|value| byte(*value)).sum();
            // The checksum itself counts as spaces.
            sum - own + 8 * i64::from(b' ')
        };
        // Old archivers took bytes for signed.
        if told == counted(i64::from) || told == counted(|value| i64::from(value as i8)) {
            return Ok(this);
        }
        Err(EntryError::Checksum)
    }

    fn field(&self, start: usize, length: usize) -> &[u8] {
        field(&self.block, start, length)
    }

    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// The name, with POSIX's or star's prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        let prefix = match (self.field(257, 6), self.field(508, 4)) {
            (b"ustar\0", b"tar\0") => text(self.field(345, 131)),
            (b"ustar\0", _) => text(self.field(345, 155)),
            _ => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u16, EntryError> {
        let mode = number(self.field(100, 8)).ok_or(EntryError::Number { field: "mode" })?;
        Ok((mode & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(self.field(108, 8))
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(self.field(116, 8))
    }

    pub(super) fn size(&self) -> Option<i64> {
        number(self.field(124, 12))
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(self.field(136, 12))
    }

    pub(super) fn device_major(&self) -> Option<i64> {
        number(self.field(329, 8))
    }

    pub(super) fn device_minor(&self) -> Option<i64> {
        number(self.field(337, 8))
    }

    /// Of GNU's sparse files: the map's beginning, and whether blocks follow that continue it.
    pub(super) fn sparse_map(&self) -> Option<(Vec<(u64, u64)>, bool)> {
        sparse_map(&self.block, 386, SPARSE_IN_HEADER, 482)
    }

    /// Of GNU's sparse files: the size with the holes.
    pub(super) fn sparse_size(&self) -> Option<i64> {
        number(self.field(483, 12))
    }
}

/// What a block that continues a map holds.
pub(super) fn more_sparse_map(block: &[u8; BLOCK]) -> Option<(Vec<(u64, u64)>, bool)> {
    sparse_map(block, 0, SPARSE_IN_BLOCK, 504)
}

fn sparse_map(block: &[u8; BLOCK], start: usize, count: usize, more_at: usize) -> Option<(Vec<(u64, u64)>, bool)> {
    let mut map = Vec::new();
    for entry in field(block, start, count * 24).chunks_exact(24) {
        let (offset, length) = entry.split_at(12);
        // An empty field is not part of the map.
        if offset.first().is_none_or(|byte| *byte == 0) {
            break;
        }
        map.push((u64::try_from(number(offset)?).ok()?, u64::try_from(number(length)?).ok()?));
    }
    Some((map, field(block, more_at, 1) != [0]))
}

fn field(block: &[u8; BLOCK], start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

/// A text up to its end by a zero byte.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits, or binary where the highest bit is set. Nothing is 0.
fn number(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        return binary(field);
    }
    let digits = text(field).trim_ascii();
    let digit = |value: Option<i64>, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value?.checked_mul(8)?.checked_add(digit.into())
    };
    digits.iter().fold(Some(0), digit)
}

/// A number in two's complement, of whose first byte the highest bit is only the mark.
fn binary(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // Bit 6 is the sign.
    let start = i64::from(first & 0x3f) - i64::from(first & 0x40);
    rest.iter().try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        let cases: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77777777777)),
            (b"644x\0", None),
            (b"648\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, value) in cases {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
