//! `events`: what a container uses, and that it ran out of memory, as lines of JSON in runc's form.

mod stats;

use std::io::{self, Write};
use std::time::Duration;

use nix::poll::PollTimeout;
use serde::Serialize;
use supermachine_agent_protocol::container::Usage;
use supermachine_vmm_api::{Reply, Request};

use crate::control::{self, ControlError};
use crate::host::process::Process;
use crate::state::{Root, Status};

use super::{Found, VerbError, find};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container.
    id: String,
    /// Time between two lines, for example 5s, 500ms or 1m.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: String,
    /// One line, now.
    #[arg(long)]
    stats: bool,
}

/// A line.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<stats::Stats>,
}

/// Prints what a container uses, once or until it ends.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    let interval = interval(&args.interval)?;
    let found = find(root, &args.id)?;
    if matches!(found.status, Status::Stopped | Status::Creating) {
        return Err(VerbError::WrongState(format!("container with id {} is not running", args.id)));
    }
    if args.stats {
        return print("stats", &args.id, Some(stats::Stats::from(&usage(&found)?))).map(|_| 0);
    }
    let vmm = found.record.as_ref().and_then(|record| record.vmm);
    let Some(process) = vmm.and_then(|vmm| Process::find(vmm.pid, vmm.started)) else { return Ok(0) };
    let timeout = PollTimeout::try_from(interval).unwrap_or(PollTimeout::MAX);
    let mut killed = None;
    loop {
        // A paused container has no news; one that has just ended has none any more.
        match usage(&found) {
            Ok(usage) => {
                let now = stats::oom_kills(&usage);
                let oom = killed.is_some_and(|before| now > before);
                killed = Some(now);
                let read = (!oom || print("oom", &args.id, None)?)
                    && print("stats", &args.id, Some(stats::Stats::from(&usage)))?;
                if !read {
                    return Ok(0);
                }
            }
            Err(error) => log::debug!("no statistics: {}", super::chain(&error)),
        }
        if process.wait(timeout).map_err(|source| VerbError::Io { what: "wait for the container's end", source })? {
            return Ok(0);
        }
    }
}

fn usage(found: &Found) -> Result<Usage, VerbError> {
    match control::connect(&found.dir)?.request(&Request::Usage {}).map_err(ControlError::from)? {
        Reply::Usage(usage) => Ok(*usage),
        other => Err(ControlError::Unexpected(Box::new(other)).into()),
    }
}

/// Prints a line; `false` if nobody reads it any more.
fn print(kind: &str, id: &str, data: Option<stats::Stats>) -> Result<bool, VerbError> {
    let io_error = |source| VerbError::Io { what: "print an event", source };
    let line = serde_json::to_string(&Event { kind, id, data }).map_err(|error| io_error(error.into()))?;
    match writeln!(io::stdout(), "{line}") {
        // Who has seen enough closes the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).map_err(io_error),
    }
}

/// A time as Go writes it: numbers with units, one after the other.
fn interval(text: &str) -> Result<Duration, VerbError> {
    let wrong = || VerbError::Argument(format!("--interval: {text:?} is no time: give for example 5s, 500ms or 1m"));
    let (mut rest, mut total_ms) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest.get(..digits).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        rest = rest.get(digits..).unwrap_or_default();
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match rest.get(..letters) {
            Some("ms") => 1.0,
            Some("s") => 1_000.0,
            Some("m") => 60_000.0,
            Some("h") => 3_600_000.0,
            _ => return Err(wrong()),
        };
        total_ms += number * factor;
        rest = rest.get(letters..).unwrap_or_default();
    }
    let duration = Duration::try_from_secs_f64(total_ms / 1_000.0).map_err(|_| wrong())?;
    if duration < Duration::from_millis(1) {
        return Err(VerbError::Argument("duration interval must be greater than 0".to_owned()));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_in_go() {
        for (text, ms) in
            [("5s", 5_000), ("500ms", 500), ("1m", 60_000), ("1m30s", 90_000), ("1.5s", 1_500), ("1h", 3_600_000)]
        {
            assert_eq!(interval(text).expect(text), Duration::from_millis(ms));
        }
        for text in ["", "0s", "5", "s", "-1s", "5 s", "1x"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
