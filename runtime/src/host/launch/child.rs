//! What the forked child does until it is the vmm: system calls only, no memory, no locks.
// UNSAFETY: clone, and raw system calls on memory that was prepared before it.
#![expect(unsafe_code, reason = "fork and exec")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;

use super::Session;

/// Descriptors are moved above all numbers that they may have to take.
const OUT_OF_THE_WAY: RawFd = 64;
/// Number of what keeps the vmm's view of the host; it is never used, only open.
const TREE: RawFd = 15;
/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const INTO_CGROUP: u64 = 1 << 33;
/// Of `linux/mount.h` and `linux/fcntl.h`.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// Everything that the child needs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: CString,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: CString,
    /// `tasks` of the control groups of version 1 to be in.
    pub(super) tasks: Vec<RawFd>,
    /// Namespaces to join, in order: descriptor and clone flag.
    pub(super) joins: Vec<(RawFd, i32)>,
    /// New namespaces: index in the configuration and clone flag.
    pub(super) new_namespaces: Vec<(u8, i32)>,
    /// Options of the file system that becomes the root of its new mount namespace, if one does.
    pub(super) view: Option<CString>,
    /// Descriptors to keep: number here and number there.
    pub(super) descriptors: Vec<(RawFd, RawFd)>,
    pub(super) session: Session,
}

/// The step at which the child failed, or could not do all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Joining a namespace; the index is the plan's.
    Join = 1,
    /// Making a namespace; the index is the configuration's. Not a failure.
    Unshare = 2,
    /// Placing descriptors.
    Descriptors = 3,
    /// The new session.
    Session = 4,
    /// The controlling terminal.
    Terminal = 5,
    /// The working directory.
    Cwd = 6,
    /// The program.
    Program = 7,
    /// The root of its mount namespace. Not a failure.
    View = 8,
    /// Entering a control group; the index is the plan's.
    Cgroup = 9,
}

impl Stage {
    /// For an error: what cannot be done.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Join => "join a namespace",
            Self::Unshare => "make a namespace",
            Self::Descriptors => "place its descriptors",
            Self::Session => "make a session",
            Self::Terminal => "take the terminal",
            Self::Cwd => "enter its working directory",
            Self::Program => "execute it",
            Self::View => "mount a root for others",
            Self::Cgroup => "enter a control group",
        }
    }
}

const STAGES: [Stage; 9] = [
    Stage::Join,
    Stage::Unshare,
    Stage::Descriptors,
    Stage::Session,
    Stage::Terminal,
    Stage::Cwd,
    Stage::Program,
    Stage::View,
    Stage::Cgroup,
];

/// What the child tells its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) stage: Stage,
    pub(super) index: u8,
    pub(super) errno: i32,
}

impl Note {
    /// Bytes of one note.
    pub(super) const LEN: usize = 6;

    fn now(stage: Stage, index: u8) -> Self {
        Self { stage, index, errno: nix::errno::Errno::last_raw() }
    }

    fn bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, self.index, a, b, c, d]
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [stage, index, errno @ ..] = <[u8; Self::LEN]>::try_from(bytes).ok()?;
        let stage = STAGES.iter().copied().find(|known| *known as u8 == stage)?;
        Some(Self { stage, index, errno: i32::from_ne_bytes(errno) })
    }

    fn send(self, report: RawFd) {
        let bytes = self.bytes();
        // SAFETY: the buffer is a local of the length given.
        unsafe { libc::write(report, bytes.as_ptr().cast(), bytes.len()) };
    }
}

/// Both ends of the pipes between parent and child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pipes {
    /// The child waits for a byte here.
    pub(super) go: RawFd,
    /// Notes to the parent.
    pub(super) report: RawFd,
    /// The parent's ends, which the child has as well.
    pub(super) of_parent: [RawFd; 2],
}

/// Forks with further clone flags, into a control group of version 2 if one is given; the child waits for a byte, carries out
/// `plan`, and reports what did not work.
pub(super) fn fork_into(plan: &Plan, flags: i32, pipes: Pipes, cgroup: Option<RawFd>) -> io::Result<u32> {
    let (argv, env) = (pointers(&plan.argv), pointers(&plan.env));
    // Reserved here: the child must not allocate.
    let mut moved = Vec::with_capacity(plan.descriptors.len());
    // SAFETY: plain data, for which all zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup).unwrap_or(u64::MAX);
    }
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without a stack of its own the child goes on here with a copy of all memory. It only makes system calls
    // and leaves by execve or _exit, so no lock that another thread may hold matters to it. The arguments are a local
    // with the layout that the call reads, of the size that it is told.
    match unsafe {
        match cgroup {
            Some(_) => libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()),
            None => libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0),
        }
    } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            become_vmm(plan, &argv, &env, &mut moved, pipes).send(pipes.report);
            // SAFETY: does not return.
            unsafe { libc::_exit(127) }
        }
        pid => u32::try_from(pid).map_err(io::Error::other),
    }
}

/// A null-terminated array of pointers into `strings`, which must outlive it.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let last = std::iter::once(std::ptr::null());
    strings.iter().map(CString::as_c_str).map(CStr::as_ptr).chain(last).collect()
}

