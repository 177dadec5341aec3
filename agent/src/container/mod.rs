//! The guest's container: building it, joining it, its limits and its end.

mod bpf;
mod build;
mod cgroup;
mod copy;
mod device_rules;
mod devices;
mod disk;
mod furnish;
mod hooks;
mod host;
mod inside;
mod listening;
mod mounts;
mod namespaces;
mod options;
mod paths;
mod processes;
mod rootfs;
mod serve;
mod sysctl;
mod tree;
mod usage;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::unistd::Uid;
use supermachine_agent_protocol::container::{
    Container, IdMapping, Namespace, ProcessInfo, Resources, TemplatePoint, Usage,
};
use supermachine_agent_protocol::{ErrorReply, Exec, Names};

use crate::log;
use crate::reply::{Step, bad_request, failed, unavailable};
use crate::spawn::{ChildEnd, Place, Spawned, Terminal, Way, channel, launch};
use crate::sys;
use build::Build;
pub(crate) use cgroup::Group;
pub(crate) use furnish::views;
pub(crate) use listening::Listening;
use namespaces::Namespaces;

/// What is ready for a container before there is one.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// A network namespace.
    network: Option<File>,
}

/// Makes ready what every container needs. What cannot be is made, or fails, when a container asks for it.
pub(crate) fn prepare() -> Prepared {
    if let Err(error) = cgroup::prepare() {
        log::error(&format!("cannot make the containers' control group: {error}"));
    }
    if let Err(errno) = device_rules::prepare() {
        log::error(&format!("cannot load the ordinary rules for devices: {errno}"));
    }
    let network = namespaces::make_network();
    let told = network.inspect_err(|error| log::error(&format!("cannot make a network namespace: {error}")));
    Prepared { network: told.ok() }
}

/// A container that is being built, waits or runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// The connection that it lives and dies with.
    pub(crate) connection: u64,
    group: Rc<Group>,
    init: libc::pid_t,
    pidfd: OwnedFd,
    namespaces: Namespaces,
    uid_mappings: Vec<IdMapping>,
    resources: Resources,
    is_built: bool,
    /// Its mounts and its network last as long as this, so that nobody who waits for its end waits for them to be taken
    /// apart: the machine ends with it.
    _lasting: Vec<File>,
}

impl Running {
    /// Makes a container's group and root, and forks its first process, which builds the rest around itself.
    pub(crate) fn create(connection: u64, spec: &Container, prepared: &mut Prepared) -> Step<(Self, Spawned)> {
        let namespaces = Namespaces::of(spec)?;
        build::check(spec)?;
        let group = Rc::new(Group::create(&spec.id)?);
        group.set_limits(&spec.resources)?;
        host::mount_all(&spec.mounts)?;
        let root = rootfs::assemble(&spec.root)?;
        let owner = Uid::from_raw(namespaces::in_guest(spec.process.user.uid, &spec.uid_mappings));
        let network = prepared.network.take_if(|_| namespaces.can_take_network());
        let flags = namespaces.at_fork(network.as_ref());
        let place = Place { namespaces: flags, cgroup: Some(AsFd::as_fd(&*group)), owner };
        let is_unfurnished = spec.template == Some(TemplatePoint::PreExec);
        let mut way = Build { spec, namespaces, root, group: group.path(), network: network.as_ref(), is_unfurnished };
        let spawned = launch(&spec.process, &place, |spawned| let_it_build(spec, namespaces, spawned), &mut way)?;
        let pidfd = spawned.pidfd.try_clone().map_err(failed(|| "watch the process".to_owned()))?;
        drop(way);
        let namespace = |name| File::open(format!("/proc/{}/ns/{name}", spawned.pid)).ok();
        let lasting = [namespace("mnt"), network.or_else(|| namespace("net"))].into_iter().flatten().collect();
        let running = Self {
            connection,
            init: spawned.pid,
            pidfd,
            namespaces,
            uid_mappings: spec.uid_mappings.clone(),
            resources: spec.resources.clone(),
            is_built: false,
            _lasting: lasting,
            group,
        };
        Ok((running, spawned))
    }

    /// Its control group.
    pub(crate) fn group(&self) -> Rc<Group> {
        Rc::clone(&self.group)
    }

    /// Where its processes' first listening on a port is seen, if `spec` asks for that. Without it there is no template,
    /// and the container is as good.
    pub(crate) fn listening(&self, spec: &Container) -> Option<Listening> {
        let asked = spec.template == Some(TemplatePoint::Listener);
        let watched = asked.then(|| Listening::watch(AsFd::as_fd(&*self.group)));
        watched?.inspect_err(|errno| log::error(&format!("cannot see what listens: {errno}"))).ok()
    }

