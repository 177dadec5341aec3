//! `supermachine-vmm`: one microVM; see `supermachine_vmm`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use supermachine_vmm::cli::Cli;
use supermachine_vmm::ending::{self, STATUS_SETUP};
use supermachine_vmm::settings::Settings;
use supermachine_vmm::{logging, run};

fn main() -> ExitCode {
    let started = Instant::now();
    logging::init();
    let settings = Settings::from(Cli::parse());
    match run::run(&settings, started) {
        Ok(report) => {
            if let Some(message) = report.message {
                eprintln!("supermachine-vmm: {message}");
            }
            for line in report.console {
                eprintln!("  console: {line}");
            }
            ExitCode::from(report.status)
        }
        Err(error) => {
            eprintln!("supermachine-vmm: {}", ending::chain(&error));
            ExitCode::from(STATUS_SETUP)
        }
    }
}
