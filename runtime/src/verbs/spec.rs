//! `spec`: writes a `config.json` to start from.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::VerbError;

/// For a caller who is root.
pub(super) const DEFAULT: &str = include_str!("spec/default.json");
/// For any other: ids are mapped, and nothing is limited. `@UID@` and `@GID@` stand for the caller's.
const ROOTLESS: &str = include_str!("spec/rootless.json");

/// Arguments of `spec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory to write config.json into.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
}

/// Writes the file, which must not be there; gives the exit status.
pub fn run(args: &Args, rootless: bool) -> Result<u8, VerbError> {
    let path = args.bundle.join("config.json");
    match write(&path, &text(rootless)) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(VerbError::Argument(format!("File {} exists. Remove it first", path.display())))
        }
        Err(source) => Err(VerbError::Io { what: "write config.json", source }),
    }
}

fn text(rootless: bool) -> String {
    if !rootless {
        return DEFAULT.to_owned();
    }
    let [uid, gid] = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()].map(|id| id.to_string());
    ROOTLESS.replace("@UID@", &uid).replace("@GID@", &gid)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use supermachine_agent_protocol::container::Namespace;

    use super::*;
    use crate::bundle::Bundle;
    use crate::plan::{self, GuestArch, PlanSettings};

    fn planned(rootless: bool) -> plan::Plan {
        let bundle = Bundle::parse("/bundle".into(), text(rootless).as_bytes()).expect("a bundle");
        let settings = PlanSettings {
            id: "x".to_owned(),
            systemd_cgroup: false,
            rootless,
            arch: GuestArch::X86_64,
            host_memory_mib: None,
        };
        plan::plan(&bundle, &settings).expect("a plan")
    }

    #[test]
    fn what_is_written_can_be_run() {
        let plan = planned(false);
        assert!(plan.terminal && plan.container.root.read_only && plan.warnings.is_empty(), "{:?}", plan.warnings);
        assert_eq!(plan.rootfs, Path::new("/bundle/rootfs"));
        assert!(!plan.container.namespaces.contains(&Namespace::User));
        let plan = planned(true);
        assert!(plan.container.namespaces.contains(&Namespace::User) && plan.container.uid_mappings.len() == 1);
        assert!(plan.binds.is_empty(), "{:?}", plan.binds);
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let args = Args { bundle: dir.path().to_owned() };
        assert!(run(&args, false).is_ok());
        let error = run(&args, false).expect_err("it exists");
        assert!(error.to_string().contains("exists. Remove it first"), "{error}");
        let written = std::fs::read_to_string(dir.path().join("config.json")).expect("the file");
        assert_eq!(written, DEFAULT);
    }
}
