//! How much of a file is believed.

/// Caps that hold before anything is allocated or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the state file.
    pub state_bytes: u64,
    /// Bytes of the manifest.
    pub manifest_bytes: u32,
    /// Sections.
    pub sections: u32,
    /// Bytes of one section.
    pub section_bytes: u64,
    /// Runs of pages.
    pub runs: u32,
    /// Bytes of RAM.
    pub ram_bytes: u64,
}

impl Default for Limits {
    /// 64 MiB of state, 256 KiB of manifest, 1024 sections of up to 16 MiB, 8192 runs, 1 TiB of RAM.
    fn default() -> Self {
        Self {
            state_bytes: 64 << 20,
            manifest_bytes: 256 << 10,
            sections: 1024,
            section_bytes: 16 << 20,
            runs: 8192,
            ram_bytes: 1 << 40,
        }
    }
}
