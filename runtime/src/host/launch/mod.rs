//! Starting the vmm: in the container's control group and namespaces, with its streams, in a session of its own.

mod child;

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use supermachine_agent_protocol::container::Namespace;

use super::cgroup::{Cgroup, CgroupError, Doors};
use super::process::Process;
use crate::plan::HostNamespace;
use child::{Note, Pipes, Plan, Stage};

/// What the vmm's session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// A new one without a terminal.
    New,
    /// A new one whose controlling terminal is standard input.
    NewWithTerminal,
    /// The caller's, so that its terminal can be used.
    Inherit,
}

/// A vmm to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Absolute path of its program.
    pub program: &'a Path,
    /// Arguments after the program's name. The environment is the caller's.
    pub args: &'a [OsString],
    /// Absolute path of its working directory.
    pub cwd: &'a Path,
    /// Its standard streams.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Further descriptors and their numbers there, 3 or more, each once. All others are closed.
    pub keep: &'a [(BorrowedFd<'a>, RawFd)],
    /// Its session.
    pub session: Session,
    /// Its control group; joined before it runs.
    pub cgroup: Option<&'a Cgroup>,
    /// Its namespaces. In a new user namespace it has no ids and no rights, and opens files as who it was: the ids of the
    /// configuration are the guest's affair.
    pub namespaces: &'a [HostNamespace],
    /// A FUSE device, which is also in `keep`. If the vmm has a new mount namespace, its file system is what processes
    /// find as their root that join that namespace. The vmm itself sees the host as ever.
    pub view: Option<BorrowedFd<'a>>,
    /// How soon the host's kernel ends it when memory runs out.
    pub oom_score_adj: Option<i32>,
}

/// A vmm that runs. It is a child of this process.
#[derive(Debug)]
pub struct Launched {
    /// Its process id here.
    pub pid: u32,
    /// Itself.
    pub process: Process,
}

