//! Namespaces: what a fork makes, what its child finishes, and how another process joins them.
// UNSAFETY: one ioctl without a wrapper.
#![expect(unsafe_code, reason = "SIOCSIFFLAGS has no wrapper")]

use std::fmt::Write;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid};
use supermachine_agent_protocol::Names;
use supermachine_agent_protocol::container::{Clock, Container, IdMapping, Namespace};

use crate::reply::{Step, bad_request, failed};

/// `CLONE_NEWTIME` of `include/uapi/linux/sched.h`.
const NEWTIME: libc::c_int = 0x80;
/// Extents of a map that the kernel takes.
const MOST_MAPPINGS: usize = 340;

/// The namespaces of a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namespaces(CloneFlags);

impl Namespaces {
    /// Those a container asks for, and its mounts.
    pub(super) fn of(spec: &Container) -> Step<Self> {
        let flags = spec.namespaces.iter().map(|kind| flag(*kind)).fold(CloneFlags::CLONE_NEWNS, |all, one| all | one);
        let namespaces = Self(flags);
        let has_user = namespaces.has(Namespace::User);
        if has_user == (spec.uid_mappings.is_empty() || spec.gid_mappings.is_empty()) {
            return Err(bad_request("a user namespace and mappings of uids and gids go together"));
        }
        if !spec.time_offsets.is_empty() && !namespaces.has(Namespace::Time) {
            return Err(bad_request("time offsets need a time namespace"));
        }
        let has_names = spec.hostname.is_some() || spec.domainname.is_some();
        if has_names && !namespaces.has(Namespace::Uts) {
            return Err(bad_request("a host name needs a UTS namespace"));
        }
        if spec.uid_mappings.len().max(spec.gid_mappings.len()) > MOST_MAPPINGS {
            return Err(bad_request(format!("more than {MOST_MAPPINGS} id mappings")));
        }
        Ok(namespaces)
    }

    /// Whether the container has one of its own.
    pub(super) fn has(self, kind: Namespace) -> bool {
        self.0.contains(flag(kind))
    }

    /// What the fork makes. The others are made by the child: one for control groups would show the agent's, and
    /// a time namespace has to be set first.
    pub(super) fn at_fork(self, network: Option<&File>) -> u64 {
        let later = flag(Namespace::Cgroup) | flag(Namespace::Time);
        let there = network.map_or(CloneFlags::empty(), |_| flag(Namespace::Network));
        u64::from(self.0.difference(later | there).bits().cast_unsigned())
    }

    /// Whether a network namespace that was made before can be its own. One belongs to the user namespace it was made in.
    pub(super) fn can_take_network(self) -> bool {
        self.has(Namespace::Network) && !self.has(Namespace::User)
    }

    /// Makes the time namespace, in the child and while it is still the guest's root, whose files in `/proc` it writes.
    pub(super) fn shift_clocks(self, spec: &Container) -> Step {
        if self.has(Namespace::Time) { shift_clocks(spec) } else { Ok(()) }
    }

    /// Makes or enters the others that the fork did not make, in the child.
    pub(super) fn finish(self, network: Option<&File>) -> Step {
        if self.has(Namespace::Cgroup) {
            unshare(CloneFlags::CLONE_NEWCGROUP).map_err(failed(|| "unshare the cgroup namespace".to_owned()))?;
        }
        if let Some(network) = network {
            setns(network, CloneFlags::CLONE_NEWNET).map_err(failed(|| "enter the network namespace".to_owned()))?;
        } else if self.has(Namespace::Network) {
            loopback_up().map_err(failed(|| "bring the loopback interface up".to_owned()))?;
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, private, none).map_err(failed(|| "make mounts private".to_owned()))
    }

    /// Sets the names of a UTS namespace.
    pub(super) fn set_names(hostname: Option<&str>, domainname: Option<&str>) -> Step {
        if let Some(name) = hostname {
            sethostname(name).map_err(failed(|| format!("sethostname {name:?}")))?;
        }
        if let Some(name) = domainname {
            fs::write("/proc/sys/kernel/domainname", name).map_err(failed(|| format!("setdomainname {name:?}")))?;
        }
        Ok(())
    }

    /// Sets the names of the UTS namespace of `init`, which is one of its own.
    pub(super) fn rename(self, init: BorrowedFd<'_>, names: &Names) -> Step {
        let Names { hostname, domainname } = names;
        if hostname.is_none() && domainname.is_none() {
            return Ok(());
        }
        if !self.has(Namespace::Uts) {
            return Err(bad_request("a host name needs a UTS namespace"));
        }
        let joined = |errno| failed(|| "join the container's UTS namespace".to_owned())(errno);
        let own = File::open("/proc/self/ns/uts").map_err(failed(|| "open the UTS namespace".to_owned()))?;
        setns(init, CloneFlags::CLONE_NEWUTS).map_err(joined)?;
        let named = Self::set_names(hostname.as_deref(), domainname.as_deref());
        setns(own.as_fd(), CloneFlags::CLONE_NEWUTS).map_err(joined)?;
        named
    }

