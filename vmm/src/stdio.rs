//! The vmm's own standard streams, whatever they are: pipes, files, terminals, blocking or not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An input stream.
pub struct Input(File);

impl Input {
    /// Reads what `fd` reads.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned()?.into()))
    }

    /// Waits for bytes and gives how many came; 0 at the end, which an error is too.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            match self.0.read(buffer) {
                Ok(count) => return count,
                Err(error) if again(&error, &self.0, PollFlags::POLLIN) => {}
                Err(error) => {
                    log::debug!("standard input: {error}");
                    return 0;
                }
            }
        }
    }
}

/// An output stream.
pub struct Output(File);

impl Output {
    /// Writes where `fd` writes.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned()?.into()))
    }

    /// Writes everything, waiting for room as long as it takes.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if again(&error, &self.0, PollFlags::POLLOUT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether to try again; a descriptor that somebody made non-blocking is waited for here.
fn again(error: &io::Error, file: &File, events: PollFlags) -> bool {
    match error.kind() {
        io::ErrorKind::Interrupted => true,
        io::ErrorKind::WouldBlock => {
            // Whatever comes of it, the next try sees the error itself.
            let _ = poll(&mut [PollFd::new(file.as_fd(), events)], PollTimeout::NONE);
            true
        }
        _ => false,
    }
}
