//! `pause` and `resume`: the whole machine stands still, and goes on.

use supermachine_vmm_api::Request;

use crate::control;
use crate::state::{Root, Status};

use super::{VerbError, look};

/// Pauses a container; one that is paused stays so.
pub fn pause(root: &Root, id: &str) -> Result<u8, VerbError> {
    change(root, id, &Request::Pause {}, |status| match status {
        Status::Created | Status::Running => None,
        _ => Some("container not running"),
    })
}

/// Lets a paused container go on.
pub fn resume(root: &Root, id: &str) -> Result<u8, VerbError> {
    change(root, id, &Request::Resume {}, |status| (status != Status::Paused).then_some("container not paused"))
}

fn change(
    root: &Root,
    id: &str,
    request: &Request,
    wrong: fn(Status) -> Option<&'static str>,
) -> Result<u8, VerbError> {
    let dir = root.find(id)?;
    let _lock = dir.lock()?;
    let found = look(dir)?;
    if let Some(message) = wrong(found.status) {
        return Err(VerbError::WrongState(message.to_owned()));
    }
    control::ask(&found.dir, request)?;
    Ok(0)
}
