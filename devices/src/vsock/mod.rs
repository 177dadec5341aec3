//! virtio-vsock: stream sockets between the guest and byte streams that the owner supplies.

mod connection;
mod device;
mod packet;
mod pump;
mod spec;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::io;

pub use device::{ConnectError, Vsock};
pub use state::VsockState;

/// Name of one connection, never used twice in the life of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// The host's end of a connection. Nothing blocks: what would gives [`io::ErrorKind::WouldBlock`], and the owner
/// calls [`Vsock::on_stream_ready`] when that changed.
///
/// The device drops the stream when the connection is over and everything the guest sent was written; that is how
/// whoever holds the other end sees the end.
pub trait HostStream: Send {
    /// Reads some bytes for the guest; zero is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`, or the stream is broken.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes some of the guest's bytes.
    ///
    /// # Errors
    /// `WouldBlock`, or nobody will read any more.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize>;

    /// The guest will send no more.
    ///
    /// # Errors
    /// The stream is broken already.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// Answers connections that the guest makes.
pub trait Dialer: Send {
    /// A stream for the guest's connection to host port `port`, or `None` to refuse it. The owner will hear of the
    /// connection by `id` and calls [`Vsock::on_stream_ready`] with it.
    ///
    /// Any process in the guest may call; the port says nothing about who it is. The device is in use during the
    /// call: do not call back into it.
    fn dial(&mut self, id: ConnId, port: u32) -> Option<Box<dyn HostStream>>;
}
