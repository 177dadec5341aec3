//! The files in a tar that holds an image: where each begins, without unpacking anything.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ImageError;

const BLOCK: u64 = 512;
/// Entries that an archive may have; an image has some hundred.
const ENTRIES_MAX: usize = 65_536;
/// Bytes of one extended header.
const EXTENDED_MAX: u64 = 64 << 10;
/// Links that are followed from one to the next.
const LINKS_MAX: usize = 8;

/// An archive that was looked through.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File { offset: u64, size: u64 },
    Link { target: String },
}

impl Archive {
    /// Looks through the archive at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        let io = |what| move |source| ImageError::Io { what, path: path.to_owned(), source };
        let file = File::open(path).map_err(io("open"))?;
        let found = file.metadata().map_err(io("open"))?;
        if !found.is_file() {
            return Err(super::error::refused(path.display().to_string(), "no regular file"));
        }
        let mut scan = Scan { file: &file, path, length: found.len(), at: 0, entries: HashMap::new() };
        scan.all()?;
        let entries = scan.entries;
        Ok(Self { file, entries })
    }

    /// The file with a name; links in the archive are followed in the archive.
    pub(super) fn file(&self, name: &str) -> Option<(Section<'_>, u64)> {
        let mut name = tidy(name)?;
        for _ in 0..LINKS_MAX {
            match self.entries.get(&name)? {
                Entry::File { offset, size } => {
                    return Some((Section { file: &self.file, at: *offset, left: *size }, *size));
                }
                Entry::Link { target } => name.clone_from(target),
            }
        }
        None
    }
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let count = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(count as u64);
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

/// A name without `.`; none if it leads out of the archive.
fn tidy(name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") { None } else { Some(parts.join("/")) }
}

/// Where a link in the directory of `name` leads.
fn resolve(name: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

/// What an extended header says of the next entry.
#[derive(Debug, Default)]
struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

struct Scan<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
    at: u64,
    entries: HashMap<String, Entry>,
}

impl Scan<'_> {
    fn wrong(&self, reason: impl Into<String>) -> ImageError {
        ImageError::Archive { path: self.path.to_owned(), at: self.at, reason: reason.into() }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let path: PathBuf = self.path.to_owned();
        self.file.read_exact_at(buffer, offset).map_err(|source| ImageError::Io { what: "read", path, source })
    }

    fn all(&mut self) -> Result<(), ImageError> {
        let mut extended = Extended::default();
        while self.at < self.length {
            if self.length - self.at < BLOCK {
                return Err(self.wrong("cut off in a header"));
            }
            let mut header = [0; 512];
            self.read(self.at, &mut header)?;
            if header.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            self.check_sum(&header)?;
            self.entry(&header, &mut extended)?;
            if self.entries.len() > ENTRIES_MAX {
                return Err(self.wrong(format!("more than {ENTRIES_MAX} entries")));
            }
        }
        Ok(())
    }

    fn check_sum(&self, header: &[u8; 512]) -> Result<(), ImageError> {
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = field(header, 148, 8).iter().map(|byte| u64::from(*byte)).sum();
        if number(field(header, 148, 8)) == Some(sum - own + 8 * u64::from(b' ')) {
            return Ok(());
        }
        Err(self.wrong(match header {
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => "compressed: decompress it first",
            _ => "no header of a tar",
        }))
    }

    /// One entry; afterwards the next is to be read.
    fn entry(&mut self, header: &[u8; 512], extended: &mut Extended) -> Result<(), ImageError> {
        let kind = header.get(156).copied().unwrap_or_default();
        let is_extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
        let size = extended.size.filter(|_| !is_extension).or_else(|| number(field(header, 124, 12)));
        let size = size.ok_or_else(|| self.wrong("no size"))?;
        // Only these have contents.
        let stored = if is_extension || matches!(kind, b'0' | 0 | b'7') { size } else { 0 };
        let data = self.at.saturating_add(BLOCK);
        let end = data.checked_add(stored).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| self.wrong("cut off in an entry"))?;
        if is_extension {
            self.extension(kind, data, stored, extended)?;
        } else {
            let told = std::mem::take(extended);
            let name = told.path.or_else(|| plain_name(header)).ok_or_else(|| self.wrong("a name that is no text"))?;
            let link = told.link.or_else(|| text(field(header, 157, 100)));
            self.keep(kind, &name, link, data, stored)?;
        }
        self.at = end.div_ceil(BLOCK).saturating_mul(BLOCK);
        Ok(())
    }

    fn extension(&self, kind: u8, data: u64, size: u64, extended: &mut Extended) -> Result<(), ImageError> {
        if size > EXTENDED_MAX {
            return Err(self.wrong(format!("an extended header of more than {EXTENDED_MAX} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.read(data, &mut bytes)?;
        match kind {
            b'L' => extended.path = text(&bytes),
            b'K' => extended.link = text(&bytes),
            b'x' => pax(&bytes, extended).ok_or_else(|| self.wrong("an extended header that is none"))?,
            // Global ones say nothing about names.
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, kind: u8, name: &str, link: Option<String>, offset: u64, size: u64) -> Result<(), ImageError> {
        let outside = || format!("{name:?} leads out of the archive");
        let tidied = tidy(name).ok_or_else(|| self.wrong(outside()))?;
        let entry = match kind {
            b'0' | 0 | b'7' => Entry::File { offset, size },
            b'1' | b'2' => {
                let target = link.unwrap_or_default();
                let found = if kind == b'1' { tidy(&target) } else { resolve(&tidied, &target) };
                Entry::Link { target: found.ok_or_else(|| self.wrong(outside()))? }
            }
            b'5' => return Ok(()),
            _ => return Err(self.wrong(format!("{name:?} is neither file, directory nor link"))),
        };
        if self.entries.insert(tidied, entry).is_some() {
            return Err(self.wrong(format!("{name:?} is there twice")));
        }
        Ok(())
    }
}

fn field(header: &[u8; 512], at: usize, len: usize) -> &[u8] {
    header.get(at..at + len).unwrap_or_default()
}

/// Text up to a null.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    String::from_utf8(bytes.to_vec()).ok()
}

fn plain_name(header: &[u8; 512]) -> Option<String> {
    let name = text(field(header, 0, 100))?;
    let prefix = if field(header, 257, 6) == b"ustar\0" { text(field(header, 345, 155))? } else { String::new() };
    Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
}

/// An octal number, or GNU's binary one.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        let significant = rest.iter().skip_while(|byte| **byte == 0);
        return (significant.clone().count() <= 8)
            .then(|| significant.fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    let digits: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, 0 | b' ')).collect();
    let digits = std::str::from_utf8(&digits).ok()?;
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// Reads `LENGTH NAME=VALUE\n`, again and again.
fn pax(mut bytes: &[u8], extended: &mut Extended) -> Option<()> {
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        bytes = bytes.get(length..)?;
        let (name, value) = record.split_at_checked(record.iter().position(|byte| *byte == b'=')?)?;
        let value = value.get(1..)?;
        match name {
            b"path" => extended.path = Some(std::str::from_utf8(value).ok()?.to_owned()),
            b"linkpath" => extended.link = Some(std::str::from_utf8(value).ok()?.to_owned()),
            b"size" => extended.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            _ => {}
        }
    }
    Some(())
}
