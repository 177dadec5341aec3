//! Rules for the use of devices as a program that the kernel runs for a control group.
// UNSAFETY: the bpf system call takes a union of pointers and integers.
#![expect(unsafe_code, reason = "bpf has no wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use supermachine_agent_protocol::container::{DeviceKind, DeviceRule};

use crate::reply::{Step, bad_request, failed};
use crate::sys;

/// Rules of one container.
const MOST_RULES: usize = 1024;

// `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;
const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

// Instructions of eBPF, `include/uapi/linux/bpf_common.h`.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// A program in force.
#[derive(Debug)]
pub(super) struct Attached(OwnedFd);

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

/// Puts rules in force for a group, in place of earlier ones.
pub(super) fn attach(group: BorrowedFd<'_>, rules: &[DeviceRule], earlier: Option<&Attached>) -> Step<Attached> {
    if rules.len() > MOST_RULES {
        return Err(bad_request(format!("devices: {} rules, {MOST_RULES} are possible", rules.len())));
    }
    let number = |fd: RawFd| u32::try_from(fd).unwrap_or(u32::MAX);
    let program = load(&translate(rules)).map_err(failed(|| "cannot load the device rules".to_owned()))?;
    let args = Attach {
        target_fd: number(group.as_raw_fd()),
        attach_bpf_fd: number(program.as_raw_fd()),
        attach_type: CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI | if earlier.is_some() { REPLACE } else { 0 },
        replace_bpf_fd: earlier.map_or(0, |earlier| number(earlier.0.as_raw_fd())),
    };
    // SAFETY: the call reads as many bytes as are told of a local that has the layout of this command's arguments.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const args, size_of::<Attach>()) };
    Errno::result(result).map_err(failed(|| "cannot put the device rules in force".to_owned()))?;
    Ok(Attached(program))
}

fn load(program: &[u64]) -> nix::Result<OwnedFd> {
    let args = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    // SAFETY: as above; `insns` points to `insn_cnt` instructions and `license` to a C string, both alive.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const args, size_of::<Load>()) };
    RawFd::try_from(Errno::result(fd)?).map(sys::own).map_err(|_| Errno::EBADF)
}

/// An instruction as the kernel lays it out on a little-endian machine.
const fn instruction(code: u8, to: u8, from: u8, jump: i16, value: i32) -> u64 {
    let [a, b, c, d] = value.to_ne_bytes();
    let [e, f] = jump.to_ne_bytes();
    u64::from_ne_bytes([code, to | from << 4, e, f, a, b, c, d])
}

/// The program: each kind of access asked for is decided by the last rule that speaks of it, and refused by default.
///
/// Registers: 2 the device's type, 3 the access not decided yet, 4 and 5 the numbers, 6 scratch.
fn translate(rules: &[DeviceRule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    rules.iter().rev().for_each(|rule| program.extend(translate_rule(rule)));
    program.extend([instruction(MOVE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

fn translate_rule(rule: &DeviceRule) -> Vec<u64> {
    let DeviceRule { allow, kind, major, minor, read, write, mknod } = *rule;
    let access = [(read, READ), (write, WRITE), (mknod, MKNOD)];
    let access = access.iter().filter(|(asked, _)| *asked).fold(0, |all, (_, bit)| all | bit);
    let kind = match kind {
        None => None,
        Some(DeviceKind::Block) => Some(TYPE_BLOCK),
        Some(DeviceKind::Character) => Some(TYPE_CHARACTER),
        Some(DeviceKind::Fifo) => return Vec::new(),
    };
    let body = if allow {
        vec![
            instruction(AND, 3, 0, 0, !access),
            instruction(JUMP_UNLESS_EQUAL, 3, 0, 2, 0),
            instruction(MOVE, 0, 0, 0, 1),
            instruction(EXIT, 0, 0, 0, 0),
        ]
    } else {
        vec![
            instruction(MOVE_REGISTER, 6, 3, 0, 0),
            instruction(AND, 6, 0, 0, access),
            instruction(JUMP_IF_EQUAL, 6, 0, 2, 0),
            instruction(MOVE, 0, 0, 0, 0),
            instruction(EXIT, 0, 0, 0, 0),
        ]
    };
    let number = |number: u32| number.cast_signed();
    let tests = [(2, kind), (4, major.map(number)), (5, minor.map(number))];
    let tests: Vec<(u8, i32)> = tests.into_iter().filter_map(|(register, value)| Some((register, value?))).collect();
    let mut program = Vec::new();
    for (at, (register, value)) in tests.iter().enumerate() {
        let rest = tests.len().saturating_sub(at).saturating_sub(1).saturating_add(body.len());
        let skip = i16::try_from(rest).unwrap_or(i16::MAX);
        program.push(instruction(JUMP_UNLESS_EQUAL, *register, 0, skip, *value));
    }
    program.extend(body);
    program
}
