//! Log lines on stderr, one each, with the level that `SUPERMACHINE_LOG` names (`warn` unless told).

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

/// Environment variable with a level: `off`, `error`, `warn`, `info`, `debug` or `trace`.
pub const ENVIRONMENT: &str = "SUPERMACHINE_LOG";

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = record.level().as_str().to_ascii_lowercase();
        let line = format!("supermachine-vmm: {level}: {}\n", record.args());
        // Nobody is left to tell when stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Installs the logger. A second call changes only the level.
pub fn init() {
    let level = std::env::var(ENVIRONMENT).ok().and_then(|name| name.parse().ok()).unwrap_or(LevelFilter::Warn);
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}
