//! What programs expect of a file system, as a table: each case says in text what happened.

mod contents;
mod names;
mod users;

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A name, and what to do in an empty directory.
pub(crate) type Case = (&'static str, fn(&Path) -> Log);

/// What happened, line by line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Log(Vec<String>);

impl Log {
    /// Notes a value.
    pub(crate) fn say(&mut self, what: &str, value: impl Debug) {
        self.0.push(format!("{what}: {value:?}"));
    }

    /// Notes whether something worked, or how it failed.
    pub(crate) fn end<T, E: Into<io::Error>>(&mut self, what: &str, result: Result<T, E>) {
        match result {
            Ok(_) => self.say(what, "ok"),
            Err(error) => {
                let error: io::Error = error.into();
                self.say(what, nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)));
            }
        }
    }
}

/// Opens for reading and writing, and creates with mode 0644.
pub(crate) fn create(path: &Path) -> File {
    open(path, nix::libc::O_RDWR | nix::libc::O_CREAT, 0o644).expect("create")
}

/// open(2).
pub(crate) fn open(path: &Path, flags: i32, mode: u32) -> io::Result<File> {
    let access = flags & nix::libc::O_ACCMODE;
    OpenOptions::new()
        .read(access != nix::libc::O_WRONLY)
        .write(access != nix::libc::O_RDONLY)
        .custom_flags(flags & !nix::libc::O_ACCMODE)
        .mode(mode)
        .open(path)
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    [names::CASES, contents::CASES, users::CASES].concat()
}
