//! The control protocol's server: one thread a client, requests answered in turn, an exec turned into a relay.

mod answer;
mod checkpoint;
mod inherited;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::{ErrorCode, ErrorReply, Exec, FrameKind, Hello};
use supermachine_vmm_api::{Create, FRAME_MAX, Reply, Request, VERSION, files};

use crate::agent::{AgentError, SOFTWARE};
use crate::bind::Files;
use crate::container::{self, ContainerError};
use crate::ending;
use crate::leash::Leash;
use crate::life::Lifecycle;
use crate::machine::Machine;
use crate::socket::Socket;
use crate::{process, relay};

pub use inherited::Inherited;
pub(crate) use inherited::take;

/// The signal that ends the machine, whatever the guest does.
const SIGKILL: u32 = 9;
/// How long a client may leave a reply unread that finds no room.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// How long the guest may take to start a process.
const EXEC_LIMIT: Duration = Duration::from_secs(60);

/// Serves clients of the control socket on threads of their own.
pub fn serve(socket: &Socket, machine: &Arc<Machine>, life: &Arc<Lifecycle>) -> io::Result<()> {
    let listener = socket.listener.try_clone()?;
    let server = Server { machine: machine.clone(), life: life.clone() };
    thread::Builder::new().name("control".into()).spawn(move || server.accept(&listener))?;
    Ok(())
}

#[derive(Clone)]
struct Server {
    machine: Arc<Machine>,
    life: Arc<Lifecycle>,
}

/// What a request comes to.
enum Outcome {
    Reply(Reply),
    /// The reply is the last word: then the machine ends.
    Refused(ErrorReply),
}

impl Server {
    fn accept(&self, listener: &UnixListener) {
        for client in listener.incoming() {
            let server = self.clone();
            let started = client.and_then(|client| {
                thread::Builder::new().name("client".into()).spawn(move || server.serve_and_log(client))
            });
            if let Err(error) = started {
                log::warn!("control socket: {error}");
            }
        }
    }

    fn serve_and_log(&self, client: UnixStream) {
        let served = greet(&client).and_then(|()| self.serve(client));
        if let Err(error) = served {
            log::debug!("control client: {}", ending::chain(&error));
        }
    }