    /// Lets the children that the caller forks until [`leave_pids`] be in the PID namespace of `init`.
    pub(super) fn enter_pids(self, init: BorrowedFd<'_>) -> nix::Result<()> {
        if self.has(Namespace::Pid) { setns(init, CloneFlags::CLONE_NEWPID) } else { Ok(()) }
    }

    /// Joins all but the PID namespace of `init`, whose own is entered by a fork.
    pub(super) fn join(self, init: BorrowedFd<'_>) -> nix::Result<()> {
        setns(init, self.0.difference(CloneFlags::CLONE_NEWPID))
    }
}

/// Makes a network namespace as a container has it, before there is one: that is a tenth of the work for a container.
pub(super) fn make_network() -> std::io::Result<File> {
    const OWN: &str = "/proc/self/ns/net";
    let before = File::open(OWN)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let made = loopback_up().map_err(Into::into).and_then(|()| File::open(OWN));
    setns(before, CloneFlags::CLONE_NEWNET)?;
    made
}

/// Undoes [`Namespaces::enter_pids`].
pub(super) fn leave_pids(own: &File) -> nix::Result<()> {
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)
}

/// A handle of this process's own PID namespace.
pub(super) fn own_pids() -> std::io::Result<File> {
    File::open("/proc/self/ns/pid")
}

fn flag(kind: Namespace) -> CloneFlags {
    match kind {
        Namespace::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
        Namespace::Mount => CloneFlags::CLONE_NEWNS,
        Namespace::Network => CloneFlags::CLONE_NEWNET,
        Namespace::Pid => CloneFlags::CLONE_NEWPID,
        Namespace::Time => CloneFlags::from_bits_retain(NEWTIME),
        Namespace::User => CloneFlags::CLONE_NEWUSER,
        Namespace::Uts => CloneFlags::CLONE_NEWUTS,
    }
}

/// Writes the maps of a child's user namespace.
pub(super) fn write_maps(pid: libc::pid_t, spec: &Container) -> Step {
    for (file, mappings) in [("uid_map", &spec.uid_mappings), ("gid_map", &spec.gid_mappings)] {
        let mut text = String::new();
        for IdMapping { container, guest, size } in mappings {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{container} {guest} {size}");
        }
        fs::write(format!("/proc/{pid}/{file}"), &text).map_err(failed(|| format!("write {file} {text:?}")))?;
    }
    Ok(())
}

/// The guest's id for one of the container's; itself where none is mapped.
pub(super) fn in_guest(id: u32, mappings: &[IdMapping]) -> u32 {
    let mapped = mappings.iter().find_map(|mapping| {
        let offset = id.checked_sub(mapping.container).filter(|offset| *offset < mapping.size)?;
        mapping.guest.checked_add(offset)
    });
    mapped.unwrap_or(id)
}

/// Becomes root of the user namespace: what is made from here on is its.
pub(super) fn become_root() -> Step {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    let become_it = || {
        setresgid(gid, gid, gid)?;
        setgroups(&[])?;
        setresuid(uid, uid, uid)
    };
    become_it().map_err(failed(|| "become root of the user namespace".to_owned()))
}

fn shift_clocks(spec: &Container) -> Step {
    unshare(flag(Namespace::Time)).map_err(failed(|| "unshare the time namespace".to_owned()))?;
    let mut text = String::new();
    for (clock, offset) in &spec.time_offsets {
        let name = match clock {
            Clock::Monotonic => "monotonic",
            Clock::Boottime => "boottime",
        };
        let _ = writeln!(text, "{name} {} {}", offset.secs, offset.nanosecs);
    }
    if !text.is_empty() {
        fs::write("/proc/self/timens_offsets", &text).map_err(failed(|| format!("write timens_offsets {text:?}")))?;
    }
    let enter = || -> std::io::Result<()> {
        let namespace: OwnedFd = File::open("/proc/self/ns/time_for_children")?.into();
        setns(namespace, flag(Namespace::Time)).map_err(Into::into)
    };
    enter().map_err(failed(|| "enter the time namespace".to_owned()))
}

fn loopback_up() -> Result<(), Errno> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|error| crate::reply::errno_of(&error))?;
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
