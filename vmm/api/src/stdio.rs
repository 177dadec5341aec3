//! Streams of this process, whatever they are: pipes, files, terminals, blocking or not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An input stream.
pub struct Input(File);

impl Input {
    /// Reads what `fd` reads.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned()?.into()))
    }

    /// Waits for bytes. `None` if `stop` became readable or was closed before.
    pub(crate) fn wait(&self, stop: BorrowedFd<'_>) -> Option<()> {
        loop {
            let mut fds = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            // An error here is one that the read below has as well, but for an interruption.
            if poll(&mut fds, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {
                continue;
            }
            let [stop, input] = &fds;
            if stop.any() == Some(true) {
                return None;
            }
            if input.any() != Some(false) {
                return Some(());
            }
        }
    }

    /// Gives how many bytes came; 0 at the end, which an error is too. `None` if there are none after all.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match self.0.read(buffer) {
                Ok(count) => return Some(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => return Some(0),
            }
        }
    }
}

/// An output stream that waits for room even where its descriptor was made non-blocking.
pub struct Output(File);

impl Output {
    /// Writes where `fd` writes.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(fd.try_clone_to_owned()?.into()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Whatever comes of it, the next try sees the error itself.
                    let _ = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
