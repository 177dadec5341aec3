//! What a container's first process does from its fork to its start: it builds the container around itself.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use supermachine_agent_protocol::ErrorReply;
use supermachine_agent_protocol::container::{Container, ContainerMount, Namespace};

use super::hooks::{self, Hooks};
use super::inside::{Inside, Missing};
use super::mounts::{self, Surroundings};
use super::namespaces::{self, Namespaces};
use super::options::propagation;
use super::tree::{Change, Tree};
use super::{devices, furnish, paths, rootfs, sysctl};
use crate::reply::{Step, bad_request, failed};
use crate::spawn::{ChildEnd, Program, Terminal, Way};

/// The first process's way.
#[derive(Debug)]
pub(super) struct Build<'a> {
    pub(super) spec: &'a Container,
    pub(super) namespaces: Namespaces,
    /// Its root, attached nowhere yet.
    pub(super) root: Tree,
    /// Its control group's directory.
    pub(super) group: &'a Path,
    /// Its network namespace, if that was made before.
    pub(super) network: Option<&'a File>,
    /// Whether its furnishings are still to come: its root stays writable until then.
    pub(super) is_unfurnished: bool,
}

/// Checks what can be checked before there is a child.
pub(super) fn check(spec: &Container) -> Step {
    rootfs::check(&spec.root)?;
    mounts::check(&spec.mounts)?;
    devices::check(&spec.devices)?;
    paths::check(&spec.masked_paths)?;
    paths::check(&spec.readonly_paths)?;
    sysctl::check(&spec.sysctl)?;
    hooks::check(&spec.create_hooks, &spec.hook_state)?;
    hooks::check(&spec.start_hooks, &spec.hook_state)?;
    match &spec.root.propagation {
        Some(name) if propagation(name).is_none() => Err(bad_request(format!("root: unknown propagation {name:?}"))),
        _ => Ok(()),
    }
}

impl Way for Build<'_> {
    fn prepare(&mut self, channel: &ChildEnd) -> Result<Option<Terminal>, ErrorReply> {
        let spec = self.spec;
        let has_user = self.namespaces.has(Namespace::User);
        if has_user {
            // The agent writes the maps.
            channel.wait()?;
        }
        self.namespaces.shift_clocks(spec)?;
        if has_user {
            namespaces::become_root()?;
        }
        self.namespaces.finish(self.network)?;
        rootfs::attach(&self.root)?;
        let root = Inside(self.root.as_fd());
        let later = mounts::mount_all(root, &spec.mounts, self.surroundings())?;
        devices::make_all(root, spec, has_user)?;
        let terminal = self.open_terminal(root)?;
        if let Some(terminal) = &terminal {
            devices::put_console(root, terminal.slave())?;
        }
        if !spec.create_hooks.is_empty() {
            let state = hooks::state(&spec.hook_state, "creating")?;
            let hooks = Hooks { name: "createContainer", hooks: &spec.create_hooks, state: &state };
            hooks.run(Some(self.root.as_fd()))?;
        }
        // A working directory that cannot be made is told as one that cannot be entered.
        let _ = root.find(&spec.process.cwd, Missing::MakeDirectory);
        // Before the guest's `/proc` is out of reach: the container need not have one, or may have it read-only.
        Namespaces::set_names(spec.hostname.as_deref(), spec.domainname.as_deref())?;
        sysctl::set_all(&spec.sysctl)?;
        paths::make_all_read_only(root, &spec.readonly_paths)?;
        paths::mask_all(root, &spec.masked_paths)?;
        later.make_read_only()?;
        if !self.is_unfurnished {
            self.seal_root()?;
        }
        rootfs::enter(self.root.as_fd())?;
        self.propagate(&later)?;
        let program = Program::new(&spec.process)?;
        if self.is_unfurnished {
            // It, or its directory, may be shared by the host; then it is found once that is mounted.
            program.warm();
        } else {
            program.look_up()?;
        }
        Ok(terminal)
    }

    fn furnish(&mut self, mounts: &[ContainerMount], views: &[OwnedFd]) -> Step {
        let root = Inside(self.root.as_fd());
        furnish::mount_all(root, mounts, views)?;
        // It may lie in one of them.
        let _ = root.find(&self.spec.process.cwd, Missing::MakeDirectory);
        self.is_unfurnished = false;
        self.seal_root()
    }

    fn start(&mut self) -> Result<(), ErrorReply> {
        if self.is_unfurnished {
            return Err(bad_request("start: the container was not furnished"));
        }
        if self.spec.start_hooks.is_empty() {
            return Ok(());
        }
        let state = hooks::state(&self.spec.hook_state, "created")?;
        Hooks { name: "startContainer", hooks: &self.spec.start_hooks, state: &state }.run(None)
    }
}

impl Build<'_> {
    /// Nothing more is made in the root.
    fn seal_root(&self) -> Step {
        if self.spec.root.read_only { paths::make_root_read_only(&self.root) } else { Ok(()) }
    }

    fn surroundings(&self) -> Surroundings<'_> {
        let own = |kind| self.namespaces.has(kind);
        Surroundings {
            group: self.group,
            own_cgroups: own(Namespace::Cgroup),
            needs_bound_sysfs: own(Namespace::User) && !own(Namespace::Network),
        }
    }

    /// The terminal is one of the container's own, so that it has a name there; of the guest's if it has none.
    fn open_terminal(&self, root: Inside<'_>) -> Step<Option<Terminal>> {
        let Some(size) = self.spec.process.tty else { return Ok(None) };
        match root.find("/dev/pts/ptmx", Missing::Refuse) {
            Ok(ptmx) => Terminal::open_at(ptmx.as_fd(), size),
            Err(_) => Terminal::open("/dev/ptmx", size),
        }
        .map(Some)
    }

    fn propagate(&self, later: &mounts::Later) -> Step {
        if let Some((propagation, recursive)) = self.spec.root.propagation.as_deref().and_then(propagation) {
            let change = Change { propagation, ..Change::default() };
            self.root.change(change, recursive).map_err(failed(|| "set the root's propagation".to_owned()))?;
            later.propagate()?;
        }
        Ok(())
    }
}
