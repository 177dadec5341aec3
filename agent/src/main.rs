//! The guest's process server: runs what the host asks for over vsock.
//!
//! One thread, one epoll loop: a connection is a small state machine, and nothing a peer sends ends more than
//! its own connection. See `docs/agent-protocol.md`.

mod attributes;
mod connection;
mod container;
mod error;
mod identity;
mod limits;
mod log;
mod mount;
mod outbox;
mod poller;
mod process;
mod reply;
mod server;
mod socket;
mod spawn;
mod sys;

use std::process::ExitCode;

use error::AgentError;
use server::Server;
use socket::Address;

const USAGE: &str = "usage: supermachine-agent [--listen vsock:PORT | --listen unix:PATH]";

fn main() -> ExitCode {
    match address(std::env::args().skip(1)).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn address(mut args: impl Iterator<Item = String>) -> Result<Address, AgentError> {
    let mut address = Address::default();
    while let Some(arg) = args.next() {
        address = match (arg.as_str(), args.next()) {
            ("--listen", Some(value)) => value.parse()?,
            _ => return Err(AgentError::Usage { usage: USAGE }),
        };
    }
    Ok(address)
}

fn serve(address: Address) -> Result<(), AgentError> {
    sys::drop_inheritance();
    limits::raise_own();
    // Elsewhere than in a guest the control groups are somebody's.
    let is_guest = matches!(address, Address::Vsock { .. });
    let prepared = if is_guest { container::prepare() } else { container::Prepared::default() };
    let server = Server::new(&address, prepared)?;
    log::info(&format!("listening on {address}"));
    server.run()
}
