//! Signals to the vmm: passed on to the main process, or, where there is none, an orderly end of the machine.

use std::io;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::ending::Ending;
use crate::events::{Event, EventSender};
use crate::life::{Lifecycle, SignalError};
use crate::terminal;

/// Signals with a meaning for the main process. The others keep their default or are the vmm's own.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTERM,
    Signal::SIGWINCH,
];

/// Blocks the signals that [`watch`] takes; call before any thread starts, they inherit it.
pub fn block() -> io::Result<SigSet> {
    let set: SigSet = PASSED_ON.into_iter().collect();
    set.thread_block()?;
    Ok(set)
}

/// Handles the blocked signals on a thread of its own. `ask_to_end` starts an orderly end.
pub fn watch(
    set: SigSet,
    life: Arc<Lifecycle>,
    events: EventSender,
    ask_to_end: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let watch = move || {
        while let Ok(signal) = set.wait() {
            if signal == Signal::SIGWINCH {
                if let Some(size) = terminal::size() {
                    life.send(size);
                }
                continue;
            }
            if let Err(SignalError::NoProcess) = life.signal(signal as i32 as u32) {
                match signal {
                    Signal::SIGINT | Signal::SIGTERM if life.up().is_some() && life.begin_stop() => ask_to_end(),
                    Signal::SIGINT | Signal::SIGTERM => events.send(Event::End(Ending::Killed)),
                    _ => {}
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}
