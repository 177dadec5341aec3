//! PID 1 of the guest: mounts, starts the agent, reaps, powers off.
//!
//! As little as possible happens before the agent runs, for every container waits for that. The rest of the guest
//! is set up while the agent opens its socket. When the agent ends, so does the guest.

mod agent;
mod console;
mod error;
mod mounts;
mod power;
mod settings;
mod supervise;

use std::process::ExitCode;

use error::InitError;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("supermachine-guest-init: it is PID 1 of a guest and does nothing else");
        return ExitCode::FAILURE;
    }
    match run() {
        Ok(end) => console::line(&format!("agent ended: {end}")),
        Err(error) => console::line(&format!("guest start failed: {error}")),
    }
    power::off()
}

fn run() -> Result<supervise::End, InitError> {
    supervise::block_signals()?;
    mounts::mount_all()?;
    settings::before_agent()?;
    let agent = agent::start()?;
    settings::after_agent()?;
    supervise::until_end(agent)
}
