//! A container is saved with its machine, and goes on in another.
//!
//! [`Checkpoint`] is a container that stands still and is saved: it goes on when that is dropped, and is over with
//! [`Checkpoint::finish`]. [`restore`] is the way back.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::container::Furnishings;
use supermachine_agent_protocol::{Attached, Control, Names, Request};
use supermachine_snapshot::Kind;
use supermachine_vmm_api::{ContainerFiles, ContainerState, Saved};

use crate::agent::AgentError;
use crate::bind::{self, BindError, Files};
use crate::container::{self, ContainerError, Held};
use crate::ending::Ending;
use crate::events::{Event, EventSender};
use crate::freeze::{self, FreezeError, Label};
use crate::gate::Hold;
use crate::leash::Leash;
use crate::life::Lifecycle;
use crate::machine::{Backing, Machine, MachineError};
use crate::settings::{CONTAINER_DISKS, FIRST_VOLUME_DISK, LAYERS_DISK, UPPER_DISK};
use supermachine_snapshot::sparse::copy;

/// How long the guest may take to bring a container to a stop.
const HOLD_LIMIT: Duration = Duration::from_secs(10);
/// How long a guest that goes on may take to answer.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);

/// Why a container cannot be saved, or cannot go on from what was saved.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Files of the host that the guest has open are known to this process alone.
    #[error("the container has directories or files of the host mounted, which a checkpoint cannot hold")]
    Shares,
    /// It cannot be brought to a stop, or taken over.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// It cannot be saved.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The directory for the copies.
    #[error("cannot make {}", path.display())]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The machine waits for no files.
    #[error("the machine does not come from a checkpoint, or goes on already")]
    NotAsleep,
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// See the module.
pub struct Checkpoint<'a> {
    life: &'a Lifecycle,
    // In this order: the guest runs before it is told to let its container go on.
    vcpus_out: Option<Hold>,
    held: Option<Held<'a>>,
    /// What was saved besides the snapshot.
    pub saved: Saved,
}

impl<'a> Checkpoint<'a> {
    /// Brings the container to a stop and saves everything into `dir`.
    ///
    /// # Errors
    /// Any; the container goes on then.
    pub fn save(life: &'a Lifecycle, machine: &'a Machine, dir: &Path, leash: &Leash) -> Result<Self, CheckpointError> {
        if machine.share().is_some_and(crate::backend::share::Share::is_used) {
            return Err(CheckpointError::Shares);
        }
        container::can_hold(life.container())?;
        let (hello, _) = life.up().ok_or(ContainerError::Missing)?;
        // Layers do not change: there is no need to stop for them.
        let mut saved = Saved { layers: save_layers(machine, dir)?, ..Saved::default() };
        let upper = writable_disks(machine, &mut saved).map_err(copied("the disks".to_owned()))?;
        // The agent of a paused machine has to run once more.
        let paused = machine.gate.is_paused();
        if paused {
            machine.gate.resume();
        }
        leash.limit(Some(HOLD_LIMIT));
        let held = container::hold(life, leash);
        leash.limit(None);
        if paused {
            machine.gate.pause();
        }
        let held = held?;
        let vcpus_out = machine.gate.hold();
        let label = Label { kind: Some(Kind::Container), holds_container: true, ..Label::default() };
        freeze::save_with(machine, &hello, &label, &dir.join("snapshot"), || save_upper(&upper, dir))?;
        life.mark("container saved");
        Ok(Self { life, vcpus_out: Some(vcpus_out), held: Some(held), saved })
    }

    /// The container is over here; what it had written is still being passed on.
    pub fn finish(mut self) {
        if let Some(vcpus_out) = self.vcpus_out.take() {
            // Until the machine's end.
            std::mem::forget(vcpus_out);
        }
        match self.held.take() {
            Some(held) => held.finish(),
            None => self.life.end(Ending::Killed),
        }
    }
}

fn copied(what: String) -> impl FnOnce(io::Error) -> FreezeError {
    move |source| FreezeError::Copy { what, source }
}

