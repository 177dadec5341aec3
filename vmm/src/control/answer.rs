//! Answers to requests other than those that change the container's or a process's life.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::{Control, ErrorCode, ErrorReply, Request as AgentRequest};
use supermachine_vmm_api::{DiskStats, Reply, Request, State, Stats, Status, VcpuStats};

use super::{Server, of_agent, refusal};
use crate::agent::AgentError;
use crate::ending;
use crate::freeze::{self, Label};
use crate::leash::Leash;

/// How long the guest may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Whether a request is answered by the guest.
pub(super) fn needs_guest(request: &Request) -> bool {
    match request {
        Request::Start {}
        | Request::KillAll { .. }
        | Request::Processes {}
        | Request::Usage {}
        | Request::Update(_)
        | Request::Shutdown {} => true,
        Request::Status {}
        | Request::Stats {}
        | Request::Exec(_)
        | Request::Files { .. }
        | Request::Create(_)
        | Request::Pause {}
        | Request::Resume {}
        | Request::Kill { .. }
        | Request::Snapshot { .. }
        | Request::Checkpoint { .. }
        | Request::Restore(_)
        | Request::Adopt(_)
        | Request::AttachDisk { .. } => false,
    }
}

impl Server {
    /// Answers a request that the guest has no part in.
    pub(super) fn answer(&self, request: Request) -> Result<Reply, ErrorReply> {
        match request {
            Request::Status {} => return Ok(Reply::Status(Box::new(self.status()))),
            Request::Stats {} => return Ok(Reply::Stats(Box::new(self.stats()))),
            Request::Pause {} => self.machine.gate.pause(),
            Request::Resume {} => self.machine.gate.resume(),
            Request::Kill { signal } => {
                self.life.container().touch();
                self.life.signal(signal).map_err(|e| refusal(ErrorCode::BadRequest, e.to_string()))?;
            }
            Request::AttachDisk { slot, path, read_only } => {
                let attached = self.machine.attach_disk(slot, &path, read_only);
                attached.map_err(|error| refusal(ErrorCode::BadRequest, ending::chain(&error)))?;
            }
            Request::Snapshot { dir } => self.snapshot(&dir)?,
            other => return Err(not_here(&other)),
        }
        Ok(Reply::Ok {})
    }

    fn snapshot(&self, dir: &Path) -> Result<(), ErrorReply> {
        let not_up = || refusal(ErrorCode::Unavailable, "the guest is not up yet".to_owned());
        let (hello, _) = self.life.up().ok_or_else(not_up)?;
        let saved = freeze::save(&self.machine, &hello, &Label::default(), dir);
        saved.map_err(|error| refusal(ErrorCode::Os, ending::chain(&error)))
    }

    /// Passes a question on to the agent.
    pub(super) fn query(&self, request: Request, leash: &Leash) -> Result<Reply, ErrorReply> {
        let request = match request {
            Request::Shutdown {} => return self.shutdown(leash),
            Request::KillAll { signal } => AgentRequest::KillAll { signal },
            Request::Processes {} => AgentRequest::Processes {},
            Request::Usage {} => AgentRequest::Usage {},
            Request::Update(resources) => AgentRequest::Update(resources),
            other => return Err(not_here(&other)),
        };
        if !self.life.container().is_built() {
            return Err(refusal(ErrorCode::Unavailable, "there is no container yet".to_owned()));
        }
        match ask(leash, &request).map_err(|error| of_agent(&error))? {
            Control::Ok {} => Ok(Reply::Ok {}),
            Control::Processes(processes) => Ok(Reply::Processes(processes)),
            Control::Usage(usage) => Ok(Reply::Usage(usage)),
            other => Err(of_agent(&ConnectionError::Unexpected(other).into())),
        }
    }

    fn shutdown(&self, leash: &Leash) -> Result<Reply, ErrorReply> {
        if self.life.begin_stop()
            && let Err(error) = ask(leash, &AgentRequest::Shutdown {})
        {
            self.life.cancel_stop();
            return Err(of_agent(&error));
        }
        Ok(Reply::Ok {})
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
            container: self.life.container().state(),
            hypervisor: self.machine.capabilities.kind.to_string(),
            cpu_model: self.machine.capabilities.cpu_model.clone(),
            vcpus: u32::try_from(self.machine.counters.len()).unwrap_or(u32::MAX),
            memory_mib: self.machine.memory_bytes >> 20,
            pid: std::process::id(),
            generation: self.life.generation(),
            boot_ms: up.as_ref().map(|(_, boot)| millis(*boot)),
            kernel: up.and_then(|(hello, _)| hello.kernel),
            uptime_ms: millis(self.life.uptime()),
        }
    }

    fn stats(&self) -> Stats {
        self.machine.gate.sample();
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

/// Asks the agent; an answer without news is as good as [`Control::Ok`].
fn ask(leash: &Leash, request: &AgentRequest) -> Result<Control, AgentError> {
    let mut link = leash.call()?;
    leash.limit(Some(ANSWER_LIMIT));
    leash.explain(link.request(request))
}

fn not_here(request: &Request) -> ErrorReply {
    refusal(ErrorCode::BadRequest, format!("not due here: {request:?}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