/// Why a vmm does not run. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A namespace to join cannot be had.
    #[error("linux.namespaces: cannot open {kind} namespace {}", path.display())]
    Namespace {
        /// Its kind.
        kind: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace to join does not take the vmm.
    #[error("linux.namespaces: cannot join {kind} namespace {}", path.display())]
    Join {
        /// Its kind.
        kind: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control group does not take it.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Another step.
    #[error("cannot start {}: {what}", program.display())]
    Step {
        /// The program.
        program: PathBuf,
        /// What failed.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A namespace to join, open.
#[derive(Debug)]
struct Join {
    kind: Namespace,
    path: PathBuf,
    file: File,
}

/// The clone flag of a kind, and its name in the configuration.
const fn kind_of(namespace: Namespace) -> (CloneFlags, &'static str) {
    match namespace {
        Namespace::Cgroup => (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        Namespace::Ipc => (CloneFlags::CLONE_NEWIPC, "ipc"),
        Namespace::Mount => (CloneFlags::CLONE_NEWNS, "mount"),
        Namespace::Network => (CloneFlags::CLONE_NEWNET, "network"),
        Namespace::Pid => (CloneFlags::CLONE_NEWPID, "pid"),
        Namespace::Time => (CloneFlags::from_bits_retain(libc::CLONE_NEWTIME), "time"),
        Namespace::User => (CloneFlags::CLONE_NEWUSER, "user"),
        Namespace::Uts => (CloneFlags::CLONE_NEWUTS, "uts"),
    }
}

impl Launch<'_> {
    /// Starts it; returns once its program was entered.
    ///
    /// The caller has one thread: the child is a copy of it until it executes.
    pub fn start(&self) -> Result<Launched, LaunchError> {
        let step = |what| move |source| self.step(what, source);
        let joins = self.open_joins()?;
        let doors = self.cgroup.map(Cgroup::doors).transpose()?.unwrap_or_default();
        let plan = self.plan(&joins, &doors).map_err(step("prepare its arguments"))?;
        let (report, report_end) = io::pipe().map_err(step("open a pipe"))?;
        let (go_end, go) = io::pipe().map_err(step("open a pipe"))?;
        let of_parent = [go.as_raw_fd(), report.as_raw_fd()];
        let pipes = Pipes { go: go_end.as_raw_fd(), report: report_end.as_raw_fd(), of_parent };
        let Child { pid, is_in_unified } = self.clone_child(&plan, &joins, pipes, doors.unified.as_ref())?;
        drop((go_end, report_end));
        let child = Unreaped { pid };
        let process = Process::open(pid).map_err(step("watch it"))?;
        if let Some(cgroup) = self.cgroup.filter(|_| !is_in_unified) {
            cgroup.add_unified(pid)?;
        }
        if let Some(score) = self.oom_score_adj
            && let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        {
            log::debug!("oom_score_adj of the vmm stays as it is: {error}");
        }
        self.let_go(go)?;
        self.hear(report, &joins, &doors)?;
        std::mem::forget(child);
        Ok(Launched { pid, process })
    }

    fn step(&self, what: &'static str, source: io::Error) -> LaunchError {
        LaunchError::Step { program: self.program.to_owned(), what, source }
    }

    /// Lets the child run.
    fn let_go(&self, mut go: io::PipeWriter) -> Result<(), LaunchError> {
        go.write_all(&[1]).map_err(|source| self.step("let it run", source))
    }

    /// Hears how it went, once it is the vmm or has ended.
    fn hear(&self, mut report: io::PipeReader, joins: &[Join], doors: &Doors) -> Result<(), LaunchError> {
        let mut notes = Vec::new();
        report.read_to_end(&mut notes).map_err(|source| self.step("hear from it", source))?;
        for note in notes.chunks_exact(Note::LEN).filter_map(Note::from_bytes) {
            let source = io::Error::from_raw_os_error(note.errno);
            let index = usize::from(note.index);
            match (note.stage, joins.get(index)) {
                (Stage::Cgroup, _) => {
                    let path = doors.tasks.get(index).map(|(path, _)| path.clone()).unwrap_or_default();
                    return Err(Cgroup::cannot_add(path, source).into());
                }
                (Stage::Unshare, _) => {
                    let kind = self.namespaces.get(index).map_or("?", |n| kind_of(n.kind).1);
                    log::warn!("the vmm shares the caller's {kind} namespace, it can have none of its own: {source}");
                }
                (Stage::View, _) => {
                    log::warn!("processes that join the container's mount namespace find the host's files: {source}");
                }
                (Stage::Join, Some(join)) => return Err(join_error(join, source)),
                (stage, _) => return Err(self.step(stage.words(), source)),
            }
        }
        Ok(())
    }

    fn open_joins(&self) -> Result<Vec<Join>, LaunchError> {
        let mut joins = self
            .namespaces
            .iter()
            .filter_map(|namespace| namespace.path.clone().map(|path| (namespace.kind, path)))
            .map(|(kind, path)| match File::open(&path) {
                Ok(file) => Ok(Join { kind, path, file }),
                Err(source) => Err(LaunchError::Namespace { kind: kind_of(kind).1, path, source }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Another mount namespace may hide what the others need, another user namespace takes the rights to join them.
        joins.sort_by_key(|join| (join.kind == Namespace::User, join.kind == Namespace::Mount));
        Ok(joins)
    }

    fn plan(&self, joins: &[Join], doors: &Doors) -> io::Result<Plan> {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
        let program = c_string(self.program.as_os_str())?;
        let args = self.args.iter().map(|arg| c_string(arg));
        let env = std::env::vars_os().map(|(name, value)| {
            c_string(&[name.as_os_str(), OsStr::new("="), value.as_os_str()].into_iter().collect::<OsString>())
        });
        let mut new: Vec<_> = self.namespaces.iter().enumerate().collect();
        new.retain(|(_, n)| n.path.is_none() && !matches!(n.kind, Namespace::Pid | Namespace::Time));
        new.sort_by_key(|(_, namespace)| namespace.kind == Namespace::User);
        let flag = |kind| kind_of(kind).0.bits();
        let standard = self.stdio.iter().map(AsRawFd::as_raw_fd).zip(0..);
        let kept = self.keep.iter().map(|(fd, number)| (fd.as_raw_fd(), *number));
        Ok(Plan {
            argv: std::iter::once(Ok(program.clone())).chain(args).collect::<io::Result<_>>()?,
            program,
            env: env.collect::<io::Result<_>>()?,
            cwd: c_string(self.cwd.as_os_str())?,
            tasks: doors.tasks.iter().map(|(_, file)| file.as_raw_fd()).collect(),
            joins: joins.iter().map(|join| (join.file.as_raw_fd(), flag(join.kind))).collect(),
            view: self.view.map(view_options).transpose()?,
            new_namespaces: new.into_iter().map(|(index, namespace)| (small(index), flag(namespace.kind))).collect(),
            descriptors: standard.chain(kept).collect(),
            session: self.session,
        })
    }

    /// Forks into the pid namespace asked for, and into the control group of version 2.
    fn clone_child(
        &self,
        plan: &Plan,
        joins: &[Join],
        pipes: Pipes,
        group: Option<&File>,
    ) -> Result<Child, LaunchError> {
        let fork = |flags| {
            let born_in = |group: &File| child::fork_into(plan, flags, pipes, Some(group.as_raw_fd())).ok();
            match group.and_then(born_in) {
                Some(pid) => Ok(Child { pid, is_in_unified: true }),
                // An older kernel, or a group that takes nobody: then moving it there tells why.
                None => child::fork_into(plan, flags, pipes, None).map(|pid| Child { pid, is_in_unified: false }),
            }
        };
        let cannot = |source| self.step("fork", source);
        if let Some(join) = joins.iter().find(|join| join.kind == Namespace::Pid) {
            // Only children of this process go there; it comes back for its own later ones.
            let own = File::open("/proc/self/ns/pid").map_err(cannot)?;
            setns(&join.file, CloneFlags::CLONE_NEWPID).map_err(|errno| join_error(join, errno.into()))?;
            let forked = fork(0);
            setns(&own, CloneFlags::CLONE_NEWPID).map_err(|errno| cannot(errno.into()))?;
            return forked.map_err(cannot);
        }
        let is_new = |n: &&HostNamespace| n.kind == Namespace::Pid && n.path.is_none();
        if self.namespaces.iter().any(|namespace| is_new(&namespace)) {
            match fork(libc::CLONE_NEWPID) {
                Ok(child) => return Ok(child),
                Err(error) => {
                    log::warn!("the vmm shares the caller's pid namespace, it can have none of its own: {error}");
                }
            }
        }
        fork(0).map_err(cannot)
    }
}

fn join_error(join: &Join, source: io::Error) -> LaunchError {
    LaunchError::Join { kind: kind_of(join.kind).1, path: join.path.clone(), source }
}

/// Whoever can join may try, and the kernel keeps to the modes that files have.
fn view_options(device: BorrowedFd<'_>) -> io::Result<CString> {
    let device = device.as_raw_fd();
    let options = format!("fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions");
    CString::new(options).map_err(io::Error::other)
}

fn small(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// A forked child.
#[derive(Debug, Clone, Copy)]
struct Child {
    pid: u32,
    is_in_unified: bool,
}

/// A child that is killed and reaped unless it is given on.
struct Unreaped {
    pid: u32,
}

impl Drop for Unreaped {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid.cast_signed());
        // It is our child and not reaped, so the number is its own; it may have ended by itself.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    }
}

#[cfg(test)]
mod tests;
