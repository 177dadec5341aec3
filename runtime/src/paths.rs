//! Where things are: state, data, the vmm's program, the guest's kernel and initramfs.

use std::env;
use std::path::{Path, PathBuf};

/// Errors with parts that are not where they should be.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// A part of the installation is missing.
    #[error(
        "cannot find the {part}; searched {}; `make install` puts it there, {variable} names another",
        list(searched)
    )]
    Missing {
        /// What it is.
        part: &'static str,
        /// The environment variable that names one.
        variable: &'static str,
        /// All places.
        searched: Vec<PathBuf>,
    },
    /// A variable that names nothing.
    #[error("{variable}: there is no file {}", path.display())]
    Variable {
        /// The environment variable.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Directory of all containers' states unless `--root` names one.
pub fn default_root() -> PathBuf {
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) if !is_root() => dir.join("supermachine"),
        _ => "/run/supermachine".into(),
    }
}

/// Directory of images and templates, absolute: `SUPERMACHINE_DATA`, `/var/lib/supermachine`, or the user's own. Vmms and
/// later verbs have other working directories.
pub fn data_dir() -> PathBuf {
    let dir = named_data_dir();
    std::path::absolute(&dir).unwrap_or(dir)
}

fn named_data_dir() -> PathBuf {
    if let Some(dir) = variable("SUPERMACHINE_DATA") {
        return dir;
    }
    let own = || variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    match own() {
        Some(dir) if !is_root() => dir.join("supermachine"),
        _ => "/var/lib/supermachine".into(),
    }
}

/// Directory of the layer store.
pub fn layers_dir() -> PathBuf {
    data_dir().join("layers")
}

/// The parts that a machine is started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The vmm's program.
    pub vmm: PathBuf,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The guest's initramfs.
    pub initramfs: PathBuf,
}

impl Parts {
    /// Finds them: named by environment variables, beside this program, in the system's places.
    pub fn find() -> Result<Self, PathError> {
        let exe = env::current_exe().ok();
        let dir = exe.as_deref().and_then(Path::parent);
        let beside = |relative: &str| dir.map(|dir| dir.join(relative));
        let mut programs: Vec<_> = [beside("supermachine-vmm"), beside("../libexec/supermachine/supermachine-vmm")]
            .into_iter()
            .flatten()
            .collect();
        let path = env::var_os("PATH").unwrap_or_default();
        programs.extend(env::split_paths(&path).map(|dir| dir.join("supermachine-vmm")));
        let guest = |name: &str| -> Vec<PathBuf> {
            let system = ["/usr/local/lib/supermachine", "/usr/lib/supermachine"].map(|dir| Path::new(dir).join(name));
            beside("../lib/supermachine").map(|dir| dir.join(name)).into_iter().chain(system).collect()
        };
        Ok(Self {
            vmm: first("vmm's program", "SUPERMACHINE_VMM", programs)?,
            kernel: first("guest's kernel", "SUPERMACHINE_KERNEL", guest("kernel"))?,
            initramfs: first("guest's initramfs", "SUPERMACHINE_INITRAMFS", guest("initramfs"))?,
        })
    }
}

fn first(part: &'static str, name: &'static str, searched: Vec<PathBuf>) -> Result<PathBuf, PathError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Some(path) = variable(name) {
        return if path.is_file() { Ok(absolute(&path)) } else { Err(PathError::Variable { variable: name, path }) };
    }
    match searched.iter().find(|path| path.is_file()) {
        Some(path) => Ok(absolute(path)),
        None => Err(PathError::Missing { part, variable: name, searched }),
    }
}
