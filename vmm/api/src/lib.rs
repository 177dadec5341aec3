//! The vmm's control protocol: requests and replies on a Unix socket of mode 0600, and a blocking client for it.
//!
//! Frames, hello and error replies are those of the agent protocol, with messages of this crate. Each connection
//! carries one hello each way, then requests each with one reply (`control`, or `error`). After the reply to `exec`
//! the connection belongs to that process: stdin, resize and signal frames go in, stdout, stderr and one exit frame
//! come out. Closing such a connection early kills the process.
//!
//! After a `files` request as many open files follow as it says, passed as `SCM_RIGHTS` ([`files`]); later requests name
//! them by number.
//!
//! [`Relay`] does that part: it joins the process to streams of the client, with the windows that the protocol wants.

mod client;
pub mod files;
mod messages;
mod relay;
mod stdio;
pub mod terminal;
pub mod trace;
mod valve;

pub use client::{Client, ClientError};
pub use messages::{
    Adopt, ContainerFiles, ContainerState, Create, DiskStats, FRAME_MAX, Reply, Request, Saved, Share, State, Stats,
    Status, Symlinks, TemplateOrder, VERSION, VcpuStats, Volume,
};
pub use relay::{Relay, Sender, Streams};
pub use stdio::{Input, Output};
pub use valve::Valve;
