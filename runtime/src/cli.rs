//! The command line: global options as runc and crun have them, and a verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::logging::Format;
use crate::paths;
use crate::state::Root;
use crate::verbs;

/// An OCI runtime whose containers are microVMs.
#[derive(Debug, Parser)]
#[command(name = "supermachine-runtime", version = VERSION, disable_version_flag = true)]
pub struct Cli {
    /// Options of all verbs.
    #[command(flatten)]
    pub globals: Globals,
    /// Print the version.
    #[arg(long, short = 'v', action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// As runc's, line by line: callers read it.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// Newest version of the OCI runtime specification that is understood.
pub const SPEC_VERSION: &str = "1.3.0";

/// Options of all verbs; they may stand before the verb or behind it.
#[derive(Debug, Args)]
pub struct Globals {
    /// Directory of the containers' states.
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File for log lines instead of standard error.
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of log lines.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// Log everything.
    #[arg(long, global = true)]
    pub debug: bool,
    /// Take `linux.cgroupsPath` as `slice:prefix:name`, as systemd names control groups.
    #[arg(long, global = true)]
    systemd_cgroup: bool,
    /// The same, as crun names it.
    #[arg(long, global = true, value_enum, value_name = "NAME")]
    cgroup_manager: Option<CgroupManager>,
    /// Whether the caller is not root.
    #[arg(long, global = true, value_enum, default_value_t = Rootless::Auto)]
    rootless: Rootless,
    /// Accepted and not used: nothing is checkpointed with CRIU.
    #[arg(long, global = true, value_name = "PATH", hide = true)]
    criu: Option<PathBuf>,
}

/// Who manages control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

/// Whether the caller is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rootless {
    #[value(alias = "1")]
    True,
    #[value(alias = "0")]
    False,
    Auto,
}

impl Globals {
    /// The directory of all containers.
    pub fn root(&self) -> std::io::Result<Root> {
        let path = self.root.clone().unwrap_or_else(paths::default_root);
        Ok(Root::new(std::path::absolute(path)?))
    }

    /// Whether control groups are named as systemd does.
    pub fn systemd_cgroup(&self) -> bool {
        self.systemd_cgroup || self.cgroup_manager == Some(CgroupManager::Systemd)
    }

    /// Whether the caller is not root.
    pub fn rootless(&self) -> bool {
        match self.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => !nix::unistd::geteuid().is_root(),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a container
    Create(verbs::create::Args),
    /// Start a created container
    Start(verbs::OneId),
    /// Create a container and start it
    Run(verbs::run::Args),
    /// Print the state of a container
    State(verbs::OneId),
    /// Send a signal to a container
    Kill(verbs::kill::Args),
    /// Remove a container
    Delete(verbs::delete::Args),
    /// List containers
    List(verbs::list::Args),
    /// Stop a container's machine for a while
    Pause(verbs::OneId),
    /// Let a paused container go on
    Resume(verbs::OneId),
    /// Run another process in a container
    Exec(verbs::exec::Args),
    /// Stand for a detached process; started by exec only
    #[command(hide = true)]
    ExecRelay(verbs::exec::detached::RelayArgs),
    /// List the processes of a container
    Ps(verbs::ps::Args),
    /// Print what a container uses
    Events(verbs::events::Args),
    /// Change the limits of a container
    Update(verbs::update::Args),
    /// Write a config.json to start from
    Spec(verbs::spec::Args),
    /// Make bundles
    Bundle(verbs::bundle::Args),
    /// List, verify and prune the layers that containers share
    Layers(verbs::layers::Args),
    /// Print what this runtime can do
    Features,
    /// List, prune, verify or bake the machines that containers start from
    Templates(verbs::templates::Args),
    /// Save a running container into a directory
    Checkpoint(verbs::checkpoint::Args),
    /// Let a container go on from a checkpoint
    Restore(verbs::restore::Args),
}

impl Verb {
    /// What an error of it begins with, as runc's do.
    pub fn error_prefix(&self) -> &'static str {
        match self {
            Self::Create(_) => "create failed: ",
            Self::Run(_) => "run failed: ",
            Self::Exec(_) => "exec failed: ",
            _ => "",
        }
    }

    /// Exit status of a failure.
    pub fn failure_status(&self) -> u8 {
        if matches!(self, Self::Exec(_) | Self::ExecRelay(_)) { u8::MAX } else { 1 }
    }

    /// Does it; gives the exit status.
    ///
    /// # Errors
    /// Whatever stopped it, for people.
    pub fn run(self, globals: &Globals) -> Result<u8, verbs::VerbError> {
        let root = globals.root().map_err(verbs::VerbError::Directory)?;
        match self {
            Self::Create(args) => verbs::create::run(&root, globals, &args),
            Self::Start(args) => verbs::start::run(&root, &args.id),
            Self::Run(args) => verbs::run::run(&root, globals, &args),
            Self::State(args) => verbs::state::run(&root, &args.id),
            Self::Kill(args) => verbs::kill::run(&root, &args),
            Self::Delete(args) => verbs::delete::run(&root, &args),
            Self::List(args) => verbs::list::run(&root, &args),
            Self::Pause(args) => verbs::pause::pause(&root, &args.id),
            Self::Resume(args) => verbs::pause::resume(&root, &args.id),
            Self::Exec(args) => verbs::exec::run(&root, globals, &args),
            Self::ExecRelay(args) => verbs::exec::detached::relay(&root, &args),
            Self::Ps(args) => verbs::ps::run(&root, &args),
            Self::Events(args) => verbs::events::run(&root, &args),
            Self::Update(args) => verbs::update::run(&root, &args),
            Self::Spec(args) => verbs::spec::run(&args, globals.rootless == Rootless::True),
            Self::Bundle(args) => verbs::bundle::run(&args),
            Self::Layers(args) => verbs::layers::run(&args),
            Self::Features => verbs::features::run(),
            Self::Templates(args) => verbs::templates::run(&args),
            Self::Checkpoint(args) => verbs::checkpoint::run(&root, &args),
            Self::Restore(args) => verbs::restore::run(&root, globals, &args),
        }
    }
}
