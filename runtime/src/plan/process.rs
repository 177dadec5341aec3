//! The process of a container, or one that joins it.

use std::path::Path;

use oci_spec::runtime::{self as oci, IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, Process};
use supermachine_agent_protocol::container::{Attributes, Rlimit, Scheduler};
use supermachine_agent_protocol::{Exec, User, WindowSize};

use super::{PlanError, capabilities};

/// Size of a terminal when the bundle gives none.
const DEFAULT_SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };

/// Plans the process at `at` in the bundle. What it does not say is as in `container`.
pub(super) fn plan(
    process: &Process,
    at: &str,
    container: Attributes,
    warnings: &mut Vec<String>,
) -> Result<Exec, PlanError> {
    let argv = process.args().clone().unwrap_or_default();
    if argv.is_empty() {
        return Err(PlanError::missing(format!("{at}.args")));
    }
    for (index, argument) in argv.iter().enumerate() {
        no_nul(&format!("{at}.args[{index}]"), argument)?;
    }
    if process.exec_cpu_affinity().as_ref().is_some_and(|affinity| *affinity != Default::default()) {
        let path = format!("{at}.execCPUAffinity");
        return Err(PlanError::unsupported(path, "processes are not tied to the guest's CPUs"));
    }
    warn_labels(process, at, warnings);
    Ok(Exec {
        argv,
        env: env(process.env().as_deref().unwrap_or_default(), at)?,
        cwd: cwd(process.cwd(), at)?,
        user: user(process.user()),
        root: None,
        tty: tty(process, at)?,
        stdin: true,
        container: false,
        attributes: attributes(process, at, container)?,
    })
}

/// Security labels belong to the host's kernel; the guest's has no such module.
fn warn_labels(process: &Process, at: &str, warnings: &mut Vec<String>) {
    let labels = [
        ("apparmorProfile", process.apparmor_profile(), "AppArmor"),
        ("selinuxLabel", process.selinux_label(), "SELinux"),
    ];
    for (field, label, module) in labels {
        if let Some(label) = label.as_deref().filter(|label| !label.is_empty()) {
            warnings.push(format!("{at}.{field}: {label:?} is not applied: the guest's kernel has no {module}"));
        }
    }
}

fn env(env: &[String], at: &str) -> Result<Vec<String>, PlanError> {
    for (index, variable) in env.iter().enumerate() {
        let path = format!("{at}.env[{index}]");
        no_nul(&path, variable)?;
        match variable.split_once('=') {
            None => return Err(PlanError::invalid(path, format!("{variable:?} has no '='"))),
            Some(("", _)) => return Err(PlanError::invalid(path, format!("{variable:?} has no name"))),
            Some(_) => {}
        }
    }
    Ok(env.to_vec())
}

fn cwd(cwd: &Path, at: &str) -> Result<String, PlanError> {
    let path = format!("{at}.cwd");
    let text = cwd.to_string_lossy().into_owned();
    if text.is_empty() {
        return Err(PlanError::missing(path));
    }
    no_nul(&path, &text)?;
    if !cwd.has_root() {
        return Err(PlanError::invalid(path, format!("{text:?} is not an absolute path")));
    }
    Ok(text)
}

fn user(user: &oci::User) -> User {
    User { uid: user.uid(), gid: user.gid(), additional_gids: user.additional_gids().clone().unwrap_or_default() }
}

fn tty(process: &Process, at: &str) -> Result<Option<WindowSize>, PlanError> {
    if !process.terminal().unwrap_or_default() {
        return Ok(None);
    }
    let Some(size) = process.console_size() else { return Ok(Some(DEFAULT_SIZE)) };
    let number = |field: &str, value: u64| {
        u16::try_from(value)
            .map_err(|_| PlanError::invalid(format!("{at}.consoleSize.{field}"), "must be at most 65535"))
    };
    Ok(Some(WindowSize { rows: number("height", size.height())?, cols: number("width", size.width())? }))
}

fn attributes(process: &Process, at: &str, container: Attributes) -> Result<Attributes, PlanError> {
    let umask = match process.user().umask() {
        Some(umask) if umask > 0o777 => {
            return Err(PlanError::invalid(format!("{at}.user.umask"), format!("{umask:#o} has bits beyond 0o777")));
        }
        umask => umask.or(container.umask),
    };
    let io_priority = process.io_priority().map(|priority| io_priority(priority.class(), priority.priority(), at));
    let scheduler = process.scheduler().as_ref().map(|scheduler| self::scheduler(scheduler, at));
    let rlimits = rlimits(process.rlimits().as_deref().unwrap_or_default(), at)?;
    let capabilities = process.capabilities().as_ref().map(capabilities::plan).or(container.capabilities);
    Ok(Attributes {
        rlimits: if rlimits.is_empty() { container.rlimits } else { rlimits },
        // A process whose bundle names no capabilities has none, whoever its user is.
        capabilities: Some(capabilities.unwrap_or_default()),
        no_new_privileges: process.no_new_privileges().unwrap_or(container.no_new_privileges),
        umask,
        oom_score_adj: oom_score_adj(process, at)?.or(container.oom_score_adj),
        seccomp: container.seccomp,
        scheduler: scheduler.transpose()?,
        io_priority: io_priority.transpose()?,
        personality: container.personality,
    })
}

