//! `kill`: sends a signal to the container's first process, or to all of them.

use supermachine_vmm_api::Request;

use crate::control::{self, ControlError};
use crate::host::process::Process;
use crate::state::{Record, Root, Status};

use super::{VerbError, find};

/// Largest signal number.
const SIGNAL_MAX: u32 = 64;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container.
    pub id: String,
    /// Signal by number or name, with SIG or without.
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
    /// Signal all processes.
    #[arg(long, short)]
    pub all: bool,
}

/// Sends a signal.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    let signal = number(&args.signal)?;
    let found = find(root, &args.id)?;
    match found.status {
        // Nothing is left that could take it, which is what the caller wants.
        Status::Stopped if args.all => return Ok(0),
        Status::Created | Status::Running | Status::Paused => {}
        Status::Stopped | Status::Creating => return Err(VerbError::WrongState("container not running".to_owned())),
    }
    if signal == 0 {
        return Ok(0);
    }
    let request = if args.all { Request::KillAll { signal } } else { Request::Kill { signal } };
    match control::ask(&found.dir, &request) {
        // It ended meanwhile: what would have been told a moment later.
        Err(ControlError::Connect(_)) if !found.dir.is_alive()? => {
            Err(VerbError::WrongState("container not running".to_owned()))
        }
        // A machine that does not listen is ended all the same.
        Err(error) if signal == 9 => end(found.record.as_ref()).then_some(0).ok_or(error.into()),
        Err(error) => Err(error.into()),
        Ok(()) => {
            // Callers take what this signal is sent to for ended at once.
            if let (9, Some(record)) = (signal, &found.record) {
                control::wait_for_end(record);
            }
            Ok(0)
        }
    }
}

fn end(record: Option<&Record>) -> bool {
    let process = record.and_then(|record| record.vmm).and_then(|vmm| Process::find(vmm.pid, vmm.started));
    process.is_some_and(|process| process.signal(9).is_ok())
}

/// A signal's number on Linux.
pub fn number(text: &str) -> Result<u32, VerbError> {
    if let Ok(number) = text.parse::<u32>() {
        let wrong = || VerbError::Argument("unable to signal init: invalid argument".to_owned());
        return (number <= SIGNAL_MAX).then_some(number).ok_or_else(wrong);
    }
    let unknown = || VerbError::Argument(format!("unknown signal {text:?}"));
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).ok_or_else(unknown)
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`, with glibc's range of 34 to 64.
fn real_time(name: &str) -> Option<u32> {
    let distance = |text: &str, sign: char| match text {
        "" => Some(0),
        _ => text.strip_prefix(sign)?.parse::<u32>().ok().filter(|distance| *distance <= 30),
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => distance(rest, '+').map(|distance| 34 + distance),
        (_, Some(rest)) => distance(rest, '-').map(|distance| 64 - distance),
        _ => None,
    }
}

/// Linux, include/uapi/asm-generic/signal.h.
const NAMES: [(&str, u32); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, want) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("0", 0),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-2", 62),
            ("usr1", 10),
        ] {
            assert_eq!(number(text).expect(text), want);
        }
        for (text, word) in [
            ("FOO", "unknown signal \"FOO\""),
            ("99", "invalid argument"),
            ("", "unknown"),
            ("-1", "unknown"),
            ("RTMIN+31", "unknown"),
        ] {
            assert!(number(text).expect_err(text).to_string().contains(word), "{text}");
        }
    }
}
