//! Lines on standard error, which in the guest is the console.
//!
//! A console byte costs an exit to the vmm, so only errors are written unless `SUPERMACHINE_LOG` is set (a word
//! `SUPERMACHINE_LOG=1` on the kernel command line reaches the environment of PID 1 and with it the agent's).

use std::fmt::Display;
use std::io::Write;

/// Writes a line about a failure.
pub(crate) fn error(what: &dyn Display) {
    line(what);
}

/// Writes a line if `SUPERMACHINE_LOG` is set.
pub(crate) fn info(what: &dyn Display) {
    if std::env::var_os("SUPERMACHINE_LOG").is_some() {
        line(what);
    }
}

fn line(what: &dyn Display) {
    // A console that cannot be written to is no reason to end.
    let _ = writeln!(std::io::stderr(), "supermachine-agent: {what}");
}
