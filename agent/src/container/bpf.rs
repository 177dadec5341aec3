//! Programs that the kernel runs for a control group: instructions, and the calls that load and attach them.
// UNSAFETY: the bpf system call takes a union of pointers and integers.
#![expect(unsafe_code, reason = "bpf has no wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::sys;

// `include/uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_RINGBUF: u32 = 27;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

// Instructions of eBPF, `include/uapi/linux/bpf_common.h`.
pub(super) const LOAD_IMMEDIATE: u8 = 0x18;
pub(super) const LOAD_WORD: u8 = 0x61;
pub(super) const STORE_WORD: u8 = 0x63;
pub(super) const STORE_IMMEDIATE: u8 = 0x7a;
pub(super) const ADD: u8 = 0x07;
pub(super) const MOVE: u8 = 0xb7;
pub(super) const MOVE_REGISTER: u8 = 0xbf;
pub(super) const AND: u8 = 0x57;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
pub(super) const JUMP_IF_EQUAL: u8 = 0x16;
pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x56;
pub(super) const CALL: u8 = 0x85;
pub(super) const EXIT: u8 = 0x95;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// An instruction as the kernel lays it out on a little-endian machine.
pub(super) const fn instruction(code: u8, to: u8, from: u8, jump: i16, value: i32) -> u64 {
    let [a, b, c, d] = value.to_ne_bytes();
    let [e, f] = jump.to_ne_bytes();
    u64::from_ne_bytes([code, to | from << 4, e, f, a, b, c, d])
}

/// Loads a program.
pub(super) fn load(prog_type: u32, program: &[u64]) -> nix::Result<OwnedFd> {
    let args = Load {
        prog_type,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    // SAFETY: the call reads as many bytes as are told of a local that has the layout of this command's arguments;
    // `insns` points to `insn_cnt` instructions and `license` to a C string, both alive.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const args, size_of::<Load>()) })
}

/// A ring buffer of so many bytes, which is readable while a program has left something in it.
pub(super) fn ring(bytes: u32) -> nix::Result<OwnedFd> {
    let args = MapCreate { map_type: MAP_TYPE_RINGBUF, key_size: 0, value_size: 0, max_entries: bytes, map_flags: 0 };
    // SAFETY: the call reads as many bytes as are told of a local that has the layout of this command's arguments.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const args, size_of::<MapCreate>()) })
}

/// Attaches a program to a group for as long as that lives, in place of an earlier one.
pub(super) fn attach(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    attach_type: u32,
    earlier: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let args = Attach {
        target_fd: number(group.as_raw_fd()),
        attach_bpf_fd: number(program.as_raw_fd()),
        attach_type,
        attach_flags: ALLOW_MULTI | if earlier.is_some() { REPLACE } else { 0 },
        replace_bpf_fd: earlier.map_or(0, |earlier| number(earlier.as_raw_fd())),
    };
    // SAFETY: as for `ring`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const args, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

/// Attaches a program to a group for as long as what is given lives.
pub(super) fn link(group: BorrowedFd<'_>, program: BorrowedFd<'_>, attach_type: u32) -> nix::Result<OwnedFd> {
    let (prog_fd, target_fd) = (number(program.as_raw_fd()), number(group.as_raw_fd()));
    let args = LinkCreate { prog_fd, target_fd, attach_type, flags: 0 };
    // SAFETY: as for `ring`.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const args, size_of::<LinkCreate>()) })
}

fn number(fd: RawFd) -> u32 {
    u32::try_from(fd).unwrap_or(u32::MAX)
}

fn descriptor(result: libc::c_long) -> nix::Result<OwnedFd> {
    RawFd::try_from(Errno::result(result)?).map(sys::own).map_err(|_| Errno::EBADF)
}
