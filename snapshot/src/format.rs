//! The bytes of a state file: header, section table, run table, manifest, sections. Nothing is opened here.

use std::ops::Range;

use crate::error::{Limit, Part, SnapshotError, at_most};
use crate::limits::Limits;
use crate::manifest::{Manifest, SnapshotId};
use crate::memory::Run;
use crate::ram;
use crate::spec::{self, DIGEST_BYTES, HEADER_BYTES, NAME_BYTES, RUN_ENTRY_BYTES, SECTION_ENTRY_BYTES, STATE_FILE};

/// A state file, checked.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: SnapshotId,
    pub(crate) manifest: Manifest,
    pub(crate) runs: Vec<Run>,
    /// Names, and where in `bytes` the sections are.
    pub(crate) sections: Vec<(String, Range<usize>)>,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
}

/// What the first bytes say of the rest.
struct Header {
    sections: usize,
    manifest_bytes: usize,
    runs: usize,
    file_bytes: u64,
    digest: [u8; DIGEST_BYTES],
}

/// A reader that never reads behind the end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], SnapshotError> {
        let short = SnapshotError::Length { file: STATE_FILE, expected: len as u64, found: self.0.len() as u64 };
        let (taken, rest) = self.0.split_at_checked(len).ok_or(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

/// A length that was checked against a cap already.
fn size(value: impl Into<u64>) -> usize {
    usize::try_from(value.into()).unwrap_or(usize::MAX)
}

impl Header {
    fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, SnapshotError> {
        if !bytes.starts_with(&spec::STATE_MAGIC) {
            return Err(SnapshotError::Magic { file: STATE_FILE });
        }
        let mut cursor = Cursor(bytes);
        cursor.take(spec::STATE_MAGIC.len())?;
        let found = cursor.u32()?;
        if found != spec::VERSION {
            return Err(SnapshotError::Version { found });
        }
        let (sections, manifest_bytes, runs) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let (file_bytes, digest) = (cursor.u64()?, cursor.array()?);
        at_most(Limit::Sections, sections.into(), limits.sections.into())?;
        at_most(Limit::ManifestBytes, manifest_bytes.into(), limits.manifest_bytes.into())?;
        at_most(Limit::Runs, runs.into(), limits.runs.into())?;
        at_most(Limit::StateBytes, file_bytes, limits.state_bytes)?;
        Ok(Self {
            sections: size(sections),
            manifest_bytes: size(manifest_bytes),
            runs: size(runs),
            file_bytes,
            digest,
        })
    }

    /// Bytes from the file's start to its first section.
    fn head_bytes(&self) -> usize {
        let tables = self.sections.saturating_mul(SECTION_ENTRY_BYTES);
        let tables = tables.saturating_add(self.runs.saturating_mul(RUN_ENTRY_BYTES));
        HEADER_BYTES.saturating_add(tables).saturating_add(self.manifest_bytes)
    }
}

/// Bytes that a whole state file has, from its first [`HEADER_BYTES`].
pub(crate) fn file_bytes(header: &[u8], limits: &Limits) -> Result<u64, SnapshotError> {
    Ok(Header::decode(header, limits)?.file_bytes)
}

/// Checks a whole state file.
pub(crate) fn decode(bytes: Vec<u8>, limits: &Limits) -> Result<State, SnapshotError> {
    let header = Header::decode(&bytes, limits)?;
    let found = bytes.len() as u64;
    if header.file_bytes != found {
        return Err(SnapshotError::Length { file: STATE_FILE, expected: header.file_bytes, found });
    }
    let mut cursor = Cursor(&bytes);
    let head = cursor.take(header.head_bytes())?;
    if digest_of_head(head) != header.digest {
        return Err(SnapshotError::Damaged { part: Part::Head });
    }
    let mut head = Cursor(head);
    head.take(HEADER_BYTES)?;
    let sections = section_table(&mut head, header.sections, header.head_bytes(), limits)?;
    let table = head.take(header.runs.saturating_mul(RUN_ENTRY_BYTES))?;
    let manifest = Manifest::decode(head.take(header.manifest_bytes)?, limits)?;
    let runs = run_table(table, &manifest)?;
    let sections = check_sections(&bytes, sections)?;
    Ok(State { id: SnapshotId(header.digest), manifest, runs, sections, bytes })
}

/// Over the head without the digest's own bytes.
fn digest_of_head(head: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut hasher = blake3::Hasher::new();
    let (before, rest) = head.split_at(head.len().min(HEADER_BYTES - DIGEST_BYTES));
    hasher.update(before).update(rest.get(DIGEST_BYTES..).unwrap_or_default());
    *hasher.finalize().as_bytes()
}

struct Section {
    name: String,
    place: Range<usize>,
    digest: [u8; DIGEST_BYTES],
}

fn section_table(
    table: &mut Cursor<'_>,
    count: usize,
    first: usize,
    limits: &Limits,
) -> Result<Vec<Section>, SnapshotError> {
    let mut sections: Vec<Section> = Vec::with_capacity(count);
    let mut start = first;
    for _ in 0..count {
        let name = decode_name(table.array()?)?;
        let bytes = table.u64()?;
        at_most(Limit::SectionBytes, bytes, limits.section_bytes)?;
        let end = start.saturating_add(size(bytes));
        sections.push(Section { name, place: start..end, digest: table.array()? });
        start = end;
    }
    let mut names: Vec<_> = sections.iter().map(|section| section.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find_map(|pair| if let [a, b] = pair { (a == b).then_some(*a) } else { None }) {
        Some(name) => Err(SnapshotError::SectionTwice { name: name.to_owned() }),
        None => Ok(sections),
    }
}

fn check_sections(bytes: &[u8], sections: Vec<Section>) -> Result<Vec<(String, Range<usize>)>, SnapshotError> {
    let found = bytes.len() as u64;
    let end = sections.last().map_or(found, |last| last.place.end as u64);
    if end != found {
        return Err(SnapshotError::Length { file: STATE_FILE, expected: end, found });
    }
    let check = |section: Section| match bytes.get(section.place.clone()) {
        Some(content) if *blake3::hash(content).as_bytes() == section.digest => Ok((section.name, section.place)),
        _ => Err(SnapshotError::Damaged { part: Part::Section(section.name) }),
    };
    sections.into_iter().map(check).collect()
}

fn run_table(table: &[u8], manifest: &Manifest) -> Result<Vec<Run>, SnapshotError> {
    let (page, ram_bytes) = (u64::from(manifest.memory.page_bytes), ram::total(&manifest.memory.regions));
    let mut cursor = Cursor(table);
    let mut runs = Vec::with_capacity(table.len() / RUN_ENTRY_BYTES);
    let mut free = 0;
    while !cursor.0.is_empty() {
        let run = Run { position: cursor.u64()?, bytes: cursor.u64()? };
        let whole = run.position.is_multiple_of(page) && run.bytes.is_multiple_of(page) && run.bytes > 0;
        let end = run.position.checked_add(run.bytes).filter(|end| *end <= ram_bytes);
        free = end.filter(|_| whole && run.position >= free).ok_or(SnapshotError::Runs)?;
        runs.push(run);
    }
    Ok(runs)
}

fn decode_name(bytes: [u8; NAME_BYTES]) -> Result<String, SnapshotError> {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
    let (name, padding) = bytes.split_at(len);
    let name = std::str::from_utf8(name).map_err(|_| SnapshotError::SectionName)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(SnapshotError::SectionName);
    }
    check_name(name)?;
    Ok(name.to_owned())
}

/// Whether a section may have this name.
pub(crate) fn check_name(name: &str) -> Result<(), SnapshotError> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let fits = (1..=NAME_BYTES).contains(&name.len());
    if fits && name.bytes().all(good) { Ok(()) } else { Err(SnapshotError::SectionName) }
}

