//! Seeing that a process of a control group listens on a TCP port: a program at the kernel's own hook for it leaves a
//! word in a ring buffer, which is an event. Nothing of it exists unless it was asked for, or after the first port.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bpf::{
    self, ADD, CALL, EXIT, JUMP_UNLESS_EQUAL, LOAD_IMMEDIATE, LOAD_WORD, MOVE, MOVE_REGISTER, STORE_IMMEDIATE,
    STORE_WORD, instruction,
};

// `include/uapi/linux/bpf.h`.
const PROG_TYPE_SOCK_OPS: u32 = 13;
const CGROUP_SOCK_OPS: u32 = 3;
const TCP_LISTEN: i32 = 11;
const RINGBUF_OUTPUT: i32 = 130;
const PSEUDO_MAP_FD: u8 = 1;
/// Offset of `reply` in `struct bpf_sock_ops`.
const REPLY: i16 = 4;

/// Bytes of the ring buffer: a page, its least.
const RING: u32 = 4096;

/// The program in force, and what becomes readable.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Readable once a port is listened on.
    pub(crate) event: OwnedFd,
    /// The program is in force as long as this lives.
    pub(crate) link: OwnedFd,
}

impl Listening {
    /// Watches a group.
    pub(super) fn watch(group: BorrowedFd<'_>) -> nix::Result<Self> {
        let event = bpf::ring(RING)?;
        let program = bpf::load(PROG_TYPE_SOCK_OPS, &program(event.as_raw_fd()))?;
        let link = bpf::link(group, program.as_fd(), CGROUP_SOCK_OPS)?;
        Ok(Self { event, link })
    }
}

/// The kernel asks the program at many points of a socket's life: the answer is "as you would without me", and at one of
/// them a word goes into the ring. Registers: 6 the context.
fn program(ring: i32) -> [u64; 15] {
    [
        instruction(MOVE_REGISTER, 6, 1, 0, 0),
        instruction(MOVE, 2, 0, 0, -1),
        instruction(STORE_WORD, 6, 2, REPLY, 0),
        instruction(LOAD_WORD, 2, 6, 0, 0),
        instruction(JUMP_UNLESS_EQUAL, 2, 0, 8, TCP_LISTEN),
        instruction(STORE_IMMEDIATE, 10, 0, -8, 1),
        instruction(LOAD_IMMEDIATE, 1, PSEUDO_MAP_FD, 0, ring),
        0,
        instruction(MOVE_REGISTER, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, -8),
        instruction(MOVE, 3, 0, 0, 8),
        instruction(MOVE, 4, 0, 0, 0),
        instruction(CALL, 0, 0, 0, RINGBUF_OUTPUT),
        instruction(MOVE, 0, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}
