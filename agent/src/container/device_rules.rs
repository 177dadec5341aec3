//! Rules for the use of devices as a program that the kernel runs for a control group.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use supermachine_agent_protocol::container::{DENY_ALL_DEVICES, DeviceKind, DeviceRule, ORDINARY_DEVICES};

use super::bpf::{
    self, AND, EXIT, JUMP_IF_EQUAL, JUMP_UNLESS_EQUAL, LOAD_WORD, MOVE, MOVE_REGISTER, SHIFT_RIGHT, instruction,
};
use crate::reply::{Step, bad_request, failed};

/// Rules of one container.
const MOST_RULES: usize = 1024;

// `include/uapi/linux/bpf.h`.
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// A program in force.
#[derive(Debug)]
pub(super) struct Attached(OwnedFd);

/// The program of the ordinary rules. The kernel takes a million instructions to check it and to translate it.
static ORDINARY: OnceLock<OwnedFd> = OnceLock::new();

fn ordinary() -> impl Iterator<Item = DeviceRule> {
    [DENY_ALL_DEVICES].into_iter().chain(ORDINARY_DEVICES)
}

/// Loads the ordinary rules before a container asks for them.
pub(super) fn prepare() -> nix::Result<()> {
    let program = bpf::load(PROG_TYPE_CGROUP_DEVICE, &translate(&ordinary().collect::<Vec<_>>()))?;
    // There already: as good.
    let _ = ORDINARY.set(program);
    Ok(())
}

/// The program of these rules.
fn program(rules: &[DeviceRule]) -> std::io::Result<OwnedFd> {
    match ORDINARY.get().filter(|_| rules.iter().copied().eq(ordinary())) {
        Some(program) => program.try_clone(),
        None => Ok(bpf::load(PROG_TYPE_CGROUP_DEVICE, &translate(rules))?),
    }
}

/// Puts rules in force for a group, in place of earlier ones.
pub(super) fn attach(group: BorrowedFd<'_>, rules: &[DeviceRule], earlier: Option<&Attached>) -> Step<Attached> {
    if rules.len() > MOST_RULES {
        return Err(bad_request(format!("devices: {} rules, {MOST_RULES} are possible", rules.len())));
    }
    let program = program(rules).map_err(failed(|| "cannot load the device rules".to_owned()))?;
    bpf::attach(group, program.as_fd(), CGROUP_DEVICE, earlier.map(|earlier| earlier.0.as_fd()))
        .map_err(failed(|| "cannot put the device rules in force".to_owned()))?;
    Ok(Attached(program))
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
