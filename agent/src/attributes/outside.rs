//! What the agent does to a process before it may enter its program: the process itself may lack the right.
// UNSAFETY: prlimit, sched_setattr and ioprio_set of another process have no wrappers.
#![expect(unsafe_code, reason = "raw system calls")]

use nix::errno::Errno;
use supermachine_agent_protocol::container::{Attributes, Rlimit, Scheduler};

use crate::limits;
use crate::reply::{Step, bad_request, failed, os_error};

/// Resources that Linux knows.
const RESOURCES: u32 = 16;
/// `IOPRIO_WHO_PROCESS`.
const ONE_PROCESS: libc::c_int = 1;

/// Limits and priorities.
#[derive(Debug)]
pub(crate) struct Outside {
    rlimits: Vec<Rlimit>,
    oom_score_adj: i32,
    scheduler: Option<Scheduler>,
    io_priority: Option<u32>,
}

/// `struct sched_attr` of `include/uapi/linux/sched/types.h`, its first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

impl Outside {
    /// Checks them.
    pub(crate) fn new(attributes: &Attributes) -> Step<Self> {
        let Attributes { rlimits, oom_score_adj, scheduler, io_priority, .. } = attributes;
        if let Some(odd) = rlimits.iter().find(|limit| limit.resource >= RESOURCES) {
            return Err(bad_request(format!("rlimits: there is no resource {}", odd.resource)));
        }
        let mut all = Vec::new();
        // The agent's own limit of open files is not meant for anybody else.
        if let Some((soft, hard)) = limits::nofile_for_processes() {
            all.push(Rlimit { resource: libc::RLIMIT_NOFILE, soft, hard });
        }
        all.extend(rlimits);
        Ok(Self {
            rlimits: all,
            oom_score_adj: oom_score_adj.unwrap_or(0),
            scheduler: *scheduler,
            io_priority: *io_priority,
        })
    }

    /// Gives them to a process.
    pub(crate) fn apply(&self, pid: libc::pid_t) -> Step {
        self.rlimits.iter().try_for_each(|limit| set_limit(pid, limit))?;
        let path = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(path, self.oom_score_adj.to_string())
            .map_err(failed(|| format!("cannot set oom_score_adj {}", self.oom_score_adj)))?;
        if let Some(scheduler) = &self.scheduler {
            schedule(pid, scheduler)?;
        }
        let Some(priority) = self.io_priority else { return Ok(()) };
        let priority = libc::c_int::try_from(priority).unwrap_or(-1);
        // SAFETY: the call takes integers.
        let result = unsafe { libc::syscall(libc::SYS_ioprio_set, ONE_PROCESS, pid, priority) };
        Errno::result(result).map(drop).map_err(|errno| os_error("cannot set the I/O priority", errno))
    }
}

fn set_limit(pid: libc::pid_t, limit: &Rlimit) -> Step {
    let new = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the call reads one rlimit64, which is a local, and may be given no place for the old one.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, limit.resource, &raw const new, std::ptr::null_mut::<libc::rlimit64>())
    };
    let what = || format!("cannot set rlimit {} to {}:{}", limit.resource, limit.soft, limit.hard);
    Errno::result(result).map(drop).map_err(|errno| os_error(&what(), errno))
}

fn schedule(pid: libc::pid_t, scheduler: &Scheduler) -> Step {
    let Scheduler { policy, flags, nice, priority, runtime_ns, deadline_ns, period_ns } = *scheduler;
    let size = u32::try_from(size_of::<SchedAttr>()).unwrap_or(0);
    let attr = SchedAttr { size, policy, flags, nice, priority, runtime_ns, deadline_ns, period_ns };
    // SAFETY: the call reads one sched_attr of the size it states, which is a local.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) };
    Errno::result(result).map(drop).map_err(|errno| os_error("cannot set the scheduler", errno))
}
