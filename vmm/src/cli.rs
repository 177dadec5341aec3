//! The command line of `supermachine-vmm`.

use std::os::fd::{AsFd, RawFd};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use supermachine_agent_protocol::spec::DEFAULT_PATH;
use supermachine_agent_protocol::{Exec, User, WindowSize};
use supermachine_vmm_api::terminal;

use crate::choose::{self, Choice};
use crate::logging::Format;
use crate::root::ROOT;
use crate::settings::{Disk, Settings};

/// One microVM: boots a kernel and runs a command in it; its exit status is the command's.
#[derive(Debug, Parser)]
#[command(name = "supermachine-vmm", version)]
pub struct Cli {
    /// Kernel: vmlinux (ELF) or bzImage.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["restore", "probe"])]
    kernel: Option<PathBuf>,
    /// Initial RAM file system with guest-init and the agent.
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// Words to add to the kernel command line.
    #[arg(long, value_name = "WORDS", default_value = "")]
    cmdline: String,
    /// Guest RAM: bytes, or with suffix K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    memory: Size,
    /// Number of vCPUs.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    vcpus: u32,
    /// A disk image, read-only unless `:rw` follows; `none` for an empty device, writable unless `:ro` follows. May be
    /// given several times.
    #[arg(long = "disk", value_name = "FILE[:ro|:rw]|none[:ro]")]
    disks: Vec<DiskArg>,
    /// Give the machine the devices of a container, which `create` fills: eight empty disks and one for shared directories.
    #[arg(long, conflicts_with_all = ["disks", "root_disk", "command"])]
    container: bool,
    /// Make disk N, a squashfs image, the root of the command.
    #[arg(long, value_name = "N")]
    root_disk: Option<usize>,
    /// Unix socket to take control requests on.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Descriptor of an inherited, connected Unix stream socket that is a control client from the start. If it closes
    /// before a container was made, the machine ends.
    #[arg(long, value_name = "N")]
    control_fd: Option<RawFd>,
    /// Descriptor of an inherited `/dev/fuse`, mounted as the root of this process's mount namespace: the container's
    /// files are served there.
    #[arg(long, value_name = "N")]
    view_fd: Option<RawFd>,
    /// Append log lines, and what else would be said on stderr, to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How lines of the log file look: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Unix socket for connections to vsock ports of the guest; calls of the guest to port N go to `PATH_N`.
    #[arg(long, value_name = "PATH")]
    vsock: Option<PathBuf>,
    /// Back end: auto, kvm, hvf or soft.
    #[arg(long, value_name = "NAME", env = choose::ENVIRONMENT, default_value = "auto")]
    hypervisor: Choice,
    /// Go on from a snapshot instead of a boot: RAM, vCPUs and devices are the saved ones, disks are bound to them in
    /// order.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kernel", "root_disk", "bake"])]
    restore: Option<PathBuf>,
    /// The snapshot that the one to go on from lies on, if it is a diff.
    #[arg(long, value_name = "DIR", requires = "restore")]
    base: Option<PathBuf>,
    /// Keep decoded code beside the snapshot to go on from, for the next machine.
    #[arg(long, requires = "restore")]
    keep: bool,
    /// Boot, save the machine to this directory, which is made, and end.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    bake: Option<PathBuf>,
    /// A part of the key that the saved machine is for. May be given several times.
    #[arg(long = "key", value_name = "NAME=VALUE", requires = "bake", value_parser = key_part)]
    key: Vec<(String, String)>,
    /// Print the name of the back end that the machine would run on, then that of its CPU model, and end.
    #[arg(long)]
    probe: bool,
    /// The back end was probed since this host booted, and was good: KVM is opened and not timed again.
    #[arg(long, conflicts_with = "probe")]
    probed: bool,
    /// CPU model that the guest sees: soft-v1 or soft-v2, on the soft back end only.
    #[arg(long, value_name = "NAME")]
    cpu_model: Option<String>,
    /// Print the guest kernel's console on stderr.
    #[arg(long)]
    console: bool,
    /// Give the command a terminal.
    #[arg(long)]
    tty: bool,
    /// An environment variable for the command. May be given several times.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory of the command.
    #[arg(long, value_name = "DIR", default_value = "/")]
    cwd: String,
    /// User and group ids of the command.
    #[arg(long, value_name = "UID[:GID]", default_value = "0:0")]
    user: UserArg,
    /// The command to run in the guest.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Cli {
    /// The inherited control connection, if there is one.
    pub fn control_fd(&self) -> Option<RawFd> {
        self.control_fd
    }

    /// The inherited device of the container's files, if there is one.
    pub fn view_fd(&self) -> Option<RawFd> {
        self.view_fd
    }

    /// The back end to look for, if that is all that is asked.
    pub fn probe(&self) -> Option<Choice> {
        self.probe.then_some(self.hypervisor)
    }

    /// Whether the machine comes from a snapshot.
    pub fn restores(&self) -> bool {
        self.restore.is_some()
    }

    /// Where log lines go and how they look there; stderr without a file.
    pub fn log(&self) -> Option<(PathBuf, Format)> {
        self.log.clone().map(|path| (path, self.log_format))
    }
}

