//! What a profile decides for each call: names to numbers, rules to decisions.

use std::collections::BTreeMap;
use std::str::FromStr;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::GuestArch;
use super::spec::{self, ARGS};
use crate::plan::PlanError;

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Index of the argument, below [`ARGS`].
    pub(super) argument: u8,
    pub(super) operator: LinuxSeccompOperator,
    /// What the argument is compared with; the mask for masked equality.
    pub(super) value: u64,
    /// What the masked argument must be.
    pub(super) masked: u64,
}

/// A rule of one call: an action when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// What is done with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Always the same.
    Always(u32),
    /// What the first rule says whose conditions hold, or else the default.
    Rules(Vec<Rule>),
}

/// What is done with all calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decisions {
    pub(super) default: u32,
    /// By number.
    pub(super) calls: BTreeMap<u32, Decision>,
    /// Calls above this number are unknown to the profile.
    pub(super) newest: Option<u32>,
}

/// Number of the call `name`, if the architecture has it.
pub(super) fn number(name: &str, arch: GuestArch) -> Option<u32> {
    let id = match arch {
        GuestArch::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
        // Profiles have libseccomp's name for it.
        GuestArch::Aarch64 if name == "newfstatat" => syscalls::aarch64::Sysno::fstatat.id(),
        GuestArch::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok()?.id(),
    };
    u32::try_from(id).ok()
}

/// Reads the profile at `at`.
pub(super) fn decisions(profile: &LinuxSeccomp, at: &str, arch: GuestArch) -> Result<Decisions, PlanError> {
    let default =
        action(profile.default_action(), profile.default_errno_ret(), at, ["defaultAction", "defaultErrnoRet"])?;
    let mut decisions = Decisions { default, calls: BTreeMap::new(), newest: None };
    for (index, syscall) in profile.syscalls().iter().flatten().enumerate() {
        decisions.add(syscall, &format!("{at}.syscalls[{index}]"), arch)?;
    }
    let passes = [LinuxSeccompAction::ScmpActAllow, LinuxSeccompAction::ScmpActLog, LinuxSeccompAction::ScmpActTrace];
    if passes.contains(&profile.default_action()) {
        decisions.newest = None;
    }
    Ok(decisions)
}

impl Decisions {
    fn add(&mut self, syscall: &LinuxSyscall, at: &str, arch: GuestArch) -> Result<(), PlanError> {
        let action = action(syscall.action(), syscall.errno_ret(), at, ["action", "errnoRet"])?;
        let rules = rules(syscall.args().as_deref().unwrap_or_default(), action, at)?;
        if syscall.names().is_empty() {
            return Err(PlanError::missing(format!("{at}.names")));
        }
        for (index, name) in syscall.names().iter().enumerate() {
            if name.is_empty() {
                return Err(PlanError::missing(format!("{at}.names[{index}]")));
            }
            let Some(number) = number(name, arch) else { continue };
            self.newest = self.newest.max(Some(number));
            if action != self.default {
                self.decide(number, &rules, action);
            }
        }
        Ok(())
    }

    fn decide(&mut self, number: u32, rules: &[Rule], action: u32) {
        match self.calls.entry(number).or_insert_with(|| Decision::Rules(Vec::new())) {
            Decision::Always(_) => {}
            decision if rules.is_empty() => *decision = Decision::Always(action),
            Decision::Rules(known) => known.extend_from_slice(rules),
        }
    }
}

/// Rules for the arguments; none if the action does not depend on any.
fn rules(args: &[LinuxSeccompArg], action: u32, at: &str) -> Result<Vec<Rule>, PlanError> {
    let mut conditions: Vec<Condition> = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let argument = u8::try_from(arg.index()).ok().filter(|argument| usize::from(*argument) < ARGS);
        let Some(argument) = argument else {
            let reason = format!("a call has {ARGS} arguments, from 0");
            return Err(PlanError::invalid(format!("{at}.args[{index}].index"), reason));
        };
        let masked = arg.value_two().unwrap_or_default();
        conditions.push(Condition { argument, operator: arg.op(), value: arg.value(), masked });
    }
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let repeated = |index: usize, condition: &Condition| {
        conditions.iter().take(index).any(|other| other.argument == condition.argument)
    };
    if conditions.iter().enumerate().any(|(index, condition)| repeated(index, condition)) {
        return Ok(conditions.into_iter().map(|condition| Rule { conditions: vec![condition], action }).collect());
    }
    Ok(vec![Rule { conditions, action }])
}

/// The value that the filter returns for an action. `fields` are the names of the action's field and of its number's.
fn action(
    action: LinuxSeccompAction,
    number: Option<u32>,
    at: &str,
    [action_field, number_field]: [&str; 2],
) -> Result<u32, PlanError> {
    use LinuxSeccompAction::*;
    let number_at = || format!("{at}.{number_field}");
    let (base, max) = match action {
        ScmpActErrno => (spec::RET_ERRNO, spec::MAX_ERRNO),
        ScmpActTrace => (spec::RET_TRACE, u32::from(u16::MAX)),
        _ if number.is_some() => {
            return Err(PlanError::invalid(number_at(), format!("{action} gives no error number")));
        }
        ScmpActKill | ScmpActKillThread => return Ok(spec::RET_KILL_THREAD),
        ScmpActKillProcess => return Ok(spec::RET_KILL_PROCESS),
        ScmpActTrap => return Ok(spec::RET_TRAP),
        ScmpActLog => return Ok(spec::RET_LOG),
        ScmpActAllow => return Ok(spec::RET_ALLOW),
        ScmpActNotify => {
            let reason = "SCMP_ACT_NOTIFY is not offered: calls are not passed to a listener on the host";
            return Err(PlanError::unsupported(format!("{at}.{action_field}"), reason));
        }
    };
    match number.unwrap_or(spec::EPERM) {
        number if number > max => Err(PlanError::invalid(number_at(), format!("{number} is above {max}"))),
        number => Ok(base | number),
    }
}
