//! Frames and messages spoken between the host and the guest agent.
//!
//! Every byte on such a connection belongs to a [`Frame`]: one type byte, a big-endian length and a payload.
//! Process streams are frames of their own; everything else is JSON in a request, control or error frame.
//! Both peers open with a [`Hello`].
//!
//! The codec does no I/O: [`Decoder`] is fed bytes and gives frames, the `encode` functions append to a `Vec`.
//! [`blocking`] drives it over anything that is `Read` and `Write`. The frames know nothing of the messages, so
//! other protocols (the vmm's control socket) use them with messages of their own.
//!
//! `docs/agent-protocol.md` describes the protocol message by message.

pub mod blocking;
pub mod container;
mod credit;
mod decoder;
mod error;
mod frame;
pub mod identity;
mod message;
mod payload;
pub mod spec;

pub use credit::Credit;
pub use decoder::Decoder;
pub use error::FrameError;
pub use frame::{Frame, FrameKind, Header, encode_frame, encode_json};
pub use identity::Identity;
pub use message::{Attached, Control, ErrorCode, ErrorReply, Exec, Hello, Mount, Names, Request, User};
pub use payload::{Close, ExitStatus, Signal, Stream, Window, WindowSize};
