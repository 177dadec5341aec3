//! Bytes that wait to be written without blocking.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;

/// A queue of chunks, written as far as the descriptor takes them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are written already.
    written: usize,
    len: usize,
}

/// Small chunks are put together up to this many bytes, so that a burst of small frames is few writes.
const JOIN: usize = 64 << 10;

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a chunk as it is.
    pub(crate) fn push(&mut self, chunk: Vec<u8>) {
        if !chunk.is_empty() {
            self.len = self.len.saturating_add(chunk.len());
            self.chunks.push_back(chunk);
        }
    }

    /// Lets `append` add bytes at the end of the queue.
    pub(crate) fn append<T>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut chunk = match self.chunks.pop_back() {
            Some(last) if last.len() < JOIN => last,
            Some(last) => {
                self.chunks.push_back(last);
                Vec::new()
            }
            None => Vec::new(),
        };
        let before = chunk.len();
        let value = append(&mut chunk);
        self.len = self.len.saturating_add(chunk.len().saturating_sub(before));
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
        value
    }

    /// Throws everything away.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes until the queue is empty or the descriptor takes no more.
    pub(crate) fn write_to(&mut self, fd: impl AsFd) -> io::Result<()> {
        while let Some(chunk) = self.chunks.front() {
            let rest = chunk.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.chunks.pop_front();
                self.written = 0;
                continue;
            }
            match nix::unistd::write(&fd, rest) {
                Ok(count) => {
                    self.written = self.written.saturating_add(count);
                    self.len = self.len.saturating_sub(count);
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