/// Returns only if a step fails.
fn become_vmm(
    plan: &Plan,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
    moved: &mut Vec<RawFd>,
    Pipes { go, report, of_parent }: Pipes,
) -> Note {
    let mut steps = || -> Result<(), Note> {
        // With the parent's ends open here, the parent's death would not be seen.
        for fd in of_parent {
            // SAFETY: takes a number; nothing of this copy of the parent uses it any more.
            unsafe { libc::close(fd) };
        }
        wait_for(go);
        for (index, tasks) in (0..).zip(&plan.tasks) {
            // Before namespaces: in a cgroup namespace of its own the group is the top.
            // SAFETY: writes one byte of a constant.
            let count = unsafe { libc::write(*tasks, c"0".as_ptr().cast(), 1) };
            check(if count == 1 { 0 } else { -1 }, Stage::Cgroup, index)?;
        }
        if plan.session != Session::Inherit {
            // SAFETY: takes no memory.
            check(unsafe { libc::setsid() }, Stage::Session, 0)?;
        }
        for (index, (fd, flag)) in (0..).zip(&plan.joins) {
            if *flag != libc::CLONE_NEWPID {
                // SAFETY: takes two numbers.
                check(unsafe { libc::setns(*fd, *flag) }, Stage::Join, index)?;
            }
        }
        let mut tree = None;
        for (index, flag) in &plan.new_namespaces {
            let made = make_namespace(*index, *flag, report);
            if let (true, libc::CLONE_NEWNS, Some(options)) = (made, *flag, &plan.view) {
                tree = make_view(options, report);
            }
        }
        // SAFETY: the path is a string with its end.
        check(unsafe { libc::chdir(plan.cwd.as_ptr()) }, Stage::Cwd, 0)?;
        place_descriptors(&plan.descriptors, moved)?;
        if let Some(tree) = tree {
            // SAFETY: takes numbers.
            check(unsafe { libc::dup2(tree, TREE) }, Stage::Descriptors, 0)?;
        }
        if plan.session == Session::NewWithTerminal {
            // SAFETY: takes two numbers.
            check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }, Stage::Terminal, 0)?;
        }
        default_signals();
        Ok(())
    };
    if let Err(note) = steps() {
        return note;
    }
    // SAFETY: all three are strings with their ends, in arrays with theirs, and live in the parent's copy.
    unsafe { libc::execve(plan.program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Note::now(Stage::Program, 0)
}

fn check(result: i32, stage: Stage, index: u8) -> Result<(), Note> {
    if result < 0 { Err(Note::now(stage, index)) } else { Ok(()) }
}

/// Waits for the parent's byte; without one the parent gave up.
fn wait_for(go: RawFd) {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads one byte into a local.
        let count = unsafe { libc::read(go, (&raw mut byte).cast(), 1) };
        if count == 1 {
            return;
        }
        if count == 0 || nix::errno::Errno::last() != nix::errno::Errno::EINTR {
            // SAFETY: does not return.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Makes one namespace; gives whether it is whole. Where the host denies it, the parent is told and things go on.
fn make_namespace(index: u8, flag: i32, report: RawFd) -> bool {
    // SAFETY: takes a number.
    if unsafe { libc::unshare(flag) } < 0 {
        Note::now(Stage::Unshare, index).send(report);
        return false;
    }
    if flag == libc::CLONE_NEWNS {
        // Mounts of the host still come here, so that its unmounts do too; nothing goes back.
        // SAFETY: strings with their ends, and nulls where the kernel takes them.
        let result = unsafe {
            let none = std::ptr::null();
            libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, none.cast())
        };
        if result < 0 {
            Note::now(Stage::Unshare, index).send(report);
            return false;
        }
    }
    true
}

/// Mounts a FUSE file system as the root of the mount namespace, which is what processes that join it find, and goes on in
/// a copy of the host's mounts that hangs nowhere: there, not even `..` leads into the file system. Gives the descriptor
/// that the copy lasts with.
fn make_view(options: &CStr, report: RawFd) -> Option<RawFd> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let root = c"/".as_ptr();
    // SAFETY: all pointers are strings with their ends, or null where the kernel takes that; the rest are numbers.
    unsafe {
        let old = libc::open(root, libc::O_PATH | libc::O_CLOEXEC);
        let tree = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, root, OPEN_TREE_CLONE | AT_RECURSIVE);
        let tree = RawFd::try_from(tree).unwrap_or(-1);
        // Out of the way of the others.
        let copy = libc::fcntl(tree, libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
        libc::close(tree);
        if old < 0 || libc::fchdir(copy) < 0 || libc::chroot(c".".as_ptr()) < 0 {
            Note::now(Stage::View, 0).send(report);
            return None;
        }
        let (source, kind) = (c"supermachine".as_ptr(), c"fuse.supermachine".as_ptr());
        let here = c".".as_ptr();
        if libc::fchdir(old) < 0 || libc::mount(source, here, kind, flags, options.as_ptr().cast()) < 0 {
            Note::now(Stage::View, 0).send(report);
        }
        Some(copy)
    }
}

/// Gives each descriptor its number and marks all others to be closed by `execve`.
fn place_descriptors(descriptors: &[(RawFd, RawFd)], moved: &mut Vec<RawFd>) -> Result<(), Note> {
    for (from, _) in descriptors {
        // SAFETY: takes numbers. The vector has room: it was reserved for as many.
        let copy = unsafe { libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) };
        check(copy, Stage::Descriptors, 0)?;
        moved.push(copy);
    }
    // SAFETY: takes numbers; everything from here on is closed by execve.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for (copy, (_, to)) in moved.iter().zip(descriptors) {
        // SAFETY: takes numbers.
        check(unsafe { libc::dup2(*copy, *to) }, Stage::Descriptors, 0)?;
    }
    Ok(())
}

/// What the caller ignored or blocked is not the vmm's affair.
fn default_signals() {
    for number in 1..=64 {
        // SAFETY: only the default is set; numbers that cannot be set are refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: the set is a local that sigemptyset fills.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
