//! `create`: from a bundle to a container that waits for its start.

use std::path::PathBuf;

use crate::cli::Globals;
use crate::create::{self, Order, Terminal};
use crate::state::Root;

use super::VerbError;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments that `run` has too.
    #[command(flatten)]
    pub common: Common,
}

/// What `create` and `run` share.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// The new container's name.
    pub id: String,
    /// Directory of the bundle.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Configuration instead of the bundle's `config.json`.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File for the process id.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Number of further descriptors to pass on: only 0 is possible.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted and not used: the root is always pivoted in the guest.
    #[arg(long)]
    no_pivot: bool,
    /// Accepted and not used: the guest has a kernel of its own.
    #[arg(long)]
    no_new_keyring: bool,
}

impl Common {
    /// What is to be created.
    pub fn order<'a>(&'a self, globals: &Globals, terminal: Terminal<'a>) -> Result<Order<'a>, VerbError> {
        if self.preserve_fds > 0 {
            let message = "--preserve-fds: descriptors of the host cannot be passed into a virtual machine";
            return Err(VerbError::Argument(message.to_owned()));
        }
        Ok(Order {
            id: &self.id,
            bundle: &self.bundle,
            config: self.config.as_deref(),
            terminal,
            pid_file: self.pid_file.as_deref(),
            systemd_cgroup: globals.systemd_cgroup(),
            rootless: globals.rootless(),
        })
    }
}

/// Creates a container.
pub fn run(root: &Root, globals: &Globals, args: &Args) -> Result<u8, VerbError> {
    let terminal = Terminal::Own(args.common.console_socket.as_deref());
    create::create(root, &args.common.order(globals, terminal)?)?;
    Ok(0)
}