    /// Gives it names of another.
    pub(crate) fn rename(&self, names: &Names) -> Step {
        self.namespaces.rename(self.pidfd.as_fd(), names)
    }

    /// Everything is built: from here on the rules for devices are in force.
    pub(crate) fn built(&mut self) -> Step {
        if self.is_built {
            return Ok(());
        }
        self.group.set_device_rules(&self.resources)?;
        self.is_built = true;
        Ok(())
    }

    /// Forks a process for `exec` that joins it.
    pub(crate) fn exec(&self, exec: &Exec) -> Step<Spawned> {
        if !self.is_built {
            return Err(unavailable("the container is being built"));
        }
        let owner = Uid::from_raw(namespaces::in_guest(exec.user.uid, &self.uid_mappings));
        let place = Place { namespaces: 0, cgroup: Some(AsFd::as_fd(&*self.group)), owner };
        let joined = || failed(|| "join the container's namespaces".to_owned());
        let own: File = namespaces::own_pids().map_err(failed(|| "open the PID namespace".to_owned()))?;
        self.namespaces.enter_pids(self.pidfd.as_fd()).map_err(joined())?;
        let mut way = Join { container: self, exec };
        let spawned = launch(exec, &place, |_| Ok(()), &mut way);
        // A failure would put every later process of the agent into the container.
        if let Err(errno) = namespaces::leave_pids(&own) {
            if let Ok(spawned) = &spawned {
                sys::kill_and_reap(spawned.pid);
            }
            return Err(joined()(errno));
        }
        spawned
    }

    /// Forks a process that serves its files on `socket`; gives its number and what tells of its end.
    pub(crate) fn serve_root(&self, socket: BorrowedFd<'_>) -> Step<(libc::pid_t, OwnedFd)> {
        if !self.is_built {
            return Err(unavailable("the container is being built"));
        }
        serve::fork(self.pidfd.as_fd(), socket)
    }

    /// Sends a signal to every process of it.
    pub(crate) fn kill_all(&self, signal: u32) -> Step {
        let number = libc::c_int::try_from(signal).ok().filter(|number| (1..=64).contains(number));
        let number = number.ok_or_else(|| bad_request(format!("there is no signal {signal}")))?;
        if number == libc::SIGKILL {
            self.group.kill();
            return Ok(());
        }
        // While they stand still none forks past the signal.
        self.group.freeze(true);
        for pid in self.group.pids() {
            // One that is gone needs none.
            let _ = sys::kill(pid, number);
        }
        self.group.freeze(false);
        Ok(())
    }

    /// What runs in it.
    pub(crate) fn processes(&self) -> Vec<ProcessInfo> {
        processes::describe(&self.group.pids())
    }

    /// What it uses.
    pub(crate) fn usage(&self) -> Usage {
        usage::read(&self.group, self.init)
    }

    /// Changes its limits.
    pub(crate) fn update(&mut self, resources: &Resources) -> Step {
        self.group.set_limits(resources)?;
        self.group.set_device_rules(resources)
    }
}

/// What the agent does to a container's first process right after the fork.
fn let_it_build(spec: &Container, namespaces: Namespaces, spawned: &Spawned) -> Step {
    if !namespaces.has(Namespace::User) {
        return Ok(());
    }
    namespaces::write_maps(spawned.pid, spec)?;
    channel::go(spawned.channel.as_fd()).map_err(failed(|| "the process died while it was forked".to_owned()))
}

/// The way of a process that joins a container.
struct Join<'a> {
    container: &'a Running,
    exec: &'a Exec,
}

impl Way for Join<'_> {
    fn prepare(&mut self, _: &ChildEnd) -> Result<Option<Terminal>, ErrorReply> {
        let size = self.exec.tty;
        // In reserve: a container need not have terminals of its own.
        let guests = size.and_then(|size| Terminal::open("/dev/ptmx", size).ok());
        let Running { namespaces, pidfd, .. } = self.container;
        namespaces.join(pidfd.as_fd()).map_err(failed(|| "join the container's namespaces".to_owned()))?;
        if namespaces.has(Namespace::User) {
            namespaces::become_root()?;
        }
        let Some(size) = size else { return Ok(None) };
        Terminal::open("/dev/pts/ptmx", size).or_else(|error| guests.ok_or(error)).map(Some)
    }

    fn start(&mut self) -> Result<(), ErrorReply> {
        Ok(())
    }
}
