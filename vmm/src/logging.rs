//! Log lines, one each, with the level that `SUPERMACHINE_LOG` names (`warn` unless told): on stderr, or in a file, so
//! that the container's own stderr carries nothing but its own.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Environment variable with a level: `off`, `error`, `warn`, `info`, `debug` or `trace`.
pub const ENVIRONMENT: &str = "SUPERMACHINE_LOG";

/// How lines of a log file look; both as other container tools write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=warning msg="…"`.
    Text,
    /// `{"level":"warning","msg":"…","time":"…"}`.
    Json,
}

/// A name that is no format.
#[derive(Debug, thiserror::Error)]
#[error("unknown log format {0:?}: use text or json")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

/// A log file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("log {}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

struct Logger;

/// The log file; stderr without one.
static FILE: OnceLock<(File, Format)> = OnceLock::new();

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args().to_string();
        match FILE.get() {
            Some((file, format)) => append(file, *format, record.level(), &message),
            None => complain(&format!("{}: {message}", record.level().as_str().to_ascii_lowercase())),
        }
    }

    fn flush(&self) {}
}

/// Installs the logger, which writes to stderr at first.
pub fn init() {
    let level = std::env::var(ENVIRONMENT).ok().and_then(|name| name.parse().ok()).unwrap_or(LevelFilter::Warn);
    // A second call changes only the level.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}

/// Has everything written to the end of this file from now on, a panic's message too. A symbolic link is not followed.
///
/// # Errors
/// It cannot be opened.
pub fn write_to(path: &Path, format: Format) -> Result<(), LogError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY);
    let file = options.open(path).map_err(|source| LogError { path: path.to_owned(), source })?;
    // The first file stays.
    let _ = FILE.set((file, format));
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

/// Whether there is a log file.
pub fn has_file() -> bool {
    FILE.get().is_some()
}

/// Says something whatever the level: how the vmm ended, and the guest's console.
pub fn say(level: Level, message: &str) {
    match FILE.get() {
        Some((file, format)) => append(file, *format, level, message),
        None => complain(message),
    }
}

fn complain(message: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = io::stderr().write_all(format!("supermachine-vmm: {message}\n").as_bytes());
}

fn append(mut file: &File, format: Format, level: Level, message: &str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = rfc3339(since.as_secs(), since.subsec_millis());
    // One write a line: lines of several threads and processes do not mix. A full disk is no reason to end.
    let _ = file.write_all(line(format, level, &time, message).as_bytes());
}

fn line(format: Format, level: Level, time: &str, message: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
        Format::Json => {
            let mut line = serde_json::json!({ "level": level, "msg": message, "time": time }).to_string();
            line.push('\n');
            line
        }
    }
}

/// Time since 1970 as RFC 3339 has it, in UTC.
fn rfc3339(secs: u64, millis: u32) -> String {
    let (mut days, second) = (secs / 86_400, secs % 86_400);
    let mut year = 1970;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    let mut time = format!("{year:04}-{month:02}-{:02}", days + 1);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    // Writing to a string cannot fail.
    let _ = write!(time, "T{hour:02}:{minute:02}:{:02}.{millis:03}Z", second % 60);
    time
}

fn days_of_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_200, "2024-03-01T00:00:00.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(rfc3339(secs, 7), text);
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        let message = "two\nlines \"quoted\" \u{1b}";
        let text = line(Format::Text, Level::Warn, "T", message);
        assert_eq!(text, "time=\"T\" level=warning msg=\"two\\nlines \\\"quoted\\\" \\u{1b}\"\n");
        let json: serde_json::Value =
            serde_json::from_str(&line(Format::Json, Level::Error, "T", message)).expect("JSON");
        assert_eq!(json, serde_json::json!({ "level": "error", "msg": message, "time": "T" }));
    }
}
