//! Requests and replies as they lie in guest memory: read once, never trusted to stay as they were.

use std::ffi::CString;

use vm_memory::VolatileSlice;

use crate::error::Errno;
use crate::spec::{self, Wire, fuse_in_header, fuse_out_header};

/// Longest structure at a fixed place in a request.
const LONGEST: usize = 128;

/// The part of `slices` that begins `skip` bytes in and is at most `len` long.
pub(crate) fn window<'a>(slices: &[VolatileSlice<'a>], skip: usize, len: usize) -> Vec<VolatileSlice<'a>> {
    let (mut skip, mut left) = (skip, len);
    let mut parts = Vec::with_capacity(slices.len());
    for slice in slices {
        let before = skip.min(slice.len());
        skip = skip.saturating_sub(before);
        let count = slice.len().saturating_sub(before).min(left);
        left = left.saturating_sub(count);
        if let (true, Ok(part)) = (count > 0, slice.subslice(before, count)) {
            parts.push(part);
        }
    }
    parts
}

fn length(slices: &[VolatileSlice<'_>]) -> usize {
    slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len()))
}

/// The rest of a request.
pub(crate) struct Reader<'a> {
    parts: Vec<VolatileSlice<'a>>,
    /// The part that is read next, and how much of it is read.
    part: usize,
    offset: usize,
    left: usize,
}

impl<'a> Reader<'a> {
    /// Takes the header off a request and cuts what follows at the length that it tells.
    pub(crate) fn open(request: &[VolatileSlice<'a>]) -> Option<(fuse_in_header, Result<Self, Errno>)> {
        let mut reader = Self::new(window(request, 0, usize::MAX));
        let header: fuse_in_header = reader.read().ok()?;
        let told = usize::try_from(header.len).ok().and_then(|len| len.checked_sub(fuse_in_header::SIZE));
        let body = match told {
            Some(told) if told <= reader.left => Ok(Self { left: told, ..reader }),
            _ => Err(Errno::INVAL),
        };
        Some((header, body))
    }

    fn new(parts: Vec<VolatileSlice<'a>>) -> Self {
        Self { left: length(&parts), parts, part: 0, offset: 0 }
    }

    fn copy(&mut self, out: &mut [u8]) -> Result<(), Errno> {
        if out.len() > self.left {
            return Err(Errno::INVAL);
        }
        self.left = self.left.saturating_sub(out.len());
        let mut rest = out;
        while !rest.is_empty() {
            let part = self.parts.get(self.part).ok_or(Errno::INVAL)?;
            let copied = part.offset(self.offset).map_err(|_| Errno::INVAL)?.copy_to(rest);
            rest = rest.split_at_mut_checked(copied).ok_or(Errno::INVAL)?.1;
            self.offset = self.offset.saturating_add(copied);
            if self.offset >= part.len() {
                (self.part, self.offset) = (self.part.saturating_add(1), 0);
            }
        }
        Ok(())
    }

    pub(crate) fn read<T: Wire>(&mut self) -> Result<T, Errno> {
        let mut bytes = [0; LONGEST];
        let bytes = bytes.get_mut(..T::SIZE).ok_or(Errno::INVAL)?;
        self.copy(bytes)?;
        T::take(&mut &*bytes).ok_or(Errno::INVAL)
    }

    /// All that is left, which is refused with `error` if it is more than `limit` bytes.
    fn rest(&mut self, limit: usize, error: Errno) -> Result<Vec<u8>, Errno> {
        if self.left > limit {
            return Err(error);
        }
        let mut bytes = vec![0; self.left];
        self.copy(&mut bytes)?;
        Ok(bytes)
    }

    /// The one name that is left.
    pub(crate) fn name(&mut self) -> Result<CString, Errno> {
        let rest = self.rest(2 * spec::PATH_MAX, Errno::NAMETOOLONG)?;
        file_name(text(&rest)?.0)
    }

    /// The two names that are left.
    pub(crate) fn names(&mut self) -> Result<(CString, CString), Errno> {
        let rest = self.rest(2 * spec::PATH_MAX, Errno::NAMETOOLONG)?;
        let (first, rest) = text(&rest)?;
        Ok((file_name(first)?, file_name(text(rest)?.0)?))
    }

    /// A name, and the target of a symbolic link.
    pub(crate) fn name_and_target(&mut self) -> Result<(CString, CString), Errno> {
        let rest = self.rest(3 * spec::PATH_MAX, Errno::NAMETOOLONG)?;
        let (first, rest) = text(&rest)?;
        let target = text(rest)?.0;
        match target.len() {
            0 => Err(Errno::NOENT),
            len if len >= spec::PATH_MAX => Err(Errno::NAMETOOLONG),
            _ => Ok((file_name(first)?, CString::new(target).map_err(|_| Errno::INVAL)?)),
        }
    }

    /// The name of an extended attribute and the `size` bytes of its value.
    pub(crate) fn attribute(&mut self, size: u32) -> Result<(CString, Vec<u8>), Errno> {
        let size = usize::try_from(size).map_err(|_| Errno::TOOBIG)?;
        let rest = self.rest(spec::NAME_MAX + 1 + spec::XATTR_SIZE_MAX, Errno::TOOBIG)?;
        let (name, value) = text(&rest)?;
        let value = value.get(..size).ok_or(Errno::INVAL)?;
        Ok((attribute_name(name)?, value.to_vec()))
    }

    /// The name of an extended attribute, which is all that is left.
    pub(crate) fn attribute_name(&mut self) -> Result<CString, Errno> {
        let rest = self.rest(spec::PATH_MAX, Errno::RANGE)?;
        attribute_name(text(&rest)?.0)
    }

    /// The next `size` bytes, where they are.
    pub(crate) fn data(&self, size: u32) -> Result<Vec<VolatileSlice<'a>>, Errno> {
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        if size > self.left {
            return Err(Errno::INVAL);
        }
        let parts = self.parts.get(self.part..).unwrap_or_default();
        Ok(window(parts, self.offset, size))
    }
}

