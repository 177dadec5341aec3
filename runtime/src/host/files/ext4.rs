//! Making ext4 file systems: `mke2fs` of e2fsprogs does it.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

const PROGRAM: &str = "mke2fs";
/// Where it is when `PATH` has no directories for the administrator's programs.
const MORE_PLACES: &str = "/usr/sbin:/sbin:/usr/local/sbin";
/// How much of what it says is kept for an error.
const WORDS_MAX: usize = 600;

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The tool is not installed.
    #[error("{PROGRAM} is not in $PATH: install e2fsprogs")]
    NoProgram,
    /// The file, or starting the tool.
    #[error("cannot make an ext4 of {mib} MiB")]
    Io {
        /// Its size.
        mib: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The tool failed.
    #[error("{PROGRAM} ended with {status}: {words}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
}

/// What a file system is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It ends with its machine: a journal would only cost.
    Scratch,
    /// It is kept.
    Lasting,
}

/// Makes an empty file a sparse image of this size with an ext4 in it.
pub(super) fn format(file: &File, mib: u64, kind: Kind) -> Result<(), FormatError> {
    let failed = |source| FormatError::Io { mib, source };
    let program = find().ok_or(FormatError::NoProgram)?;
    file.set_len(mib.saturating_mul(1 << 20)).map_err(failed)?;
    // The file may have no name. Nothing is to be initialized later: the file reads as zeroes already.
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut command = Command::new(program);
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0,root_owner=0:0"]);
    if kind == Kind::Scratch {
        command.args(["-O", "^has_journal"]);
    }
    command.arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.trim().chars().take(WORDS_MAX).collect();
    Err(FormatError::Failed { status: output.status, words })
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = env::split_paths(MORE_PLACES).collect::<Vec<_>>();
    env::split_paths(&path)
        .chain(more)
        .map(|dir: PathBuf| dir.join(PROGRAM))
        .find(|program: &PathBuf| Path::is_file(program))
}
