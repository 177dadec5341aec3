//! Code that was decoded in an earlier life of the same machine.

use super::Engine;
use crate::code::Source;
use crate::code::kept::{self, Kept};
use crate::trace;

impl Engine {
    /// Takes code that was decoded before; what does not fit is left.
    pub(crate) fn recall(&mut self, bytes: supermachine_hv::Kept) {
        if trace::WHOLE {
            return;
        }
        match Kept::open(bytes, self.modes()) {
            Ok(kept) => {
                self.code.expect(kept.extent());
                self.kept = Some(kept);
            }
            Err(problem) => log::warn!("decoded code that was kept is of no use: {problem}"),
        }
    }

    /// Decoded code to be kept, if that many ops had to be decoded here, and many beside those that had been kept.
    pub(crate) fn keep(&self, least: usize, unchanged: &dyn Fn(u64) -> bool) -> Option<Vec<u8>> {
        if self.decoded < least.max(self.adopted / 2) {
            return None;
        }
        let bytes = kept::write(&self.code, &self.cpu.ram, self.modes(), unchanged)?;
        // Of two that do without one another's, the larger one stays.
        self.kept.as_ref().is_none_or(|kept| kept.len() < bytes.len()).then_some(bytes)
    }

    /// The block at an offset of a page, if it was kept. Takes all of the page at once.
    pub(super) fn adopt(&mut self, offset: u64, from: Source) -> Option<u32> {
        self.adopted += self.adopt_page(from)?;
        self.code.find(from.number, offset)
    }

    /// Takes the next page of what was kept before the guest comes to it; says whether there may be more.
    pub(crate) fn ahead(&mut self) -> bool {
        if std::mem::take(&mut self.cpu.flush_code) {
            // Of a state before this one; what is taken now is not to be forgotten with it.
            self.drop_all_code();
        }
        let next = self.kept.as_ref().and_then(|kept| kept.number(self.ahead));
        let Some(number) = next.filter(|_| !self.code.full()) else { return false };
        self.ahead += 1;
        if let Some((page, _)) = self.cpu.ram.nth(number).filter(|_| !self.code.knows(number)) {
            // As for a page that the guest comes to: what devices write from here on is looked for.
            self.cpu.code_map.set_epoch(number, self.shared.board.epoch());
            let from = Source { page, number };
            self.watch(from);
            self.adopted_ahead += self.adopt_page(from).unwrap_or(0);
        }
        true
    }

    /// Takes a page's code if it was kept for this state of the CPU, and nothing of the page was decoded yet; gives how many ops
    /// that are.
    fn adopt_page(&mut self, from: Source) -> Option<usize> {
        let kept = self.kept.as_ref().filter(|_| !self.code.knows(from.number))?;
        let page = kept.page(from.number).filter(|_| kept.modes() == self.modes())?;
        let adopted = self.code.adopt(&page, from);
        self.cpu.code_map.add_all(from.number, self.code.ranges(from.number));
        Some(adopted)
    }

    /// What came of it, for the log.
    pub(crate) fn kept_and_decoded(&self) -> (usize, usize) {
        (self.adopted + self.adopted_ahead, self.decoded)
    }
}
