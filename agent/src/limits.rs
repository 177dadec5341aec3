//! The agent's own resource limits, and those its processes get instead.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Soft and hard limit of open files as the agent found them.
static FOUND_NOFILE: OnceLock<(u64, u64)> = OnceLock::new();

/// Descriptors that one exec needs at most: socket, start report, process, and three streams.
const FDS_PER_CONNECTION: u64 = 8;
/// Descriptors that the agent itself needs.
const OWN_FDS: u64 = 32;
/// Connections served at once, however many descriptors there are.
const MAX_CONNECTIONS: u64 = 4096;

/// Lets the agent open as many files as it may, and makes it the last victim when memory runs out.
///
/// Where either is not permitted (outside a guest) the agent serves fewer, or as any other process.
pub(crate) fn raise_own() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        FOUND_NOFILE.get_or_init(|| (soft, hard));
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}

/// The open-file limits for processes: what the agent itself was started with.
pub(crate) fn nofile_for_processes() -> Option<(u64, u64)> {
    FOUND_NOFILE.get().copied()
}

/// How many connections can be served at once.
pub(crate) fn max_connections() -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let connections = files.saturating_sub(OWN_FDS) / FDS_PER_CONNECTION;
    usize::try_from(connections.clamp(1, MAX_CONNECTIONS)).unwrap_or(1)
}
