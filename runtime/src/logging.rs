//! Log lines as runc writes them: to standard error or a file, as text or as JSON.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::time::rfc3339;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`.
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

#[derive(Debug)]
struct Logger {
    /// Standard error without one.
    file: Option<File>,
    format: Format,
}

/// Sets the process's log. Without a file and without `debug` only errors are written, because standard error is the
/// container's in most calls; a terminal gets warnings too.
pub fn init(file: Option<&Path>, format: Format, debug: bool) -> io::Result<()> {
    let open =
        |path: &Path| File::options().append(true).create(true).mode(0o600).custom_flags(libc::O_CLOEXEC).open(path);
    let file = file.map(open).transpose()?;
    let level = match () {
        () if debug => LevelFilter::Debug,
        () if file.is_some() => LevelFilter::Info,
        () if io::stderr().is_terminal() => LevelFilter::Warn,
        () => LevelFilter::Error,
    };
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    if log::set_logger(LOGGER.get_or_init(|| Logger { file, format })).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

/// Tells the error that ends this program: in the log, and with a log file on standard error too.
pub fn fatal(message: &str, has_file: bool) {
    log::error!("{message}");
    if has_file {
        eprintln!("{message}");
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = line(self.format, record.level(), &record.args().to_string(), SystemTime::now());
        // There is no place left to tell that a log line was lost.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

fn line(format: Format, level: Level, message: &str, now: SystemTime) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    match format {
        Format::Text => format!("time=\"{}\" level={level} msg={message:?}\n", rfc3339(now)),
        Format::Json => format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": rfc3339(now)})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_runc_s() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(
            line(Format::Text, Level::Error, "exec: \"x\": not found", now),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"exec: \\\"x\\\": not found\"\n"
        );
        assert_eq!(
            line(Format::Json, Level::Warn, "a \"b\"\n", now),
            "{\"level\":\"warning\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }
}
