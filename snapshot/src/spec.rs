//! Numbers of the format; `docs/snapshot-format.md` has the same ones drawn.

/// First bytes of a state file. The first is no ASCII, the last stop a terminal: the file is never taken for text.
pub const STATE_MAGIC: [u8; 8] = *b"\x89SMVM\r\n\x1a";
/// First bytes of a memory file's trailer.
pub const TRAILER_MAGIC: [u8; 8] = *b"\x89SMRAM\n\x1a";
/// Version of the format. Another one is refused, never translated: a template is baked anew in its place.
pub const VERSION: u32 = 1;

/// Name of the state file.
pub const STATE_FILE: &str = "state";
/// Name of the memory file.
pub const MEMORY_FILE: &str = "memory";

/// Bytes of the header at the start of a state file.
pub const HEADER_BYTES: usize = 64;
/// Bytes of one entry of the section table: name, length, digest.
pub const SECTION_ENTRY_BYTES: usize = 72;
/// Bytes of a section's name, padded with zeros.
pub const NAME_BYTES: usize = 32;
/// Bytes of one entry of the run table: position, length.
pub const RUN_ENTRY_BYTES: usize = 16;
/// Bytes of a BLAKE3 digest.
pub const DIGEST_BYTES: usize = 32;
/// Bytes behind the RAM in a memory file.
pub const TRAILER_BYTES: usize = 64;

/// Regions of RAM at most.
pub const REGIONS_MAX: usize = 16;
/// Bytes of one string of a manifest at most.
pub const TEXT_MAX: usize = 512;
/// Entries of one list of a manifest at most.
pub const LIST_MAX: usize = 256;
/// Page sizes that a memory file may be cut in.
pub const PAGE_SIZES: [u32; 3] = [4096, 16384, 65536];

/// Runs that a writer leaves in a full snapshot: they are not mapped, only read.
pub const FULL_RUNS_MAX: usize = 4096;
/// Runs that a writer leaves in a diff: each is one mapping at restore, some 4 µs. Closer ones are joined until they are no more.
pub const DIFF_RUNS_MAX: usize = 512;
/// A writer of a diff joins runs with at most so many bytes between them. A container's diff has a third of the runs then, and
/// half as many pages more, which its machines no longer share with the base's.
pub const DIFF_GAP_BYTES: u64 = 32 << 10;