/// Splits at the first zero, which must be there.
fn text(bytes: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
    let (text, rest) = bytes.split_at_checked(end).ok_or(Errno::INVAL)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// One component of a path: never empty, `.` or `..`, and without a slash.
fn file_name(bytes: &[u8]) -> Result<CString, Errno> {
    if bytes.len() > spec::NAME_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

fn attribute_name(bytes: &[u8]) -> Result<CString, Errno> {
    if bytes.is_empty() || bytes.len() > spec::NAME_MAX {
        return Err(Errno::RANGE);
    }
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

/// What a request is answered with.
pub(crate) enum Answer {
    /// Nothing at all: the guest does not wait.
    None,
    /// These bytes after the header.
    Bytes(Vec<u8>),
    /// So many bytes, which lie in the reply already.
    InPlace(usize),
}

impl Answer {
    /// Success, and nothing to tell.
    pub(crate) const OK: Self = Self::Bytes(Vec::new());

    pub(crate) fn of(value: &impl Wire) -> Self {
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        Self::Bytes(bytes)
    }
}

/// Where the reply goes.
pub(crate) struct Reply<'a> {
    slices: &'a [VolatileSlice<'a>],
    room: usize,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(slices: &'a [VolatileSlice<'a>]) -> Self {
        let room = length(slices).saturating_sub(fuse_out_header::SIZE);
        Self { slices, room }
    }

    /// Bytes that fit after the header.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// The first `size` bytes after the header, or as many as there are.
    pub(crate) fn data(&self, size: u32) -> Vec<VolatileSlice<'a>> {
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(self.room);
        window(self.slices, fuse_out_header::SIZE, size)
    }

    /// Writes header and answer; gives the length of both, 0 if there is no room for them or nothing to answer.
    pub(crate) fn finish(&self, unique: u64, answer: Result<Answer, Errno>) -> usize {
        let (error, bytes, in_place) = match answer {
            Ok(Answer::None) => return 0,
            Ok(Answer::Bytes(bytes)) if bytes.len() <= self.room => (0, bytes, 0),
            Ok(Answer::InPlace(len)) if len <= self.room => (0, Vec::new(), len),
            Ok(_) => (-spec::errno::EIO, Vec::new(), 0),
            Err(Errno(number)) => (number.saturating_neg(), Vec::new(), 0),
        };
        let total = fuse_out_header::SIZE.saturating_add(bytes.len()).saturating_add(in_place);
        if total > length(self.slices) {
            return 0;
        }
        let len = u32::try_from(total).unwrap_or(u32::MAX);
        let mut all = Vec::with_capacity(total.saturating_sub(in_place));
        fuse_out_header { len, error, unique }.put(&mut all);
        all.extend_from_slice(&bytes);
        let mut rest = all.as_slice();
        for slice in self.slices {
            let count = rest.len().min(slice.len());
            let Some((now, later)) = rest.split_at_checked(count) else { break };
            slice.copy_from(now);
            rest = later;
        }
        total
    }
}
