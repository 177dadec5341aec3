//! The guest's settings: control groups and limits before the agent starts, names and network while it does.
// UNSAFETY: one ioctl without a wrapper.
#![expect(unsafe_code, reason = "SIOCSIFFLAGS has no wrapper")]

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::sethostname;

use crate::error::InitError;
use crate::mounts::CGROUP;

/// The name until a container gives another.
const HOSTNAME: &str = "supermachine";
/// Soft and hard limit of open files: small by default for programs that walk them all, and can be raised.
const NOFILE: (u64, u64) = (1024, 1 << 20);

/// What the kernel would do now and then for as long as the guest lives, though nothing happens in it: each time is a wake
/// of an idle guest.
const QUIET: [(&str, &str); 2] = [
    // Compaction ahead of need looks at memory twice a second; without it memory is compacted when somebody asks for a
    // large page.
    ("/proc/sys/vm/compaction_proactiveness", "0"),
    // Seconds between the rounds that fold each CPU's memory counters into the global ones. A CPU does that by itself
    // before it idles, so a round finds little; but at every second one is due whenever something else wakes the guest,
    // and what it does makes for the next wake.
    ("/proc/sys/vm/stat_interval", "60"),
];

/// What the agent and its processes inherit. All controllers are enabled while no group has a process yet:
/// afterwards the kernel would have to move it.
pub(crate) fn before_agent() -> Result<(), InitError> {
    setrlimit(Resource::RLIMIT_NOFILE, NOFILE.0, NOFILE.1).map_err(InitError::os("set the limit of open files"))?;
    let controllers = format!("{CGROUP}/cgroup.controllers");
    let names = fs::read_to_string(&controllers).map_err(InitError::file(&controllers))?;
    let enabled: Vec<String> = names.split_whitespace().map(|name| format!("+{name}")).collect();
    let control = format!("{CGROUP}/cgroup.subtree_control");
    fs::write(&control, enabled.join(" ")).map_err(InitError::file(&control))
}

/// What only the containers need.
pub(crate) fn after_agent() -> Result<(), InitError> {
    for (name, value) in QUIET {
        fs::write(name, value).map_err(InitError::file(name))?;
    }
    sethostname(HOSTNAME).map_err(InitError::os("set the host name"))?;
    loopback_up().map_err(InitError::os("bring the loopback interface up"))?;
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let path = format!("/dev/{name}");
        symlink(format!("/proc/self/{target}"), &path).map_err(InitError::file(&path))?;
    }
    Ok(())
}

fn loopback_up() -> Result<(), Errno> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    // SAFETY: an interface request is plain data, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::try_from(*from).unwrap_or(0);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, and `request` is one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(result).map(drop)
}
