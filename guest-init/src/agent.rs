//! Starting the agent, in a control group of its own from its first instruction.
// UNSAFETY: clone3 has no wrapper; it puts a process into a group without the system-wide lock of a move.
#![expect(unsafe_code, reason = "clone3 and exec")]

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::InitError;
use crate::mounts::CGROUP;

/// Where the initramfs has it.
const PROGRAM: &std::ffi::CStr = c"/sbin/supermachine-agent";
/// `include/uapi/linux/sched.h`; the constant of the libc crate has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What the child exits with if it cannot become the agent.
const NOT_STARTED: libc::c_int = 127;

/// Starts the agent with the environment of PID 1, which is the kernel command line's.
pub(crate) fn start() -> Result<Pid, InitError> {
    let path = format!("{CGROUP}/agent");
    fs::create_dir(&path).map_err(InitError::file(&path))?;
    let group = File::open(&path).map_err(InitError::file(&path))?;
    let env: Vec<CString> = std::env::vars_os().filter_map(entry).collect();
    let env: Vec<*const libc::c_char> = env.iter().map(|entry| entry.as_ptr()).chain([std::ptr::null()]).collect();
    clone_into(&group, &env).map_err(InitError::os("start the agent"))
}

fn entry((name, value): (OsString, OsString)) -> Option<CString> {
    let mut bytes = name.into_vec();
    bytes.push(b'=');
    bytes.extend(value.into_vec());
    CString::new(bytes).ok()
}

/// `env` is a null-terminated array of C strings that the caller keeps.
fn clone_into(group: &File, env: &[*const libc::c_char]) -> Result<Pid, Errno> {
    // SAFETY: the arguments are plain data, for which all zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = u64::try_from(group.as_raw_fd()).unwrap_or(u64::MAX);
    // SAFETY: without CLONE_VM this is fork: this process has one thread, so the child's copy is whole.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        become_agent(env);
    }
    Errno::result(pid).map(|pid| Pid::from_raw(pid.try_into().unwrap_or(-1)))
}

fn become_agent(env: &[*const libc::c_char]) -> ! {
    let argv = [PROGRAM.as_ptr(), std::ptr::null()];
    // SAFETY: the set is a local that sigemptyset writes; `argv` and `env` are null-terminated arrays of C strings
    // that are alive; only system calls are made, and _exit does not return.
    unsafe {
        libc::setsid();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::execve(PROGRAM.as_ptr(), argv.as_ptr(), env.as_ptr());
        libc::_exit(NOT_STARTED)
    }
}
