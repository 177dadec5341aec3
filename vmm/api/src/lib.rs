//! The vmm's control protocol: requests and replies on a Unix socket of mode 0600, and a blocking client for it.
//!
//! Frames, hello and error replies are those of the agent protocol, with messages of this crate. Each connection
//! carries one hello each way, then requests each with one reply (`control`, or `error`). After the reply to `exec`
//! the connection belongs to that process: stdin, resize and signal frames go in, stdout, stderr and one exit frame
//! come out. Closing such a connection early kills the process.

mod client;
mod messages;

pub use client::{Client, ClientError};
pub use messages::{DiskStats, FRAME_MAX, Reply, Request, State, Stats, Status, VERSION, VcpuStats};
