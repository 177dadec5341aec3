//! `delete`: removes a container that has ended, or ends it first.

use std::time::Duration;

use nix::poll::PollTimeout;
use supermachine_vmm_api::Request;

use crate::control;
use crate::host::cgroup::Cgroup;
use crate::host::hooks;
use crate::host::process::Process;
use crate::rootfs;
use crate::state::{Dir, Record, Root, StateError, Status};

use super::{VerbError, look};

/// How long a machine has to end by itself once it is told to, in milliseconds, beside what it takes at most.
const GRACE_MS: u16 = 1_000;
/// How long the host's kernel has to end it, in milliseconds.
const KILL_MS: u16 = 20_000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container.
    pub id: String,
    /// End it first if it still runs; a container that does not exist is deleted.
    #[arg(long, short)]
    pub force: bool,
}

/// Deletes a container.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    let dir = match root.find(&args.id) {
        Err(StateError::NoContainer) if args.force => return Ok(0),
        other => other?,
    };
    if args.force {
        // A verb that holds the lock may wait for just this machine.
        end(&dir, dir.record()?.as_ref())?;
    }
    let _lock = match dir.lock() {
        Err(StateError::Deleted) if args.force => return Ok(0),
        Err(StateError::Deleted) => return Err(StateError::NoContainer.into()),
        other => other?,
    };
    let found = look(dir)?;
    match found.status {
        Status::Stopped => {}
        Status::Created => end(&found.dir, found.record.as_ref())?,
        _ if args.force => end(&found.dir, found.record.as_ref())?,
        status => {
            let message = format!("cannot delete container {} that is not stopped: {}", args.id, status.word());
            return Err(VerbError::WrongState(message));
        }
    }
    remove(&found.dir, found.record.as_ref())?;
    Ok(0)
}

/// Ends a container's machine and waits for it: in good order if it listens, by the host's kernel if not.
pub(super) fn end(dir: &Dir, record: Option<&Record>) -> Result<(), VerbError> {
    let process = record.and_then(|record| record.vmm).and_then(|vmm| Process::find(vmm.pid, vmm.started));
    let Some(process) = process else { return Ok(()) };
    if !dir.is_alive()? {
        return Ok(());
    }
    let io_error = |what| move |source| VerbError::Io { what, source };
    let limit = PollTimeout::from(record.map_or(0, control::ending_ms).saturating_add(GRACE_MS));
    let told = control::ask(dir, &Request::Kill { signal: 9 });
    if told.is_ok() && process.wait(limit).map_err(io_error("wait for the machine's end"))? {
        return Ok(());
    }
    process.signal(9).map_err(io_error("end the container's machine"))?;
    if process.wait(PollTimeout::from(KILL_MS)).map_err(io_error("wait for the machine's end"))? {
        return Ok(());
    }
    Err(VerbError::WrongState("the container's machine does not end".to_owned()))
}

/// Removes what is left of a container whose machine has ended; the caller has its lock.
pub(super) fn remove(dir: &Dir, record: Option<&Record>) -> Result<(), VerbError> {
    // A `create` that is killed may not have written down its machine yet, which ends with it, but not at once.
    if !dir.wait_for_end(Duration::from_millis(KILL_MS.into()))? {
        return Err(VerbError::WrongState("the container's machine does not end".to_owned()));
    }
    let cgroup = record.and_then(|record| serde_json::from_value::<Cgroup>(record.cgroup.clone()).ok());
    if let Some(cgroup) = cgroup {
        cgroup.remove()?;
    }
    release(record)?;
    dir.remove()?;
    if let Some(record) = record {
        hooks::run_each("poststop", &record.poststop, &record.hook_state(Status::Stopped));
    }
    Ok(())
}

/// Lets go of the images in the layer store; without its machine a container holds them no more.
fn release(record: Option<&Record>) -> Result<(), VerbError> {
    if let Some(record) = record {
        match std::fs::remove_file(&record.layers_hold) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(VerbError::Io { what: "let go of its layers", source: error });
            }
            _ if record.complete => return Ok(()),
            _ => {}
        }
    }
    // Its maker was killed: before it wrote down where the hold is, or over a layer that is half made.
    Ok(rootfs::store()?.sweep()?)
}
