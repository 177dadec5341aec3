//! The digest of pages: of all that are not zero, with their places, however they are read.

use crate::manifest::SnapshotId;

use super::Run;

/// Digest over runs of pages that are not zero, each run as long as it can be: its bytes, then position and length. The last 16
/// bytes tell how long what is before them is, so no two memories have one input.
pub(super) struct PageDigest {
    hasher: blake3::Hasher,
    page_bytes: u32,
    open: Option<Run>,
    runs: Vec<Run>,
    stored_bytes: u64,
}

/// What was digested.
pub(super) struct Digested {
    /// The digest.
    pub(super) digest: SnapshotId,
    /// The runs.
    pub(super) runs: Vec<Run>,
    /// Bytes in all of them.
    pub(super) stored_bytes: u64,
}

/// At most this many runs are kept apart before they are thinned out: 1 MiB.
const RUNS_KEPT: usize = 65536;

impl PageDigest {
    pub(super) fn new(page_bytes: u32) -> Self {
        Self { hasher: blake3::Hasher::new(), page_bytes, open: None, runs: Vec::new(), stored_bytes: 0 }
    }

    /// Takes whole pages that begin at `position`, behind all that were given before. `each` gets those that are not zero.
    ///
    /// # Errors
    /// Those of `each`.
    pub(super) fn feed<E>(
        &mut self,
        position: u64,
        pages: &[u8],
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let page = usize::try_from(self.page_bytes).unwrap_or(usize::MAX);
        let (mut rest, mut position) = (pages, position);
        while !rest.is_empty() {
            let zeros = rest.chunks(page).take_while(|page| is_zero(page)).map(<[u8]>::len).sum::<usize>();
            let (zero, behind) = rest.split_at(zeros);
            let full = behind.chunks(page).take_while(|page| !is_zero(page)).map(<[u8]>::len).sum::<usize>();
            let (full, behind) = behind.split_at(full);
            position = position.saturating_add(zero.len() as u64);
            if !full.is_empty() {
                self.take(position, full);
                each(position, full)?;
            }
            position = position.saturating_add(full.len() as u64);
            rest = behind;
        }
        Ok(())
    }

    fn take(&mut self, position: u64, bytes: &[u8]) {
        let len = bytes.len() as u64;
        match &mut self.open {
            Some(run) if run.end() == position => run.bytes = run.bytes.saturating_add(len),
            _ => {
                self.close();
                self.open = Some(Run { position, bytes: len });
            }
        }
        self.hasher.update(bytes);
        self.stored_bytes = self.stored_bytes.saturating_add(len);
    }

    fn close(&mut self) {
        let Some(run) = self.open.take() else { return };
        self.hasher.update(&run.position.to_le_bytes());
        self.hasher.update(&run.bytes.to_le_bytes());
        self.runs.push(run);
        if self.runs.len() >= RUNS_KEPT {
            self.runs = Run::at_most(std::mem::take(&mut self.runs), RUNS_KEPT / 2, self.page_bytes);
        }
    }

    /// The end of the pages.
    pub(super) fn finish(mut self) -> Digested {
        self.close();
        let digest = SnapshotId(*self.hasher.finalize().as_bytes());
        Digested { digest, runs: self.runs, stored_bytes: self.stored_bytes }
    }
}

/// Whether all of a page is zero; the first bytes usually tell that it is not.
fn is_zero(page: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    page.chunks(ZEROS.len()).all(|chunk| ZEROS.starts_with(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(parts: &[(u64, &[u8])]) -> Digested {
        let mut digest = PageDigest::new(4096);
        let nothing = |_: u64, _: &[u8]| Ok::<_, ()>(());
        parts.iter().for_each(|(position, pages)| digest.feed(*position, pages, nothing).expect("feeds"));
        digest.finish()
    }

    fn memory() -> Vec<u8> {
        let mut memory = vec![0; 10 * 4096];
        [1, 2, 5, 9].into_iter().for_each(|page| memory[page * 4096 + 4095] = 7);
        memory
    }

    #[test]
    fn it_does_not_matter_how_pages_are_read() {
        let memory = memory();
        let whole = digest(&[(0, &memory)]);
        let pieces: Vec<_> =
            memory.chunks(2 * 4096).enumerate().map(|(index, part)| (index as u64 * 8192, part)).collect();
        assert_eq!(digest(&pieces).digest, whole.digest);
        let sparse = [(4096, &memory[4096..3 * 4096]), (5 * 4096, &memory[5 * 4096..])];
        assert_eq!(digest(&sparse).digest, whole.digest);
        let runs: Vec<_> = whole.runs.iter().map(|run| (run.position / 4096, run.bytes / 4096)).collect();
        assert_eq!((runs.as_slice(), whole.stored_bytes), ([(1, 2), (5, 1), (9, 1)].as_slice(), 4 * 4096));
    }

    #[test]
    fn place_and_content_matter() {
        let memory = memory();
        let mut other = memory.clone();
        other[4096] = 1;
        assert_ne!(digest(&[(0, &memory)]).digest, digest(&[(0, &other)]).digest);
        assert_ne!(digest(&[(0, &memory)]).digest, digest(&[(4096, &memory)]).digest);
        assert_ne!(digest(&[]).digest, digest(&[(0, &memory)]).digest);
    }

    #[test]
    fn only_pages_that_are_not_zero_are_handed_on() {
        let mut seen = Vec::new();
        let mut pages = PageDigest::new(4096);
        let note = |position: u64, bytes: &[u8]| {
            seen.push((position / 4096, bytes.len() / 4096));
            Ok::<_, ()>(())
        };
        pages.feed(0, &memory(), note).expect("feeds");
        assert_eq!(seen, [(1, 2), (5, 1), (9, 1)]);
    }
}