fn save_layers(machine: &Machine, dir: &Path) -> Result<u32, CheckpointError> {
    let Some((_, layers)) = machine.images(LAYERS_DISK).map_err(copied("the layers".to_owned()))? else { return Ok(0) };
    let folder = dir.join("layers");
    let made = DirBuilder::new().mode(0o700).create(&folder);
    made.map_err(|source| CheckpointError::Directory { path: folder.clone(), source })?;
    for (number, layer) in layers.iter().enumerate() {
        let what = || format!("layer {number}");
        // The device reads through this description, with its position: the copy needs one of its own.
        let own = reopen(layer).map_err(copied(what()))?;
        copy(&own, &folder.join(number.to_string())).map_err(copied(what()))?;
    }
    Ok(u32::try_from(layers.len()).unwrap_or(u32::MAX))
}

#[cfg(target_os = "linux")]
fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/dev/fd/{}", file.as_raw_fd()))
}

/// The image of the writable layer, if it has one; notes it and the volumes.
fn writable_disks(machine: &Machine, saved: &mut Saved) -> io::Result<Vec<File>> {
    for slot in FIRST_VOLUME_DISK..CONTAINER_DISKS {
        saved.volumes.extend(machine.images(slot)?.map(|(backing, _)| backing == Backing::ReadOnly));
    }
    let upper = machine.images(UPPER_DISK)?.map(|(_, upper)| upper).unwrap_or_default();
    saved.upper = !upper.is_empty();
    Ok(upper)
}

/// All devices are still: nobody else uses the description.
fn save_upper(upper: &[File], dir: &Path) -> Result<(), FreezeError> {
    upper.iter().try_for_each(|file| copy(file, &dir.join("upper"))).map_err(copied("the writable layer".to_owned()))
}

/// What becomes of a container that was saved.
#[derive(Debug)]
pub enum Way {
    /// It goes on.
    Attach,
    /// It becomes another, which waits for its start.
    Adopt {
        /// Its names.
        names: Names,
        /// What it is furnished with, if it is not yet.
        furnishings: Option<Furnishings>,
    },
}

/// Gives a machine that waits for them its container's files, and lets it go on.
///
/// # Errors
/// The files are not what the guest knows, or the guest does not go on. The machine is of no use then.
pub fn restore(
    life: &Arc<Lifecycle>,
    machine: &Machine,
    (wanted, mut files): (&ContainerFiles, Files),
    way: Way,
    leash: &Leash,
) -> Result<Attached, CheckpointError> {
    let (request, stays, furnishings) = match way {
        Way::Attach => (Request::Attach {}, false, None),
        Way::Adopt { names, furnishings } => (Request::Adopt(names), true, furnishings),
    };
    if furnishings.is_none() && !wanted.shares.is_empty() {
        return Err(ContainerError::from(BindError::SharesAgain).into());
    }
    let (hello, ready) = life.take_asleep().ok_or(CheckpointError::NotAsleep)?;
    bind::bind_disks_again(machine, wanted, &mut files).map_err(ContainerError::from)?;
    let events = life.events().clone();
    machine.enter(ready)?;
    life.mark("guest entered");
    revive(life, hello, events).map_err(ContainerError::from)?;
    leash.limit(Some(ATTACH_LIMIT));
    let mut link = leash.call().map_err(ContainerError::from)?;
    let answer = leash.explain(link.request(&request)).map_err(ContainerError::from)?;
    let Control::Attached(attached) = answer else {
        return Err(ContainerError::from(AgentError::from(ConnectionError::Unexpected(answer))).into());
    };
    if let Some(furnishings) = furnishings {
        container::furnish(machine, &mut link, furnishings, (wanted, &mut files), leash)?;
        life.mark("container furnished");
    }
    leash.limit(None);
    let runs = attached.started && !stays;
    let state = if runs { ContainerState::Running } else { ContainerState::Created };
    container::join(life, link, attached.terminal, attached.stdin, state)?;
    leash.release();
    life.mark("container goes on");
    Ok(attached)
}

/// Gives a guest from a snapshot its identity, on a thread that may wait for it.
///
/// # Errors
/// The host has no thread to give.
pub fn revive(life: &Arc<Lifecycle>, hello: supermachine_agent_protocol::Hello, events: EventSender) -> io::Result<()> {
    let life = life.clone();
    let revive = move || events.send(Event::AgentUp(life.revive(hello)));
    std::thread::Builder::new().name("identity".into()).spawn(revive).map(drop)
}