impl From<Cli> for Settings {
    fn from(cli: Cli) -> Self {
        let main = (!cli.command.is_empty()).then(|| Exec {
            env: environment(cli.env, cli.tty),
            cwd: cli.cwd,
            user: cli.user.0,
            tty: cli.tty.then(|| terminal::size(std::io::stdin().as_fd()).unwrap_or(WindowSize { rows: 24, cols: 80 })),
            stdin: true,
            root: cli.root_disk.map(|_| ROOT.to_owned()),
            ..Exec::new(cli.command)
        });
        Self {
            kernel: cli.kernel.unwrap_or_default(),
            initramfs: cli.initramfs,
            cmdline: cli.cmdline,
            memory_bytes: cli.memory.0,
            vcpus: cli.vcpus,
            disks: match cli.container {
                true => Disk::of_container(),
                false => cli.disks.into_iter().map(|disk| disk.0).collect(),
            },
            shares: cli.container,
            root_disk: cli.root_disk,
            control: cli.control,
            inherits_control: cli.control_fd.is_some(),
            vsock: cli.vsock,
            hypervisor: cli.hypervisor,
            probed: cli.probed,
            cpu_model: cli.cpu_model,
            console: cli.console,
            main,
            restore: cli.restore,
            base: cli.base,
            keep: cli.keep,
            bake: cli.bake,
            key: cli.key.into_iter().collect(),
        }
    }
}

/// The command's environment: `PATH`, and `TERM` with a terminal, unless the user says otherwise.
fn environment(given: Vec<String>, tty: bool) -> Vec<String> {
    let mut env = given;
    let mut default = |name: &str, value: String| {
        if !env.iter().any(|entry| entry.split('=').next() == Some(name)) {
            env.push(format!("{name}={value}"));
        }
    };
    default("PATH", DEFAULT_PATH.to_owned());
    if tty {
        default("TERM", std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned()));
    }
    env
}

/// An argument that does not parse.
#[derive(Debug, thiserror::Error)]
enum ArgError {
    #[error("{0:?} is not a size: give bytes, or a number with K, M or G")]
    Size(String),
    #[error("{0:?} is not UID or UID:GID, both numbers")]
    User(String),
    #[error("{0:?} is not NAME=VALUE")]
    Key(String),
    #[error("an empty file name")]
    Disk,
}

fn key_part(text: &str) -> Result<(String, String), ArgError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ArgError::Key(text.to_owned()))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Clone, Copy)]
struct Size(u64);

impl FromStr for Size {
    type Err = ArgError;

    fn from_str(text: &str) -> Result<Self, ArgError> {
        let bad = || ArgError::Size(text.to_owned());
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: u64 = match text.get(digits.len()..) {
            Some("") => 1,
            Some("K" | "k") => 1 << 10,
            Some("M" | "m") => 1 << 20,
            Some("G" | "g") => 1 << 30,
            _ => return Err(bad()),
        };
        let number: u64 = digits.parse().map_err(|_| bad())?;
        number.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

#[derive(Debug, Clone)]
struct UserArg(User);

impl FromStr for UserArg {
    type Err = ArgError;

    fn from_str(text: &str) -> Result<Self, ArgError> {
        let bad = |_| ArgError::User(text.to_owned());
        let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
        let user = User { uid: uid.parse().map_err(bad)?, gid: gid.parse().map_err(bad)?, additional_gids: Vec::new() };
        Ok(Self(user))
    }
}

#[derive(Debug, Clone)]
struct DiskArg(Disk);

impl FromStr for DiskArg {
    type Err = ArgError;

    fn from_str(text: &str) -> Result<Self, ArgError> {
        let (path, read_only) = match (text.strip_suffix(":rw"), text.strip_suffix(":ro")) {
            // What an empty device gets later may be written unless `:ro` follows.
            _ if text == "none" => return Ok(Self(Disk::Empty { read_only: false })),
            (Some(path), _) => (path, false),
            (None, Some(path)) => (path, true),
            (None, None) => (text, true),
        };
        if path == "none" {
            return Ok(Self(Disk::Empty { read_only }));
        }
        if path.is_empty() {
            return Err(ArgError::Disk);
        }
        Ok(Self(Disk::File { path: path.into(), read_only }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Settings {
        Cli::try_parse_from(["supermachine-vmm", "--kernel", "k"].iter().chain(args)).expect("parses").into()
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("4096", 4096), ("64K", 64 << 10), ("256M", 256 << 20), ("2G", 2 << 30)] {
            assert_eq!(text.parse::<Size>().map(|size| size.0).ok(), Some(bytes));
        }
        for text in ["", "M", "1T", "1.5G", "-1", "99999999999999999999", "18446744073709551615G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn disks_are_read_only_unless_told() {
        let settings =
            parse(&["--disk", "a", "--disk", "b:rw", "--disk", "c:ro", "--disk", "none", "--disk", "none:ro"]);
        let file = |path: &str, read_only| Disk::File { path: path.into(), read_only };
        assert_eq!(
            settings.disks,
            [
                file("a", true),
                file("b", false),
                file("c", true),
                Disk::Empty { read_only: false },
                Disk::Empty { read_only: true }
            ]
        );
    }

    #[test]
    fn a_container_has_one_shape() {
        let settings = parse(&["--container"]);
        assert_eq!((settings.disks.len(), settings.shares), (8, true));
        assert_eq!(settings.disks.first(), Some(&Disk::Empty { read_only: true }));
        assert!(settings.disks.iter().skip(1).all(|disk| *disk == Disk::Empty { read_only: false }));
        assert!(Cli::try_parse_from(["supermachine-vmm", "--kernel=k", "--container", "--disk=a"]).is_err());
    }

    #[test]
    fn the_command_gets_a_path_and_keeps_its_own() {
        let main = parse(&["--", "sh", "-c", "x"]).main.expect("a command");
        assert_eq!(main.argv, ["sh", "-c", "x"]);
        assert_eq!(main.env, [format!("PATH={DEFAULT_PATH}")]);
        let main = parse(&["--env", "PATH=/x", "--", "sh"]).main.expect("a command");
        assert_eq!(main.env, ["PATH=/x"]);
    }
}
