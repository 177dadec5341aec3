//! Which pages of this process's memory are there, as Linux tells it: what a saver looks at instead of all RAM.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::layout::host_page_bytes;
use crate::ram::Span;

/// Which pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// All that are in memory or swapped out. Of anonymous memory: all that were ever touched. Of a private mapping of a file: also
    /// those that were only read; those that were never touched are not among them, and are what the file has.
    Touched,
    /// Those of them that are this process's own. Of a private mapping of a file: exactly those that were written to.
    Own,
}

/// `/proc/self/pagemap`.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    page_bytes: u64,
}

/// Bits of an entry (the kernel's `admin-guide/mm/pagemap.rst`).
const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
const FILE_PAGE: u64 = 1 << 61;
const ENTRY_BYTES: u64 = 8;
/// Entries read at a time: 64 KiB.
const ENTRIES: usize = 8192;

impl Pagemap {
    /// Opens it; may be done before a sandbox forbids it.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/pagemap")?, page_bytes: host_page_bytes().into() })
    }

    /// Pages of the `bytes` bytes at `address` of this process, which are the guest's at `gpa`, as spans in ascending order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn spans(&self, address: usize, gpa: u64, bytes: u64, pages: Pages) -> io::Result<Vec<Span>> {
        let first = address as u64 / self.page_bytes;
        let count = bytes / self.page_bytes;
        let mut spans: Vec<Span> = Vec::new();
        let mut buffer = vec![0; ENTRIES * ENTRY_BYTES as usize];
        for done in (0..count).step_by(ENTRIES) {
            let entries = usize::try_from(count - done).unwrap_or(ENTRIES).min(ENTRIES);
            let part = buffer.get_mut(..entries * ENTRY_BYTES as usize).unwrap_or_default();
            self.file.read_exact_at(part, (first + done) * ENTRY_BYTES)?;
            let (entries, _) = part.as_chunks();
            for (index, _) in (done..).zip(entries).filter(|(_, entry)| wanted(u64::from_ne_bytes(**entry), pages)) {
                self.add(&mut spans, gpa.saturating_add(index * self.page_bytes));
            }
        }
        Ok(spans)
    }

    fn add(&self, spans: &mut Vec<Span>, gpa: u64) {
        match spans.last_mut() {
            Some(last) if last.gpa.saturating_add(last.bytes) == gpa => last.bytes += self.page_bytes,
            _ => spans.push(Span { gpa, bytes: self.page_bytes }),
        }
    }
}

fn wanted(entry: u64, pages: Pages) -> bool {
    entry & PRESENT_OR_SWAPPED != 0 && (pages == Pages::Touched || entry & FILE_PAGE == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_pages_are_found() {
        const PAGES: usize = 20_000;
        let page = host_page_bytes() as usize;
        // As large as this, the allocator maps it, and no page of it was touched.
        let mut memory = vec![0u8; (PAGES + 1) * page];
        let skip = memory.as_ptr().align_offset(page);
        for index in [0, 1, 9000, PAGES - 1] {
            memory[skip + index * page] = 1;
        }
        let address = memory.as_ptr() as usize + skip;
        let pagemap = Pagemap::open().expect("opens");
        for which in [Pages::Touched, Pages::Own] {
            let spans = pagemap.spans(address, 1 << 32, (PAGES * page) as u64, which).expect("reads");
            let found: Vec<_> = spans.iter().map(|span| span.gpa - (1 << 32)).collect();
            let has = |index: usize| found.binary_search(&((index * page) as u64)).is_ok();
            assert!(has(0) && has(9000) && has(PAGES - 1), "{found:?}");
        }
    }

    #[test]
    fn bits_say_what_a_page_is() {
        let (present, swapped) = (1 << 63, 1 << 62);
        assert!(wanted(present, Pages::Own) && wanted(swapped, Pages::Own));
        assert!(wanted(present | FILE_PAGE, Pages::Touched) && !wanted(present | FILE_PAGE, Pages::Own));
        assert!(!wanted(FILE_PAGE, Pages::Touched));
    }
}
