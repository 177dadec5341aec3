//! Joins a control client to a process in the guest: frames pass both ways, each only if its kind may go that way.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::{FrameError, FrameKind};

use crate::agent::Link;

/// A control client's two directions.
pub type Client = (FrameReader<UnixStream>, FrameWriter<UnixStream>);

/// Passes frames until the process and its streams are at their end, or either side goes away. A client that goes
/// away early takes the process with it: the agent kills what nobody listens to.
pub fn run(client: Client, agent: Link) -> Result<(), ConnectionError> {
    let (from_client, mut to_client) = client;
    let (mut from_agent, to_agent) = (agent.reader, agent.writer);
    let agent_end = to_agent.get_ref().try_clone()?;
    let client_end = to_client.get_ref().try_clone()?;
    let upward = thread::Builder::new().name("relay-in".into()).spawn(move || {
        let (mut from, mut to) = (from_client, to_agent);
        let ended = pass(&mut from, &mut to, is_input);
        // Without its client the process has no use; its connection's end tells the agent.
        let _ = to.get_ref().shutdown(Shutdown::Both);
        ended
    })?;
    let ended = pass(&mut from_agent, &mut to_client, is_output);
    // Both directions are over now; the other thread sees the end of its stream. Either end may be gone already.
    let _ = agent_end.shutdown(Shutdown::Both);
    let _ = client_end.shutdown(Shutdown::Both);
    let _ = upward.join();
    ended
}

fn pass(
    from: &mut FrameReader<UnixStream>,
    to: &mut FrameWriter<UnixStream>,
    may_pass: fn(FrameKind) -> bool,
) -> Result<(), ConnectionError> {
    while let Some(frame) = from.next_frame()? {
        if !may_pass(frame.kind) {
            return Err(FrameError::WrongKind { got: frame.kind, want: FrameKind::Stdin }.into());
        }
        to.send(frame.kind, &frame.payload)?;
    }
    Ok(())
}

fn is_input(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Stdin | FrameKind::Resize | FrameKind::Signal | FrameKind::Window | FrameKind::Close)
}

fn is_output(kind: FrameKind) -> bool {
    matches!(
        kind,
        FrameKind::Stdout
            | FrameKind::Stderr
            | FrameKind::Exit
            | FrameKind::Error
            | FrameKind::Window
            | FrameKind::Close
    )
}