    /// Serves a client that has our hello.
    fn serve(&self, client: UnixStream) -> Result<(), ConnectionError> {
        let mut reader = FrameReader::new(client.try_clone()?, FRAME_MAX);
        client.set_write_timeout(Some(REPLY_LIMIT))?;
        let mut writer = FrameWriter::new(client);
        match reader.frame()?.expect(FrameKind::Control)?.parse_json()? {
            Reply::Hello(theirs) if theirs.version == VERSION => {}
            other => {
                let message = format!("expected a hello of version {VERSION}, got {other:?}");
                return writer.send_json(FrameKind::Error, &refusal(ErrorCode::BadVersion, message));
            }
        }
        let mut held = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            let request = frame.expect(FrameKind::Request).and_then(|frame| frame.parse_json());
            match request {
                Ok(Request::Exec(exec)) => return self.exec(*exec, reader, writer),
                Ok(Request::Kill { signal: SIGKILL }) => {
                    // The end takes this connection along, so the reply goes first.
                    let told = writer.send_json(FrameKind::Control, &Reply::Ok {});
                    self.kill();
                    told?;
                }
                Ok(Request::Files { count }) => {
                    if let Err(error) = hold(reader.get_ref(), count, &mut held) {
                        // What else is on its way is not understood.
                        let message = format!("files: {error}");
                        return writer.send_json(FrameKind::Error, &refusal(ErrorCode::BadRequest, message));
                    }
                    writer.send_json(FrameKind::Control, &Reply::Ok {})?;
                }
                Ok(Request::Create(wanted)) => {
                    let files = Files::new(std::mem::take(&mut held));
                    self.guest_request(&mut writer, |leash| self.create(*wanted, files, leash))?;
                }
                Ok(Request::Restore(wanted)) => {
                    let files = Files::new(std::mem::take(&mut held));
                    self.guest_request(&mut writer, |leash| self.restore(&wanted, files, leash))?;
                }
                Ok(Request::Adopt(wanted)) => {
                    let files = Files::new(std::mem::take(&mut held));
                    self.guest_request(&mut writer, |leash| self.adopt(*wanted, files, leash))?;
                }
                Ok(Request::Checkpoint { dir }) => self.checkpoint(&dir, &mut reader, &mut writer)?,
                Ok(request) => self.request(request, &mut writer)?,
                Err(error) => {
                    return writer.send_json(FrameKind::Error, &refusal(ErrorCode::BadRequest, ending::chain(&error)));
                }
            }
        }
        Ok(())
    }

    fn request(&self, request: Request, writer: &mut FrameWriter<UnixStream>) -> Result<(), ConnectionError> {
        if !answer::needs_guest(&request) {
            return match self.answer(request) {
                Ok(reply) => writer.send_json(FrameKind::Control, &reply),
                Err(error) => writer.send_json(FrameKind::Error, &error),
            };
        }
        if matches!(request, Request::Update(_) | Request::KillAll { .. }) {
            self.life.container().touch();
        }
        self.guest_request(writer, |leash| self.ask_guest(request, leash))
    }

    fn guest_request(
        &self,
        writer: &mut FrameWriter<UnixStream>,
        ask: impl FnOnce(&Leash) -> Result<Outcome, ErrorReply>,
    ) -> Result<(), ConnectionError> {
        self.life.container().wait_for_template();
        // Dropped after the client was told: the machine's end waits for that.
        let leash = Leash::new(&self.life, writer.get_ref())?;
        let outcome = match (self.machine.gate.is_paused(), self.life.container().is_held()) {
            (true, _) => Err(paused()),
            (_, true) => Err(being_saved()),
            _ => ask(&leash),
        };
        match outcome {
            Ok(Outcome::Reply(reply)) => writer.send_json(FrameKind::Control, &reply),
            Ok(Outcome::Refused(reply)) => {
                let told = writer.send_json(FrameKind::Error, &reply);
                self.life.end(process::not_started(&reply));
                told
            }
            Err(error) => writer.send_json(FrameKind::Error, &error),
        }
    }

    fn create(&self, wanted: Create, files: Files, leash: &Leash) -> Result<Outcome, ErrorReply> {
        let created = container::create(&self.life, &self.machine, wanted, files, leash);
        created.map(|pid| Outcome::Reply(Reply::Created { pid })).map_err(|error| of_container(&error))
    }

    fn ask_guest(&self, request: Request, leash: &Leash) -> Result<Outcome, ErrorReply> {
        match request {
            Request::Start {} => match container::start(&self.life, leash) {
                Err(ContainerError::NotStarted(reply)) => Ok(Outcome::Refused(reply)),
                Ok(pid) => Ok(Outcome::Reply(Reply::Started { pid })),
                Err(error) => Err(of_container(&error)),
            },
            other => self.query(other, leash).map(Outcome::Reply),
        }
    }

    /// A machine whose guest cannot take the signal ends at once, unless that would cost what was written to its volumes.
    fn kill(&self) {
        let paused = self.machine.gate.is_paused();
        if paused && self.machine.has_lasting_disks() {
            // What it has not written back yet is to be kept.
            self.machine.gate.resume();
            self.life.kill();
        } else if paused {
            self.life.end(ending::Ending::Killed);
        } else {
            self.life.kill();
        }
    }

    fn exec(
        &self,
        exec: Exec,
        reader: FrameReader<UnixStream>,
        mut writer: FrameWriter<UnixStream>,
    ) -> Result<(), ConnectionError> {
        if self.machine.gate.is_paused() {
            return writer.send_json(FrameKind::Error, &paused());
        }
        self.life.container().touch();
        self.life.container().wait_for_template();
        if self.life.container().is_held() {
            return writer.send_json(FrameKind::Error, &being_saved());
        }
        let leash = Leash::new(&self.life, writer.get_ref())?;
        let started = leash.call().and_then(|mut link| {
            leash.limit(Some(EXEC_LIMIT));
            let pid = leash.explain(link.exec(exec))?;
            leash.limit(None);
            Ok((link, pid))
        });
        match started {
            Ok((link, pid)) => {
                // The client takes output as fast as it likes.
                writer.get_ref().set_write_timeout(None)?;
                writer.send_json(FrameKind::Control, &Reply::Started { pid })?;
                relay::run((reader, writer), link)
            }
            Err(error) => writer.send_json(FrameKind::Error, &of_agent(&error)),
        }
    }
}

/// Takes files that a client sends.
fn hold(client: &UnixStream, count: u32, held: &mut Vec<OwnedFd>) -> io::Result<()> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if held.len().saturating_add(count) > files::MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are too many"));
    }
    held.extend(files::receive(client, count)?);
    Ok(())
}

/// Says hello to a client.
fn greet(client: &UnixStream) -> Result<(), ConnectionError> {
    let hello = Hello { version: VERSION, software: SOFTWARE.to_owned(), kernel: None };
    FrameWriter::new(client).send_json(FrameKind::Control, &Reply::Hello(hello))
}

fn of_container(error: &ContainerError) -> ErrorReply {
    let code = match error {
        ContainerError::Agent(error) => return of_agent(error),
        ContainerError::NotStarted(reply) => return reply.clone(),
        ContainerError::HasMain | ContainerError::Exists | ContainerError::NotCreated | ContainerError::Bind(_) => {
            ErrorCode::BadRequest
        }
        ContainerError::IsHeld | ContainerError::Over | ContainerError::InputStuck => ErrorCode::Unavailable,
        ContainerError::Missing | ContainerError::Ended => ErrorCode::Unavailable,
        ContainerError::Host(_) => ErrorCode::Os,
    };
    refusal(code, ending::chain(error))
}

fn of_agent(error: &AgentError) -> ErrorReply {
    match error {
        AgentError::Conversation(ConnectionError::Refused(reply)) => reply.clone(),
        _ => refusal(ErrorCode::Unavailable, ending::chain(error)),
    }
}

fn paused() -> ErrorReply {
    refusal(ErrorCode::Unavailable, "the machine is paused: resume it first, or kill it".to_owned())
}

fn being_saved() -> ErrorReply {
    refusal(ErrorCode::Unavailable, "the container is being saved".to_owned())
}

fn refusal(code: ErrorCode, message: String) -> ErrorReply {
    ErrorReply { code, errno: None, message }
}
