//! The container's control group: limits, its processes, its end.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::uio::pread;
use supermachine_agent_protocol::container::Resources;

use super::device_rules::{self, Attached};
use crate::reply::{Step, bad_request, failed, unavailable};

/// Where the guest has its control groups.
const MOUNT: &str = "/sys/fs/cgroup";
/// The group that holds the containers'.
const PARENT: &str = "/sys/fs/cgroup/supermachine";

/// A container's group. Dropping it removes it, once it is empty.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    folder: File,
    devices: RefCell<Option<Attached>>,
    /// Whether it stands still until it is released.
    held: Cell<bool>,
}

/// Makes the group of all containers' groups.
pub(super) fn prepare() -> io::Result<()> {
    enable_controllers(Path::new(MOUNT));
    match fs::create_dir(PARENT) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => enable_controllers(Path::new(PARENT)),
    }
    Ok(())
}

impl Group {
    /// Makes the group `id`, with every controller the guest has.
    pub(super) fn create(id: &str) -> Step<Self> {
        let odd = id.is_empty() || id.len() > 255 || id == "." || id == ".." || id.contains(['/', '\0', '\n']);
        if odd || id.starts_with("cgroup.") {
            return Err(bad_request(format!("container id {id:?} is not a name")));
        }
        prepare().map_err(failed(|| format!("mkdir {PARENT:?}")))?;
        let path = Path::new(PARENT).join(id);
        remove(&path);
        fs::create_dir(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => unavailable(format!("the control group {id:?} is still in use")),
            _ => failed(|| format!("mkdir {path:?}"))(error),
        })?;
        let folder = File::open(&path).map_err(failed(|| format!("open {path:?}")))?;
        Ok(Self { path, folder, devices: RefCell::new(None), held: Cell::new(false) })
    }

    /// Where it is in the guest.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets limits: all of them or, after an error, none.
    pub(super) fn set_limits(&self, resources: &Resources) -> Step {
        let mut old = Vec::new();
        for (name, value) in &resources.files {
            let before = self.limit(name);
            if let Err(error) = before.and_then(|before| {
                old.push((name, before));
                self.write(name, value)
            }) {
                for (name, value) in old.iter().rev() {
                    // They were in force before; that one cannot be again is not for this request to tell.
                    let _ = self.write(name, value);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sets rules for devices; without any, those in force stay.
    pub(super) fn set_device_rules(&self, resources: &Resources) -> Step {
        if resources.devices.is_empty() {
            return Ok(());
        }
        let mut devices = self.devices.borrow_mut();
        let attached = device_rules::attach(self.folder.as_fd(), &resources.devices, devices.as_ref())?;
        *devices = Some(attached);
        Ok(())
    }

    fn limit(&self, name: &str) -> Step<String> {
        let known = name.contains('.') && !name.contains(['/', '\0']) && !name.starts_with("cgroup.");
        if !known {
            return Err(bad_request(format!("cgroup: {name:?} is not a file of a controller")));
        }
        match fs::read_to_string(self.path.join(name)) {
            Ok(text) => Ok(text),
            // It can be written only.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(String::new()),
            Err(error) => Err(failed(|| format!("cgroup file {name:?}"))(error)),
        }
    }

    fn write(&self, name: &str, value: &str) -> Step {
        let what = |line: &str| format!("cgroup file {name:?}: write {:?}", line.trim_end());
        let path = self.path.join(name);
        let write = |line: &str| {
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|mut file| io::Write::write_all(&mut file, line.as_bytes())).map_err(failed(|| what(line)))
        };
        // Files with a line for each device take one at a time.
        if name.starts_with("io.") { value.lines().try_for_each(write) } else { write(value) }
    }

    /// The text of one of its files, if there is one.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok()
    }

    /// Kills everything in it, groups below included.
    pub(crate) fn kill(&self) {
        // A group that does not exist any more has nothing to kill.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Stops everything in it, or lets it go on unless it is held.
    pub(super) fn freeze(&self, frozen: bool) {
        // Without it some of its processes get away from what follows, as they could have before.
        let _ = self.set_frozen(frozen || self.held.get());
    }

    /// Has everything in it stand still, which [`is_frozen`](Self::is_frozen) tells, or lets it go on.
    pub(crate) fn hold(&self, held: bool) -> io::Result<()> {
        self.held.set(held);
        self.set_frozen(held)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), if frozen { "1" } else { "0" })
    }

    /// A descriptor with an event whenever it becomes empty or still, or stops being so; for [`Group::is_populated`] and
    /// [`Group::is_frozen`].
    pub(crate) fn events(&self) -> io::Result<OwnedFd> {
        File::open(self.path.join("cgroup.events")).map(OwnedFd::from)
    }

    /// Whether processes are in it. Reading arms the event again.
    pub(crate) fn is_populated(&self, events: impl AsFd) -> bool {
        has_line(events, b"populated 1")
    }

    /// Whether everything in it stands still. Reading arms the event again.
    pub(crate) fn is_frozen(&self, events: impl AsFd) -> bool {
        has_line(events, b"frozen 1")
    }

    /// Processes in it and in the groups below.
    pub(super) fn pids(&self) -> Vec<libc::pid_t> {
        let mut pids = Vec::new();
        collect(&self.path, &mut pids);
        pids
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Whether a file of events has this line.
fn has_line(events: impl AsFd, wanted: &[u8]) -> bool {
    let mut bytes = [0; 128];
    let count = pread(events, &mut bytes, 0).unwrap_or(0);
    bytes.get(..count).unwrap_or_default().split(|byte| *byte == b'\n').any(|line| line == wanted)
}

/// Lets groups below `path` have every controller; one that cannot be had is missed when a limit asks for it.
fn enable_controllers(path: &Path) {
    let names = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(path.join("cgroup.subtree_control")).unwrap_or_default();
    for name in names.split_whitespace().filter(|name| !enabled.split_whitespace().any(|known| known == *name)) {
        let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn collect(path: &Path, pids: &mut Vec<libc::pid_t>) {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<libc::pid_t>().ok()).filter(|pid| *pid > 0));
    folders(path).for_each(|folder| collect(&folder, pids));
}

/// Removes a group and those below it, if they are empty.
fn remove(path: &Path) {
    folders(path).for_each(|folder| remove(&folder));
    let _ = fs::remove_dir(path);
}
