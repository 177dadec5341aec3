//! `checkpoint`: saves a container that runs into a directory, from which `restore` goes on.

use std::path::{Path, PathBuf};

use nix::poll::PollTimeout;
use supermachine_snapshot::{Limits, Snapshot};
use supermachine_vmm_api::{Client, ClientError, Reply, Request, Saved};

use crate::checkpoint::{CheckpointError, Draft, Manifest, VERSION, VolumeMark};
use crate::control::{self, ControlError, WORK_MAX};
use crate::host::process::Process;
use crate::state::{Dir, Record, Root, Status};

use super::{VerbError, delete, look};

/// Where images are unless told, below the working directory; as runc has it.
pub const DEFAULT_IMAGE: &str = "checkpoint";
/// How long a container that was saved has to pass on what it wrote before, milliseconds.
const END_MS: u16 = 10_000;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container.
    id: String,
    /// Directory for the image.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_IMAGE)]
    image_path: PathBuf,
    /// Let the container go on afterwards.
    #[arg(long)]
    leave_running: bool,
    /// Options that are CRIU's.
    #[command(flatten)]
    criu: Criu,
}

/// Options of runc's for CRIU.
#[derive(Debug, clap::Args)]
struct Criu {
    /// Refused: images have no parents.
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Refused: a container is saved at once.
    #[arg(long)]
    pre_dump: bool,
    /// Refused: an image is whole.
    #[arg(long)]
    lazy_pages: bool,
    /// Refused, as `--lazy-pages`.
    #[arg(long, value_name = "FD")]
    status_fd: Option<i32>,
    /// Refused: images are directories.
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// What `restore` takes as well.
    #[command(flatten)]
    shared: Shared,
}

/// Options of runc's for CRIU that mean nothing here: the machine is saved with all that is in it.
#[derive(Debug, clap::Args)]
pub(super) struct Shared {
    /// Accepted and not used: logs go where all log lines go.
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Accepted and not used: connections inside the container are part of it; others end.
    #[arg(long)]
    tcp_established: bool,
    /// Accepted and not used: sockets of the container are part of it.
    #[arg(long)]
    ext_unix_sk: bool,
    /// Accepted and not used: a terminal is part of it.
    #[arg(long)]
    shell_job: bool,
    /// Accepted and not used: locks are part of it.
    #[arg(long)]
    file_locks: bool,
    /// Accepted and not used: the control groups in the machine are part of it.
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Accepted and not used: the host's namespaces are those of the bundle.
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Accepted and not used: pages of zeroes take no space anyway.
    #[arg(long)]
    auto_dedup: bool,
}

impl Criu {
    fn check(&self) -> Result<(), VerbError> {
        let refused = [
            (self.parent_path.is_some(), "--parent-path: an image is whole, it has no parent"),
            (self.pre_dump, "--pre-dump: an image is whole and written at once"),
            (self.lazy_pages, "--lazy-pages: an image is whole and written at once"),
            (self.status_fd.is_some_and(|fd| fd >= 0), "--status-fd: there are no lazy pages to tell of"),
            (self.page_server.is_some(), "--page-server: an image is a directory of this machine"),
        ];
        let refused = refused.into_iter().find(|(asked, _)| *asked);
        refused.map_or(Ok(()), |(_, why)| Err(VerbError::Argument(why.to_owned())))
    }
}

/// Saves a container. Without `--leave-running` it is deleted afterwards, as runc does.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    args.criu.check()?;
    let folder = std::path::absolute(&args.image_path).map_err(VerbError::Directory)?;
    let dir = root.find(&args.id)?;
    let _lock = dir.lock()?;
    let found = look(dir)?;
    let record = match (found.status, found.record) {
        (Status::Running | Status::Paused, Some(record)) => record,
        (status, _) => {
            let message = format!("Container cannot be checkpointed in {} state", status.word());
            return Err(VerbError::WrongState(message));
        }
    };
    let draft = Draft::begin(&folder)?;
    let mut client = control::connect(&found.dir)?;
    client.stream().set_read_timeout(Some(WORK_MAX)).map_err(ControlError::Connect)?;
    let saved = save(&mut client, draft.data())?;
    let volumes = volumes(&record, &saved)?;
    if args.leave_running {
        done(&mut client, &Request::Resume {})?;
    }
    let manifest = describe(&draft, &record, &saved, volumes)?;
    // Until then a failure lets the container go on: this connection ends with us.
    draft.commit(&manifest)?;
    if !args.leave_running {
        done(&mut client, &Request::Kill { signal: 9 })?;
        end(&found.dir, &record)?;
    }
    Ok(0)
}

fn save(client: &mut Client, data: &Path) -> Result<Saved, VerbError> {
    match client.request(&Request::Checkpoint { dir: data.to_owned() }) {
        Ok(Reply::Saved(saved)) => Ok(saved),
        Ok(other) => Err(ControlError::Unexpected(Box::new(other)).into()),
        Err(ClientError::Refused(reply)) => Err(VerbError::WrongState(format!("checkpoint failed: {}", reply.message))),
        Err(error) => Err(ControlError::from(error).into()),
    }
}

fn done(client: &mut Client, request: &Request) -> Result<(), VerbError> {
    match client.request(request).map_err(ControlError::from)? {
        Reply::Ok {} => Ok(()),
        other => Err(ControlError::Unexpected(Box::new(other)).into()),
    }
}

/// The volumes as they are while the container stands still.
fn volumes(record: &Record, saved: &Saved) -> Result<Vec<VolumeMark>, CheckpointError> {
    if record.volumes.len() != saved.volumes.len() {
        return Err(CheckpointError::Volumes { known: record.volumes.len(), saved: saved.volumes.len() });
    }
    record.volumes.iter().map(|volume| VolumeMark::now(&volume.path, volume.read_only)).collect()
}

fn describe(
    draft: &Draft,
    record: &Record,
    saved: &Saved,
    volumes: Vec<VolumeMark>,
) -> Result<Manifest, CheckpointError> {
    let path = draft.data().join("snapshot");
    let snapshot =
        Snapshot::open(&path, &Limits::default()).map_err(|source| CheckpointError::Snapshot { path, source })?;
    Ok(Manifest {
        version: VERSION,
        data: draft.name().to_owned(),
        id: record.id.clone(),
        memory_mib: record.memory_mib,
        terminal: record.terminal,
        snapshot: snapshot.id(),
        layers: draft.layers(saved.layers)?,
        upper: saved.upper.then(|| draft.upper()).transpose()?,
        volumes,
    })
}

/// Waits for the machine's end and removes what is left.
fn end(dir: &Dir, record: &Record) -> Result<(), VerbError> {
    let process = record.vmm.and_then(|vmm| Process::find(vmm.pid, vmm.started));
    if let Some(process) = process {
        let wait = |ms| process.wait(PollTimeout::from(ms));
        let io_error = |source| VerbError::Io { what: "wait for the machine's end", source };
        if !wait(END_MS).map_err(io_error)? {
            log::warn!("nobody takes what the container wrote before; what is left of it is lost");
            process.signal(9).map_err(io_error)?;
            wait(END_MS).map_err(io_error)?;
        }
    }
    delete::remove(dir, Some(record))
}
