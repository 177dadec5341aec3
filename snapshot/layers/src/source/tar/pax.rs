//! Extended headers of POSIX's pax: records of a key and a value.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::EntryError;
use crate::squashfs::{XattrSet, is_sane};

/// Records of one extended header, in their order.
pub(super) type Records = Vec<Record>;

type Record = (Vec<u8>, Vec<u8>);

/// libarchive leaves the padding away, others do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the records of a header.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, EntryError> {
    let mut records = Records::new();
    while !bytes.is_empty() {
        let (record, rest) = split(bytes).ok_or(EntryError::Extended)?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

/// The first record: its length in digits, a space, the key, `=`, the value, a line feed.
fn split(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..space)?)?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some(((key.to_vec(), value.to_vec()), bytes.get(length..)?))
}

/// A number without a sign.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let digit = |value: Option<u64>, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value?.checked_mul(10)?.checked_add(digit.into())
    };
    digits.iter().fold(Some(0).filter(|_| !digits.is_empty()), digit)
}

/// What the records that hold for an entry say: the global ones, then its own.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) device_major: Option<u64>,
    pub(super) device_minor: Option<u64>,
    pub(super) xattrs: XattrSet,
    /// It has an access control list.
    pub(super) acl: bool,
    pub(super) sparse: Sparse,
}

/// What the records say of a sparse file.
#[derive(Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Offsets and lengths in turn.
    pub(super) map: Option<Vec<u64>>,
}

impl Extended {
    /// Those of `global`, by key, and over them those of `own`. An empty value takes a record back.
    pub(super) fn new(global: &BTreeMap<Vec<u8>, Vec<u8>>, own: &Records) -> Result<Self, EntryError> {
        let mut this = Self::default();
        for (key, value) in global.iter().chain(own.iter().map(|(key, value)| (key, value))) {
            this.record(key, value)?;
        }
        Ok(this)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        let text = || Some(value.to_vec()).filter(|value| !value.is_empty());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link_path = text(),
            b"size" => self.size = count(value, "size")?,
            b"uid" => self.uid = count(value, "uid")?,
            b"gid" => self.gid = count(value, "gid")?,
            b"mtime" => self.mtime = time(value)?,
            b"SCHILY.devmajor" => self.device_major = count(value, "device number")?,
            b"SCHILY.devminor" => self.device_minor = count(value, "device number")?,
            b"SCHILY.acl.access" | b"SCHILY.acl.default" | b"SCHILY.acl.ace" => self.acl |= !value.is_empty(),
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.major" => self.sparse.major = count(value, "sparse format")?,
            b"GNU.sparse.minor" => self.sparse.minor = count(value, "sparse format")?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = count(value, "size")?,
            b"GNU.sparse.map" => self.sparse.map = map(value)?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.get_or_insert_default().extend(count(value, "sparse map")?);
            }
            _ => self.xattr(key, value)?,
        }
        Ok(())
    }

    /// A record of an extended attribute; others say nothing that counts here.
    fn xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        let (name, value) = if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            (name.to_vec(), value.to_vec())
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let value = BASE64.decode(value).map_err(|_| EntryError::Xattr)?;
            (percent(name).ok_or(EntryError::Xattr)?, value)
        } else {
            return Ok(());
        };
        if name.is_empty() || !is_sane(&name, &value) {
            return Err(EntryError::Xattr);
        }
        self.xattrs.insert(name.into(), value.into());
        Ok(())
    }
}

fn count(value: &[u8], field: &'static str) -> Result<Option<u64>, EntryError> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or(EntryError::Number { field })
}

/// Seconds, rounded down, of a time with a sign and a fraction.
fn time(value: &[u8]) -> Result<Option<i64>, EntryError> {
    if value.is_empty() {
        return Ok(None);
    }
    let bad = EntryError::Number { field: "mtime" };
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let dot = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let (whole, fraction) = value.split_at(dot);
    let fraction = fraction.strip_prefix(b".").unwrap_or_default();
    let seconds = decimal(whole).and_then(|seconds| i64::try_from(seconds).ok());
    let Some(seconds) = seconds.filter(|_| fraction.iter().all(u8::is_ascii_digit)) else { return Err(bad) };
    let more = negative && fraction.iter().any(|digit| *digit != b'0');
    Ok(Some(if negative { (-seconds).saturating_sub(more.into()) } else { seconds }))
}

/// Numbers with commas between.
fn map(value: &[u8]) -> Result<Option<Vec<u64>>, EntryError> {
    if value.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
    numbers.map(Some).ok_or(EntryError::Sparse)
}

/// Undoes `%` and two hexadecimal digits.
fn percent(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            plain.push(*byte);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
        plain.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after.get(2..)?;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_by_their_lengths() {
        let records = parse(b"8 a=b=c\n12 name=x\ny\n").expect("records");
        assert_eq!(records, [(b"a".to_vec(), b"b=c".to_vec()), (b"name".to_vec(), b"x\ny".to_vec())]);
        let bad: [&[u8]; 9] = [
            b"8 a=b=c",
            b"9 a=b=c\n",
            b"7 a=b=c\n",
            b"0 \n",
            b"x a=b\n",
            b"5 =b\n",
            b"5 ab\n",
            b"99999999999999999999 a=b\n",
            b" 6 a=b\n",
        ];
        for bytes in bad {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds) in [("1.9", 1), ("-1.5", -2), ("-1.0", -1), ("-0.5", -1), ("7", 7), ("7.", 7)] {
            assert_eq!(time(text.as_bytes()).expect("a time"), Some(seconds), "{text}");
        }
        for text in ["x", "1.x", "--1", "99999999999999999999", ".5"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn names_in_percents() {
        assert_eq!(percent(b"user.a%3Db%25").expect("a name"), b"user.a=b%");
        for name in ["%", "%4", "%xx", "%+1"] {
            assert_eq!(percent(name.as_bytes()), None, "{name}");
        }
    }
}
