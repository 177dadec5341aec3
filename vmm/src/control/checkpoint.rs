//! `checkpoint` and `restore`: what clients ask, in the words of the control protocol.

use std::os::unix::net::UnixStream;
use std::path::Path;

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::{Attached, ErrorCode, ErrorReply, FrameKind};
use supermachine_vmm_api::{Adopt, ContainerFiles, Reply, Request};

use super::{Outcome, SIGKILL, Server, of_container, refusal};
use crate::bind::Files;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Way};
use crate::ending;
use crate::leash::Leash;

impl Server {
    /// Saves the container, and keeps it still until the client says what becomes of it.
    pub(super) fn checkpoint(
        &self,
        dir: &Path,
        reader: &mut FrameReader<UnixStream>,
        writer: &mut FrameWriter<UnixStream>,
    ) -> Result<(), ConnectionError> {
        self.life.container().wait_for_template();
        let saved = {
            let leash = Leash::new(&self.life, writer.get_ref())?;
            Checkpoint::save(&self.life, &self.machine, dir, &leash)
        };
        let checkpoint = match saved {
            Ok(checkpoint) => checkpoint,
            Err(error) => return writer.send_json(FrameKind::Error, &of_checkpoint(&error)),
        };
        writer.send_json(FrameKind::Control, &Reply::Saved(checkpoint.saved.clone()))?;
        let Some(frame) = reader.next_frame()? else { return Ok(()) };
        match frame.expect(FrameKind::Request)?.parse_json()? {
            Request::Resume {} => {
                drop(checkpoint);
                writer.send_json(FrameKind::Control, &Reply::Ok {})
            }
            Request::Kill { signal: SIGKILL } => {
                // The end takes this connection along, so the reply goes first.
                let told = writer.send_json(FrameKind::Control, &Reply::Ok {});
                checkpoint.finish();
                told
            }
            other => {
                let message = format!("resume or kill is due, not {other:?}");
                writer.send_json(FrameKind::Error, &refusal(ErrorCode::BadRequest, message))
            }
        }
    }

    /// Takes over the container of a template.
    pub(super) fn adopt(&self, wanted: Adopt, files: Files, leash: &Leash) -> Result<Outcome, ErrorReply> {
        let Adopt { files: wanted, names, furnishings } = wanted;
        let way = Way::Adopt { names, furnishings };
        let adopted = checkpoint::restore(&self.life, &self.machine, (&wanted, files), way, leash);
        let Attached { pid, .. } = adopted.map_err(|error| of_checkpoint(&error))?;
        Ok(Outcome::Reply(Reply::Created { pid }))
    }

    pub(super) fn restore(&self, wanted: &ContainerFiles, files: Files, leash: &Leash) -> Result<Outcome, ErrorReply> {
        let restored = checkpoint::restore(&self.life, &self.machine, (wanted, files), Way::Attach, leash);
        let Attached { pid, started, terminal, stdin: _ } = restored.map_err(|error| of_checkpoint(&error))?;
        Ok(Outcome::Reply(Reply::Restored { pid, started, terminal }))
    }
}

fn of_checkpoint(error: &CheckpointError) -> ErrorReply {
    let code = match error {
        CheckpointError::Container(error) => return of_container(error),
        CheckpointError::Shares => ErrorCode::Unavailable,
        CheckpointError::NotAsleep => ErrorCode::BadRequest,
        CheckpointError::Freeze(_) | CheckpointError::Directory { .. } | CheckpointError::Machine(_) => ErrorCode::Os,
    };
    refusal(code, ending::chain(error))
}