/// The bytes of a state file, and its identity.
pub(crate) fn encode(
    manifest: &Manifest,
    runs: &[Run],
    sections: &[(String, Vec<u8>)],
    limits: &Limits,
) -> Result<(SnapshotId, Vec<u8>), SnapshotError> {
    let manifest = manifest.encode(limits)?;
    let count = |limit, found: usize, max: u32| {
        at_most(limit, found as u64, max.into()).map(|()| u32::try_from(found).unwrap_or(u32::MAX).to_le_bytes())
    };
    let counts = [
        count(Limit::Sections, sections.len(), limits.sections)?,
        count(Limit::ManifestBytes, manifest.len(), limits.manifest_bytes)?,
        count(Limit::Runs, runs.len(), limits.runs)?,
    ];
    let mut tables = Vec::new();
    for (name, content) in sections {
        let padding = [0; NAME_BYTES];
        let name = name.as_bytes();
        tables.extend(name.iter().chain(padding.iter().skip(name.len())));
        tables.extend((content.len() as u64).to_le_bytes());
        tables.extend(blake3::hash(content).as_bytes());
    }
    runs.iter().for_each(|run| tables.extend([run.position.to_le_bytes(), run.bytes.to_le_bytes()].as_flattened()));
    tables.extend(manifest);

    let content_bytes: usize = sections.iter().map(|(_, content)| content.len()).sum();
    let file_bytes = (HEADER_BYTES + tables.len() + content_bytes) as u64;
    at_most(Limit::StateBytes, file_bytes, limits.state_bytes)?;
    let mut file = Vec::with_capacity(size(file_bytes));
    file.extend(spec::STATE_MAGIC);
    file.extend(spec::VERSION.to_le_bytes());
    file.extend(counts.as_flattened());
    file.extend(file_bytes.to_le_bytes());
    let digest_at = file.len();
    file.extend([0; DIGEST_BYTES]);
    file.append(&mut tables);
    let id = digest_of_head(&file);
    file.splice(digest_at..digest_at + DIGEST_BYTES, id);
    sections.iter().for_each(|(_, content)| file.extend(content));
    Ok((SnapshotId(id), file))
}
