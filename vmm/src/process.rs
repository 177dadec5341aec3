//! The main process: started when the guest is up, its streams joined to the vmm's own, its end the machine's end.

use std::io;
use std::os::fd::AsFd;

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::{ErrorReply, Exec};
use supermachine_vmm_api::{Input, Output, Relay, Streams};

use crate::agent::AgentError;
use crate::ending::{self, Ending};
use crate::life::Lifecycle;

/// Runs `exec` until it ends.
///
/// Blocks until the guest is up, then for as long as the process runs.
pub fn run(life: &Lifecycle, exec: Exec) -> Ending {
    let status = start(life, exec).and_then(|relay| Ok(relay.wait()?));
    status.map_or_else(|error| ending_of(&error), Ending::Process)
}

fn start(life: &Lifecycle, exec: Exec) -> Result<Relay, AgentError> {
    let mut link = life.agent().call()?;
    let pid = link.exec(exec)?;
    log::info!("main process has pid {pid} in the guest");
    let sender = life.set_main(link.writer)?;
    Ok(Relay::start(link.reader, sender, own_streams(true)?)?)
}

/// The vmm's own standard streams, for the process whose end is the machine's.
pub fn own_streams(stdin: bool) -> io::Result<Streams> {
    let input = || Input::new(io::stdin().as_fd());
    Ok(Streams {
        stdin: stdin.then(input).transpose()?,
        stdout: Some(Box::new(Output::new(io::stdout().as_fd())?)),
        stderr: Some(Box::new(Output::new(io::stderr().as_fd())?)),
    })
}

/// The machine's end when its process could not be started, or followed to its end.
pub fn ending_of(error: &AgentError) -> Ending {
    match error {
        AgentError::Conversation(ConnectionError::Refused(reply)) => not_started(reply),
        AgentError::Conversation(ConnectionError::Closed | ConnectionError::Io(_)) => Ending::AgentGone,
        _ => Ending::Agent { message: ending::chain(error) },
    }
}

/// The machine's end after this refusal.
pub fn not_started(ErrorReply { code, message, .. }: &ErrorReply) -> Ending {
    let status = u8::try_from(code.shell_status()).unwrap_or(u8::MAX);
    Ending::NotStarted { status, message: message.clone() }
}
