//! Signals to the vmm: passed on to the main process, or, where there is none, an orderly end of the machine.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use supermachine_vmm_api::terminal;

use crate::ending::Ending;
use crate::events::{Event, EventSender};
use crate::life::Lifecycle;

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
                if let (Some(size), Some(main)) = (terminal::size(io::stdin().as_fd()), life.main()) {
                    main.resize(size);
                }
                continue;
            }
            if life.main().is_some() {
                // One that has ended takes the machine along, once its output is written.
                let _ = life.signal(signal as i32 as u32);
                continue;
            }
            // A container that is being built has nothing to end in good order.
            let orderly = life.up().is_some() && life.container().state().is_none();
            match signal {
                Signal::SIGINT | Signal::SIGTERM if orderly && life.begin_stop() => ask_to_end(),
                Signal::SIGINT | Signal::SIGTERM => events.send(Event::End(Ending::Killed)),
                _ => {}
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}
