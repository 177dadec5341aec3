//! Marks on the way of a start, from all its processes into one file: what `conformance/bench-start` adds up.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Variable that names the file to append marks to. Without it a mark costs next to nothing.
pub const VARIABLE: &str = "SUPERMACHINE_TRACE";

/// Notes that `who` has come as far as `what`: a line with the time in nanoseconds since 1970, a tab before each word.
pub fn mark(who: &str, what: &str) {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let Some(mut file) = FILE.get_or_init(open).as_ref() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    // One write, so that lines of several processes stay whole; a trace that cannot be written is none.
    let _ = file.write_all(format!("{now}\t{who}\t{what}\n").as_bytes());
}

fn open() -> Option<File> {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
    OpenOptions::new().append(true).create(true).open(path).ok()
}
