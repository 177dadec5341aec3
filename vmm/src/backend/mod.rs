//! Host ends of the devices: files, sockets, entropy, the console's lines.

pub mod console;
pub mod disk;
pub mod host;
pub mod vsock;
