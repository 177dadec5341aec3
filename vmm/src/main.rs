//! `supermachine-vmm`: one microVM; see `supermachine_vmm`.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use log::Level;
use supermachine_agent_protocol::ErrorCode;
use supermachine_vmm::cli::Cli;
use supermachine_vmm::control::Inherited;
use supermachine_vmm::ending::STATUS_SETUP;
use supermachine_vmm::view::View;
use supermachine_vmm::{allocator, choose, logging, run};

fn main() -> ExitCode {
    let started = Instant::now();
    allocator::set_up();
    logging::init();
    match serve(Cli::parse(), started) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            logging::say(Level::Error, &format!("{error:#}"));
            ExitCode::from(STATUS_SETUP)
        }
    }
}

/// Runs the machine to its end and says how that was; gives the exit status.
fn serve(cli: Cli, started: Instant) -> anyhow::Result<u8> {
    if let Some(choice) = cli.probe() {
        let found = choose::open(choice, None)?.capabilities();
        println!("{}\n{}", found.kind, found.cpu_model);
        return Ok(0);
    }
    // First of all, before anything else could have its number.
    let control = cli.control_fd().map(Inherited::adopt).transpose();
    let view = cli.view_fd().map(View::adopt).transpose();
    let log = cli.log().map_or(Ok(()), |(path, format)| logging::write_to(&path, format));
    let control = control.context("--control-fd")?;
    if let Some(control) = &control {
        control.greet().context("--control-fd")?;
    }
    let code = if cli.restores() { ErrorCode::BadSnapshot } else { ErrorCode::Unavailable };
    let tell = |error: anyhow::Error| {
        if let Some(control) = &control {
            control.refuse(code, &format!("{error:#}"));
        }
        error
    };
    log.map_err(|error| tell(error.into()))?;
    let view = view.context("--view-fd").map_err(tell)?;
    let report = run::run(&cli.into(), control.as_ref(), view, started).map_err(|error| tell(error.into()))?;
    if let Some(message) = report.message {
        logging::say(Level::Error, &message);
    }
    for line in report.console {
        logging::say(Level::Info, &format!("console: {line}"));
    }
    Ok(report.status)
}
