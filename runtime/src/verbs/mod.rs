//! The verbs of the command line, a file each.

pub mod bundle;
pub mod checkpoint;
pub mod create;
pub mod delete;
mod duration;
pub mod events;
pub mod exec;
pub mod features;
pub mod kill;
pub mod layers;
pub mod list;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
mod table;
pub mod templates;
pub mod update;

use std::io;

use supermachine_layers::image::ImageError;
use supermachine_layers::image::accounts::UserError;
use supermachine_layers::store::StoreError;

use crate::bundle::BundleError;
use crate::checkpoint::CheckpointError;
use crate::console::ConsoleError;
use crate::control::{self, ControlError};
use crate::create::CreateError;
use crate::host::cgroup::CgroupError;
use crate::plan::PlanError;
use crate::relay::RelayError;
use crate::state::{Dir, Record, Root, StateError, Status};
use crate::template::TemplateError;

/// Arguments of verbs that take no more than an id.
#[derive(Debug, clap::Args)]
pub struct OneId {
    /// The container.
    pub id: String,
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The working directory is gone.
    #[error("working directory")]
    Directory(#[source] io::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// `create` and `run`.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The conversation with the container's machine.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The layer store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The user of an image.
    #[error(transparent)]
    User(#[from] UserError),
    /// A file of JSON.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A process or limits that cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A process's streams.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The image of a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A terminal.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The container is in a state in which this cannot be done; the words are runc's.
    #[error("{0}")]
    WrongState(String),
    /// An argument that cannot be.
    #[error("{0}")]
    Argument(String),
    /// The guest did not start a process.
    #[error("unable to start container process: {0}")]
    Refused(String),
    /// Templates.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Something else of the host.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// An error with its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// A container that verbs work on.
pub(crate) struct Found {
    pub(crate) dir: Dir,
    /// None if its `create` was cut off early.
    pub(crate) record: Option<Record>,
    pub(crate) status: Status,
}

/// Finds a container and asks where it is in its life.
pub(crate) fn find(root: &Root, id: &str) -> Result<Found, VerbError> {
    look(root.find(id)?)
}

pub(crate) fn look(dir: Dir) -> Result<Found, VerbError> {
    let status = control::status(&dir)?;
    let record = dir.record()?;
    Ok(Found { dir, record, status })
}
