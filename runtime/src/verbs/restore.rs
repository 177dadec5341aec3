//! `restore`: a container that goes on where a checkpoint left it.

use std::path::PathBuf;

use crate::checkpoint::Image;
use crate::cli::Globals;
use crate::create::{self, Order, Terminal};
use crate::state::Root;

use super::checkpoint::{DEFAULT_IMAGE, Shared};
use super::{VerbError, run};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new container's name.
    id: String,
    /// Directory with the image.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_IMAGE)]
    image_path: PathBuf,
    /// Directory of the bundle.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File for the process id.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not wait for its end.
    #[arg(long, short)]
    detach: bool,
    /// Accepted and not used: nothing is re-parented to this process.
    #[arg(long)]
    no_subreaper: bool,
    /// Accepted and not used: the root was pivoted in the guest.
    #[arg(long)]
    no_pivot: bool,
    /// Refused: an image is whole.
    #[arg(long)]
    lazy_pages: bool,
    /// Refused: the guest has no security module of the host's.
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Refused, as `--lsm-profile`.
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// What `checkpoint` takes as well.
    #[command(flatten)]
    _shared: Shared,
}

/// Restores a container; unless detached the status is its own.
pub fn run(root: &Root, globals: &Globals, args: &Args) -> Result<u8, VerbError> {
    let refused = [
        (args.lazy_pages, "--lazy-pages: an image is read at once"),
        (args.lsm_profile.is_some(), "--lsm-profile: the container runs under the guest's own kernel"),
        (args.lsm_mount_context.is_some(), "--lsm-mount-context: the container runs under the guest's own kernel"),
    ];
    if let Some((_, why)) = refused.into_iter().find(|(asked, _)| *asked) {
        return Err(VerbError::Argument(why.to_owned()));
    }
    let folder = std::path::absolute(&args.image_path).map_err(VerbError::Directory)?;
    let socket = args.console_socket.as_deref();
    let order = Order {
        id: &args.id,
        bundle: &args.bundle,
        config: None,
        terminal: if args.detach || socket.is_some() { Terminal::Own(socket) } else { Terminal::Callers },
        pid_file: args.pid_file.as_deref(),
        systemd_cgroup: globals.systemd_cgroup(),
        rootless: globals.rootless(),
    };
    let image = Image::open(&folder)?;
    if args.detach {
        create::restore(root, &order, image)?;
        return Ok(0);
    }
    run::attended(false, || Ok(create::restore(root, &order, image)?), run::unlocked)
}