fn oom_score_adj(process: &Process, at: &str) -> Result<Option<i32>, PlanError> {
    match process.oom_score_adj() {
        Some(adj) if !(-1000..=1000).contains(&adj) => {
            Err(PlanError::invalid(format!("{at}.oomScoreAdj"), format!("{adj} is not between -1000 and 1000")))
        }
        adj => Ok(adj),
    }
}

fn rlimits(rlimits: &[PosixRlimit], at: &str) -> Result<Vec<Rlimit>, PlanError> {
    let mut planned: Vec<Rlimit> = Vec::new();
    for (index, limit) in rlimits.iter().enumerate() {
        // The specification's list has the kernel's order.
        let planned_limit = Rlimit { resource: limit.typ() as u32, soft: limit.soft(), hard: limit.hard() };
        let path = format!("{at}.rlimits[{index}]");
        if planned_limit.soft > planned_limit.hard {
            return Err(PlanError::invalid(path, format!("{}: the soft limit is above the hard one", limit.typ())));
        }
        if planned.iter().any(|other| other.resource == planned_limit.resource) {
            return Err(PlanError::invalid(path, format!("{} is given twice", limit.typ())));
        }
        planned.push(planned_limit);
    }
    Ok(planned)
}

fn scheduler(scheduler: &oci::Scheduler, at: &str) -> Result<Scheduler, PlanError> {
    use LinuxSchedulerPolicy::*;
    let at = format!("{at}.scheduler");
    let policy = *scheduler.policy();
    if policy == SchedIso {
        return Err(PlanError::unsupported(format!("{at}.policy"), "Linux has no SCHED_ISO"));
    }
    let nice = scheduler.nice().unwrap_or_default();
    if !(-20..=19).contains(&nice) || (nice != 0 && !matches!(policy, SchedOther | SchedBatch)) {
        return Err(PlanError::invalid(format!("{at}.nice"), format!("{nice} does not go with {policy}")));
    }
    let priority = scheduler.priority().unwrap_or_default();
    let real_time = matches!(policy, SchedFifo | SchedRr);
    let priority =
        u32::try_from(priority).ok().filter(|priority| (1..=99).contains(priority) == real_time && *priority < 100);
    let Some(priority) = priority else {
        return Err(PlanError::invalid(format!("{at}.priority"), format!("does not go with {policy}")));
    };
    let [runtime_ns, deadline_ns, period_ns] =
        [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or_default());
    if (runtime_ns, deadline_ns, period_ns) != (0, 0, 0) && policy != SchedDeadline {
        return Err(PlanError::invalid(
            format!("{at}.runtime"),
            format!("runtime, deadline and period do not go with {policy}"),
        ));
    }
    let flags = scheduler.flags().as_deref().unwrap_or_default();
    if flags.iter().any(|flag| {
        matches!(flag, LinuxSchedulerFlag::SchedFlagUtilClampMin | LinuxSchedulerFlag::SchedFlagUtilClampMax)
    }) {
        return Err(PlanError::unsupported(format!("{at}.flags"), "the guest's kernel does not clamp utilization"));
    }
    // Both lists of the specification have the kernel's order.
    let flags = flags.iter().fold(0, |flags, flag| flags | 1 << (*flag as u32));
    Ok(Scheduler { policy: policy as u32, flags, nice, priority, runtime_ns, deadline_ns, period_ns })
}

fn io_priority(class: IOPriorityClass, priority: i64, at: &str) -> Result<u32, PlanError> {
    // IOPRIO_PRIO_VALUE of linux/ioprio.h.
    const CLASS_SHIFT: u32 = 13;
    let class: u32 = match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority) {
        Ok(priority @ 0..=7) => Ok(class << CLASS_SHIFT | priority),
        _ => Err(PlanError::invalid(format!("{at}.ioPriority.priority"), format!("{priority} is not between 0 and 7"))),
    }
}

/// Refuses text that Linux would cut at a NUL byte.
pub(super) fn no_nul(at: &str, text: &str) -> Result<(), PlanError> {
    if text.contains('\0') { Err(PlanError::invalid(at, "has a NUL byte")) } else { Ok(()) }
}
