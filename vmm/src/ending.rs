//! How a machine ends, and the exit status and message that say so.
//!
//! The status of the main process is the status of the vmm. Ends that are not the process's own have statuses of
//! their own, high enough to be rare as a program's: `docs/architecture.md` lists them.

use supermachine_agent_protocol::ExitStatus;
use supermachine_hv::Fault;

use crate::backend::console::Console;
use crate::vcpu::VcpuEnd;

/// The machine could not be set up.
pub const STATUS_SETUP: u8 = 1;
/// `kill` with signal 9 through the control socket.
pub const STATUS_KILLED: u8 = 137;
/// The guest kernel panicked.
pub const STATUS_PANIC: u8 = 251;
/// The guest ended or reset without being asked: its init or agent is gone.
pub const STATUS_VANISHED: u8 = 252;
/// A vCPU cannot go on, for example after a triple fault.
pub const STATUS_CPU_FAULT: u8 = 253;
/// The agent answers, but not as the protocol wants.
pub const STATUS_AGENT: u8 = 254;
/// The hypervisor failed.
pub const STATUS_HYPERVISOR: u8 = 255;

/// Characters of a line that the guest chose.
const PRINTABLE_MAX: usize = 1000;

/// How a machine ended.
#[derive(Debug)]
pub enum Ending {
    /// The main process ended.
    Process(ExitStatus),
    /// The main process could not be started; the message is the agent's.
    NotStarted {
        /// Status as container tools give it: 127, 126 or 1.
        status: u8,
        /// One line.
        message: String,
    },
    /// The guest was asked to end and did; it had no main process.
    Shutdown,
    /// The machine was saved, which is what it was for.
    Baked,
    /// The machine was to be saved and cannot be.
    NotBaked {
        /// One line.
        message: String,
    },
    /// Killed through the control socket or by a second signal.
    Killed,
    /// The client that was to make the container went away before it did.
    Abandoned,
    /// The agent went away while the main process ran; the guest ends next.
    AgentGone,
    /// The agent broke the protocol.
    Agent {
        /// One line.
        message: String,
    },
    /// A vCPU ended by itself.
    Vcpu {
        /// Which.
        index: u32,
        /// Why.
        end: VcpuEnd,
    },
}

impl Ending {
    /// Exit status of the vmm, and the line for the user where the status alone does not say it.
    pub fn explain(&self, console: &Console) -> (u8, Option<String>) {
        match self {
            Self::Process(status) => (u8::try_from(status.shell_status()).unwrap_or(u8::MAX), None),
            Self::NotStarted { status, message } => (*status, Some(printable(message))),
            Self::Shutdown | Self::Baked => (0, None),
            Self::NotBaked { message } => (STATUS_SETUP, Some(message.clone())),
            Self::Killed => (STATUS_KILLED, None),
            Self::Abandoned => (STATUS_SETUP, Some("the caller went away before there was a container".to_owned())),
            Self::AgentGone => (STATUS_VANISHED, Some("the guest's agent went away".to_owned())),
            Self::Agent { message } => {
                (STATUS_AGENT, Some(format!("the guest's agent failed: {}", printable(message))))
            }
            Self::Vcpu { index, end } => explain_vcpu(*index, end, console),
        }
    }

    /// Whether the console's last lines help to understand this end.
    pub fn wants_console(&self) -> bool {
        matches!(self, Self::AgentGone | Self::Agent { .. } | Self::Vcpu { .. })
    }
}

fn explain_vcpu(index: u32, end: &VcpuEnd, console: &Console) -> (u8, Option<String>) {
    let panic = console.panic_line();
    let (status, message) = match (end, panic) {
        (VcpuEnd::Hypervisor(error), _) => (STATUS_HYPERVISOR, format!("vCPU {index}: {}", chain(error))),
        (VcpuEnd::Fault(fault), _) => (STATUS_CPU_FAULT, format!("vCPU {index}: {}", describe(fault))),
        (VcpuEnd::GuestReset, Some(line)) => (STATUS_PANIC, format!("the guest kernel panicked: {line}")),
        (VcpuEnd::GuestReset, None) => (STATUS_VANISHED, "the guest ended without being asked to".to_owned()),
    };
    (status, Some(message))
}

fn describe(fault: &Fault) -> String {
    match fault {
        Fault::TripleFault => "triple fault: the guest kernel lost control of the CPU".to_owned(),
        Fault::EntryFailed { reason } => format!("the hypervisor refused the guest's state, reason {reason:#x}"),
        Fault::Internal { detail } => detail.clone(),
    }
}

/// Text that the guest chose, fit for a terminal: one line of bounded length without control characters.
pub fn printable(text: &str) -> String {
    text.chars().take(PRINTABLE_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_own_status() {
        let console = Console::new(false);
        let reset = || Ending::Vcpu { index: 0, end: VcpuEnd::GuestReset };
        let fault = Ending::Vcpu { index: 1, end: VcpuEnd::Fault(Fault::TripleFault) };
        assert_eq!(Ending::Process(ExitStatus::Exited(7)).explain(&console).0, 7);
        assert_eq!(Ending::Process(ExitStatus::Signaled(15)).explain(&console).0, 143);
        assert_eq!(reset().explain(&console).0, STATUS_VANISHED);
        assert_eq!(Ending::AgentGone.explain(&console).0, STATUS_VANISHED);
        assert!(fault.explain(&console).1.is_some_and(|m| m.contains("vCPU 1: triple fault")));
        b"Kernel panic - not syncing: no init\n".iter().for_each(|b| console.put(*b));
        assert_eq!(reset().explain(&console).0, STATUS_PANIC);
    }
}
