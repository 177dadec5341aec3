//! A process of the container joined to this process: its streams, its terminal, its signals, its exit status.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use supermachine_agent_protocol::WindowSize;
use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_vmm_api::terminal::{self, RawMode};
use supermachine_vmm_api::{Input, Output, Relay, Sender, Streams};

/// Size of a terminal that does not tell its own.
const SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };
/// Signals that go on to the process.
const FORWARDED: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGWINCH,
];

/// Errors of a relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// This process lacks something.
    #[error("cannot join the process's streams")]
    Streams(#[source] io::Error),
    /// The machine or the process's connection ended first.
    #[error("the container's machine ended before the process did")]
    Connection(#[source] ConnectionError),
}

/// Blocks the signals that are passed on, in this thread and those it starts; before the process exists, so that none
/// of them is lost.
pub fn hold_signals() -> io::Result<SigSet> {
    let signals: SigSet = FORWARDED.into_iter().collect();
    signals.thread_block()?;
    Ok(signals)
}

/// The size for the process's terminal: that of this process's.
pub fn window_size() -> WindowSize {
    let known = |size: &WindowSize| size.rows > 0 && size.cols > 0;
    terminal::size(io::stdin().as_fd()).filter(known).unwrap_or(SIZE)
}

/// Joins a started process until it ends; gives its status as a shell does.
pub fn run(
    (reader, writer): (FrameReader<UnixStream>, FrameWriter<UnixStream>),
    signals: SigSet,
    has_terminal: bool,
) -> Result<u8, RelayError> {
    let stream = writer.get_ref();
    for unlimited in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
        unlimited(stream, None).map_err(RelayError::Streams)?;
    }
    let raw = if has_terminal { RawMode::enter(io::stdin().as_fd()).map_err(RelayError::Streams)? } else { None };
    let streams = Streams {
        stdin: Some(Input::new(io::stdin().as_fd()).map_err(RelayError::Streams)?),
        stdout: Some(Box::new(Output::new(io::stdout().as_fd()).map_err(RelayError::Streams)?)),
        stderr: Some(Box::new(Output::new(io::stderr().as_fd()).map_err(RelayError::Streams)?)),
    };
    let relay = Relay::start(reader, Sender::new(writer), streams).map_err(RelayError::Streams)?;
    forward(signals, relay.sender(), has_terminal).map_err(RelayError::Streams)?;
    let ended = relay.wait().map_err(RelayError::Connection);
    drop(raw);
    Ok(u8::try_from(ended?.shell_status()).unwrap_or(u8::MAX))
}

/// Passes signals on until this process ends.
fn forward(signals: SigSet, sender: Sender, has_terminal: bool) -> io::Result<()> {
    let pass = move || {
        // The terminal may have changed between its start and now.
        if has_terminal {
            sender.resize(window_size());
        }
        while let Ok(signal) = signals.wait() {
            let goes_on = match signal {
                Signal::SIGWINCH if has_terminal => sender.resize(window_size()),
                Signal::SIGWINCH => true,
                other => sender.signal((other as i32).unsigned_abs()),
            };
            if !goes_on {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(pass)?;
    Ok(())
}
