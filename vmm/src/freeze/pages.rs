//! Which pages of guest RAM hold something: what a save looks at instead of all RAM.

#[cfg(not(target_os = "linux"))]
pub(super) use anywhere::present;
#[cfg(target_os = "linux")]
pub(super) use linux::present;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use supermachine_hv::GuestMemory;
    use supermachine_snapshot::{Pagemap, Pages, Span};
    use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

    /// Spans of all pages that may not be zero: those that were touched, or, of a machine that came from a snapshot,
    /// those of the snapshot and those that were written since. A system that does not tell gives none: all are looked at.
    pub(in crate::freeze) fn present(memory: &GuestMemory, from: Option<&[Span]>) -> io::Result<Option<Vec<Span>>> {
        let pagemap = match Pagemap::open() {
            Ok(pagemap) => pagemap,
            Err(error) => {
                log::debug!("all RAM is looked at: {error}");
                return Ok(None);
            }
        };
        let which = if from.is_some() { Pages::Own } else { Pages::Touched };
        let mut spans = from.map(<[_]>::to_vec).unwrap_or_default();
        for region in memory.iter() {
            let address = region.as_ptr().addr();
            spans.extend(pagemap.spans(address, region.start_addr().0, region.len(), which)?);
        }
        Ok(Some(spans))
    }
}

#[cfg(not(target_os = "linux"))]
mod anywhere {
    use std::io;

    use supermachine_hv::GuestMemory;
    use supermachine_snapshot::Span;

    /// This system does not tell: all are looked at.
    #[expect(clippy::unnecessary_wraps, reason = "the shape of Linux's")]
    pub(in crate::freeze) fn present(_: &GuestMemory, _: Option<&[Span]>) -> io::Result<Option<Vec<Span>>> {
        Ok(None)
    }
}
