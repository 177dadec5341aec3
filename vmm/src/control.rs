//! The control socket: one thread a client, requests answered in turn, an exec turned into a relay.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::{ErrorCode, ErrorReply, Exec, FrameKind, Hello};
use supermachine_vmm_api::{DiskStats, FRAME_MAX, Reply, Request, State, Stats, Status, VERSION, VcpuStats};

use crate::agent::{AgentError, SOFTWARE};
use crate::ending::{self, Ending};
use crate::life::Lifecycle;
use crate::machine::Machine;
use crate::relay;
use crate::socket::Socket;

/// The signal that ends the machine, whatever the guest does.
const SIGKILL: u32 = 9;

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
        if let Err(error) = self.serve(client) {
            log::debug!("control client: {}", ending::chain(&error));
        }
    }

    fn serve(&self, client: UnixStream) -> Result<(), ConnectionError> {
        let mut reader = FrameReader::new(client.try_clone()?, FRAME_MAX);
        let mut writer = FrameWriter::new(client);
        let hello = Hello { version: VERSION, software: SOFTWARE.to_owned(), kernel: None };
        writer.send_json(FrameKind::Control, &Reply::Hello(hello))?;
        match reader.frame()?.expect(FrameKind::Control)?.parse_json()? {
            Reply::Hello(theirs) if theirs.version == VERSION => {}
            other => {
                let message = format!("expected a hello of version {VERSION}, got {other:?}");
                return writer.send_json(FrameKind::Error, &refusal(ErrorCode::BadVersion, message));
            }
        }
        while let Some(frame) = reader.next_frame()? {
            let request = frame.expect(FrameKind::Request).and_then(|frame| frame.parse_json());
            match request {
                Ok(Request::Exec(exec)) => return self.exec(*exec, reader, writer),
                Ok(Request::Kill { signal: SIGKILL }) => {
                    // The end takes this connection along, so the reply goes first.
                    let told = writer.send_json(FrameKind::Control, &Reply::Ok {});
                    self.life.end(Ending::Killed);
                    told?;
                }
                Ok(request) => match self.answer(request) {
                    Ok(reply) => writer.send_json(FrameKind::Control, &reply)?,
                    Err(error) => writer.send_json(FrameKind::Error, &error)?,
                },
                Err(error) => {
                    return writer.send_json(FrameKind::Error, &refusal(ErrorCode::BadRequest, ending::chain(&error)));
                }
            }
        }
        Ok(())
    }

    fn answer(&self, request: Request) -> Result<Reply, ErrorReply> {
        match request {
            Request::Status {} => return Ok(Reply::Status(Box::new(self.status()))),
            Request::Stats {} => return Ok(Reply::Stats(Box::new(self.stats()))),
            Request::Pause {} => self.machine.gate.pause(),
            Request::Resume {} => self.machine.gate.resume(),
            Request::Shutdown {} => self.shutdown()?,
            Request::Kill { signal } => {
                self.life.signal(signal).map_err(|e| refusal(ErrorCode::BadRequest, e.to_string()))?;
            }
            Request::AttachDisk { slot, path, read_only } => {
                let attached = self.machine.attach_disk(slot, &path, read_only);
                attached.map_err(|error| refusal(ErrorCode::BadRequest, ending::chain(&error)))?;
            }
            Request::Exec(_) => {
                return Err(refusal(ErrorCode::BadRequest, "exec is the last request of a connection".into()));
            }
        }
        Ok(Reply::Ok {})
    }

    fn shutdown(&self) -> Result<(), ErrorReply> {
        if self.machine.gate.is_paused() {
            let message = "the machine is paused: resume it before the shutdown, or kill it".to_owned();
            return Err(refusal(ErrorCode::Unavailable, message));
        }
        if self.life.begin_stop() {
            self.life.agent().shutdown().map_err(|error| {
                self.life.cancel_stop();
                refusal(ErrorCode::Unavailable, ending::chain(&error))
            })?;
        }
        Ok(())
    }

    fn exec(
        &self,
        exec: Exec,
        reader: FrameReader<UnixStream>,
        mut writer: FrameWriter<UnixStream>,
    ) -> Result<(), ConnectionError> {
        let started = self.life.agent().call().and_then(|mut link| {
            let pid = link.exec(exec)?;
            Ok((link, pid))
        });
        match started {
            Ok((link, pid)) => {
                writer.send_json(FrameKind::Control, &Reply::Started { pid })?;
                relay::run((reader, writer), link)
            }
            Err(AgentError::Conversation(ConnectionError::Refused(reply))) => {
                writer.send_json(FrameKind::Error, &reply)
            }
            Err(error) => {
                writer.send_json(FrameKind::Error, &refusal(ErrorCode::Unavailable, ending::chain(&error)))?;
                Ok(writer.get_ref().shutdown(Shutdown::Both)?)
            }
        }
    }

    fn status(&self) -> Status {
        let up = self.life.up();
        let state = match &up {
            _ if self.machine.gate.is_paused() => State::Paused,
            _ if self.life.is_stopping() => State::Stopping,
            Some(_) => State::Running,
            None => State::Booting,
        };
        Status {
            state,
            hypervisor: self.machine.capabilities.kind.to_string(),
            cpu_model: self.machine.capabilities.cpu_model.clone(),
            vcpus: u32::try_from(self.machine.counters.len()).unwrap_or(u32::MAX),
            memory_mib: self.machine.memory_bytes >> 20,
            pid: std::process::id(),
            boot_ms: up.as_ref().map(|(_, boot)| millis(*boot)),
            kernel: up.and_then(|(hello, _)| hello.kernel),
            uptime_ms: millis(self.life.uptime()),
        }
    }

    fn stats(&self) -> Stats {
        self.machine.gate.kick();
        let vcpus = self.machine.counters.iter().map(|counters| VcpuStats {
            exits: counters.exits.load(Ordering::Relaxed),
            cpu_ns: counters.cpu_ns.load(Ordering::Relaxed),
        });
        let disks =
            self.machine.disk_bytes().map(|(read_bytes, written_bytes)| DiskStats { read_bytes, written_bytes });
        Stats {
            vcpus: vcpus.collect(),
            disks: disks.collect(),
            memory_reclaimed_bytes: self.machine.reclaimed.load(Ordering::Relaxed),
        }
    }
}

fn refusal(code: ErrorCode, message: String) -> ErrorReply {
    ErrorReply { code, errno: None, message }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
