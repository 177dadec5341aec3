//! Lines of `/proc/self/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Number of its file system's device, `major:minor`.
    pub device: &'a str,
    /// The part of the file system that is seen at the mount.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type of the file system.
    pub kind: &'a str,
    /// Options of the file system, each escaped.
    pub options: &'a str,
}

/// One line; nothing if it is none.
pub fn mount(line: &str) -> Option<Mount<'_>> {
    // Optional fields end with a dash.
    let (fields, rest) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(2);
    let (device, root, target) = (fields.next()?, unescape(fields.next()?), unescape(fields.next()?));
    let mut rest = rest.split(' ');
    Some(Mount { device, root, target, kind: rest.next()?, options: rest.nth(1)? })
}

/// What stands for a character that would end a field: a backslash and three octal digits.
pub fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|_| first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_parts() {
        let line = r"36 35 98:0 /mnt1 /a\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let found = mount(line).expect("a mount");
        assert_eq!((found.device, found.kind, found.options), ("98:0", "ext3", "rw,errors=continue"));
        assert_eq!((found.root, found.target), ("/mnt1".into(), "/a b".into()));
        assert_eq!(mount("36 35 98:0 / /a rw"), None);
        assert_eq!(unescape(r"a\134\011\9x\"), PathBuf::from("a\\\t\\9x\\"));
    }
}
