//! The memory file: RAM at its own positions, holes where it is zero, a trailer that ties it to its state file.

mod digest;
mod run;
mod save;
mod trailer;
mod verify;

pub use run::Run;
pub(crate) use save::save;
pub(crate) use trailer::check as check_trailer;
pub(crate) use verify::verify;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// A buffer for them.
fn buffer() -> Vec<u8> {
    vec![0; usize::try_from(CHUNK_BYTES).unwrap_or(0)]
}
