//! Host ends of the devices: files, sockets, entropy, the console's lines.

pub mod console;
pub mod disk;
mod hole;
pub mod host;
pub mod layers;
pub mod share;
pub mod vsock;
