//! Runs of pages: what is where in a memory file.

use super::CHUNK_BYTES;

/// Some pages that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Position of the first byte in RAM and in the memory file.
    pub position: u64,
    /// Bytes, a multiple of the page size.
    pub bytes: u64,
}

impl Run {
    /// Position of the first byte behind it.
    pub fn end(&self) -> u64 {
        self.position.saturating_add(self.bytes)
    }

    /// Cuts it into pieces that fit a buffer.
    pub(super) fn pieces(self) -> impl Iterator<Item = (Self, usize)> {
        let mut position = self.position;
        std::iter::from_fn(move || {
            let bytes = self.end().saturating_sub(position).min(CHUNK_BYTES);
            let piece = Self { position, bytes };
            position = piece.end();
            (bytes > 0).then_some((piece, usize::try_from(bytes).ok()?))
        })
    }

    /// Joins sorted runs that overlap, touch, or have at most `gap` bytes between them.
    pub(crate) fn joined(runs: Vec<Self>, gap: u64) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::with_capacity(runs.len());
        for run in runs {
            match joined.last_mut() {
                Some(last) if run.position <= last.end().saturating_add(gap) => {
                    last.bytes = last.bytes.max(run.end().saturating_sub(last.position));
                }
                _ => joined.push(run),
            }
        }
        joined
    }

    /// Joins sorted runs until there are at most `max`, those closest to each other first.
    pub(crate) fn at_most(mut runs: Vec<Self>, max: usize, page_bytes: u32) -> Vec<Self> {
        let mut gap: u64 = 0;
        while runs.len() > max {
            gap = u64::max(gap.saturating_mul(2), page_bytes.into());
            runs = Self::joined(runs, gap);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(position: u64, bytes: u64) -> Run {
        Run { position, bytes }
    }

    #[test]
    fn runs_that_touch_or_overlap_become_one() {
        let runs = vec![run(0, 2), run(1, 3), run(4, 1), run(9, 1)];
        assert_eq!(Run::joined(runs.clone(), 0), [run(0, 5), run(9, 1)]);
        assert_eq!(Run::joined(runs.clone(), 3), [run(0, 5), run(9, 1)]);
        assert_eq!(Run::joined(runs, 4), [run(0, 10)]);
    }

    #[test]
    fn a_run_inside_another_does_not_shorten_it() {
        assert_eq!(Run::joined(vec![run(0, 10), run(2, 3)], 0), [run(0, 10)]);
    }

    #[test]
    fn many_runs_become_few_and_lose_no_page() {
        let every_other: Vec<_> = (0..1000).map(|index| run(index * 8192, 4096)).collect();
        let far = run(1 << 30, 4096);
        let few = Run::at_most(every_other.into_iter().chain([far]).collect(), 10, 4096);
        assert_eq!(few, [run(0, 999 * 8192 + 4096), far]);
    }
}
