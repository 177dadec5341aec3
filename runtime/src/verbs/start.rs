//! `start`: enters the program of a created container.

use supermachine_vmm_api::{ClientError, Reply, Request};

use crate::control::{self, ControlError};
use crate::host::hooks;
use crate::state::{Dir, Record, Root, Status};

use super::{VerbError, look};

/// Starts a container.
pub fn run(root: &Root, id: &str) -> Result<u8, VerbError> {
    let dir = root.find(id)?;
    let _lock = dir.lock()?;
    let found = look(dir)?;
    let wrong = match found.status {
        Status::Created => None,
        Status::Stopped => Some("cannot start a container that has stopped"),
        Status::Paused => Some("cannot start a container in the paused state"),
        Status::Creating => Some("cannot start a container that is being created"),
        Status::Running => Some("cannot start an already running container"),
    };
    match (wrong, &found.record) {
        (None, Some(record)) => start(&found.dir, record).map(|()| 0),
        (wrong, _) => Err(VerbError::WrongState(wrong.unwrap_or("the container has no record").to_owned())),
    }
}

/// Starts a container that is created; the caller has its lock.
pub(super) fn start(dir: &Dir, record: &Record) -> Result<(), VerbError> {
    let mut client = control::connect(dir)?;
    // Hooks in the guest may take their time.
    client.stream().set_read_timeout(Some(control::WORK_MAX)).map_err(ControlError::Connect)?;
    match client.request(&Request::Start {}) {
        Ok(Reply::Started { .. }) => {}
        Ok(other) => return Err(ControlError::Unexpected(Box::new(other)).into()),
        Err(ClientError::Refused(reply)) => return Err(VerbError::Refused(reply.message)),
        Err(error) => return Err(ControlError::from(error).into()),
    }
    hooks::run_each("poststart", &record.poststart, &record.hook_state(Status::Running));
    Ok(())
}
