//! `state`: where a container is in its life, as JSON.

use std::io::{self, Write};

use crate::state::{OciState, Root};

use super::{Found, VerbError, find};

/// Prints the state of a container.
pub fn run(root: &Root, id: &str) -> Result<u8, VerbError> {
    let state = of(&find(root, id)?);
    let text = serde_json::to_string_pretty(&state)
        .map_err(|error| VerbError::Io { what: "print the state", source: error.into() })?;
    let printed = io::stdout().write_all(text.as_bytes());
    printed.map_err(|source| VerbError::Io { what: "print the state", source })?;
    Ok(0)
}

/// The state of a container, with or without a record.
pub(super) fn of(found: &Found) -> OciState {
    match &found.record {
        Some(record) => record.oci_state(found.status),
        None => OciState {
            oci_version: crate::cli::SPEC_VERSION.to_owned(),
            id: found.dir.id.to_string(),
            pid: 0,
            status: found.status,
            bundle: "".into(),
            rootfs: "".into(),
            created: String::new(),
            annotations: Default::default(),
            owner: String::new(),
        },
    }
}
