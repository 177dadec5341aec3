//! `templates`: the machines that containers start from, listed, checked, removed.

mod listing;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use supermachine_snapshot::store::{Kept, Key, Pruned, Store};

use crate::bundle::Bundle;
use crate::create::{self, CreateError, Order, Terminal};
use crate::paths::{self, Parts};
use crate::plan::{self, GuestArch, PlanSettings, VmSize};
use crate::state::Root;
use crate::template::{self, TemplateError};

use super::duration::duration;
use super::list::Format;
use super::{VerbError, chain};

/// Arguments of `templates`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

/// What to do with templates.
#[derive(Debug, Subcommand)]
enum Action {
    /// List them with size, age and what they are for
    List {
        /// Form of the list.
        #[arg(long, short, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Remove those that nobody uses
    Prune {
        /// Only those that were not used for so long, as in 30d, 12h, 10m or 45s.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        older_than: Option<Duration>,
    },
    /// Read them from end to end and remove those that are damaged
    Verify {
        /// Keys, or how they begin; all templates without any.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Make one ahead of its first container and print its key; of a bundle, that of its container's kind as well
    Bake {
        /// The size and the kind of a container of this bundle, with a standard input like this command's.
        #[arg(long, short, value_name = "DIR", conflicts_with_all = ["memory", "vcpus"])]
        bundle: Option<PathBuf>,
        /// RAM of the machine in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 1024)]
        memory: u64,
        /// vCPUs of the machine.
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        vcpus: u32,
    },
}

/// Does it; gives the exit status: 1 if a template was damaged.
pub fn run(args: &Args) -> Result<u8, VerbError> {
    let store = || Store::open(&paths::data_dir()).map_err(TemplateError::from);
    let (status, text) = match &args.action {
        Action::List { format } => (0, listing::text(&store()?.list().map_err(TemplateError::from)?, *format)),
        Action::Prune { older_than } => (0, pruned(&store()?.prune(*older_than).map_err(TemplateError::from)?)),
        Action::Verify { keys } => verify(&store()?, keys)?,
        Action::Bake { bundle: None, memory, vcpus } => (0, bake(VmSize { vcpus: *vcpus, memory_mib: *memory })?),
        Action::Bake { bundle: Some(bundle), .. } => {
            let base = bake(size_of(bundle)?)?;
            (0, base + &bake_kind(&store()?, bundle)?)
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(|source| VerbError::Io { what: "print the templates", source })?;
    Ok(status)
}

fn pruned(pruned: &[Pruned]) -> String {
    let line = |pruned: &Pruned| {
        let (key, size) = (pruned.key.short(), listing::size(pruned.disk_bytes));
        match pruned.kept {
            None => format!("{key}: removed, {size}\n"),
            Some(kept) => format!("{key}: kept, {}\n", reason(kept)),
        }
    };
    pruned.iter().map(line).collect()
}

fn reason(kept: Kept) -> &'static str {
    match kept {
        Kept::InUse => "it is in use",
        Kept::Baking => "it is being baked",
        Kept::Recent => "it was used lately",
        Kept::Base => "another that is kept lies on it",
    }
}

fn verify(store: &Store, wanted: &[String]) -> Result<(u8, String), VerbError> {
    let (mut status, mut text) = (0, String::new());
    for key in chosen(store.list().map_err(TemplateError::from)?.into_iter().map(|entry| entry.key).collect(), wanted)?
    {
        let line = match store.verify(&key).map_err(TemplateError::from)? {
            Ok(()) => "whole".to_owned(),
            Err(error) => {
                status = 1;
                format!("removed: {}", chain(&error))
            }
        };
        let _ = writeln!(text, "{}: {line}", key.short());
    }
    Ok((status, text))
}

/// Those keys that begin with one of `wanted`; all if there are none. One that names nothing is an error.
fn chosen(keys: Vec<Key>, wanted: &[String]) -> Result<Vec<Key>, VerbError> {
    let names = |wanted: &String, key: &Key| !wanted.is_empty() && key.as_str().starts_with(wanted);
    if let Some(unknown) = wanted.iter().find(|wanted| !keys.iter().any(|key| names(wanted, key))) {
        return Err(VerbError::Argument(format!("there is no template {unknown:?}")));
    }
    let is_chosen = |key: &Key| wanted.is_empty() || wanted.iter().any(|wanted| names(wanted, key));
    Ok(keys.into_iter().filter(is_chosen).collect())
}

/// The key of the template for such machines, which is there afterwards.
fn bake(size: VmSize) -> Result<String, VerbError> {
    let parts = Parts::find().map_err(CreateError::from)?;
    let ready = template::find_or_bake(&parts, size, template::verdict(&parts))?;
    Ok(format!("{}\n", ready.template.key()))
}

/// Makes the template of a bundle's kind; gives its key, or nothing where it was there, or its container cannot be in one, for
/// a reason that is in the log.
fn bake_kind(store: &Store, bundle: &Path) -> Result<String, VerbError> {
    let keys = || store.list().map(|all| all.into_iter().map(|entry| entry.key).collect::<Vec<_>>());
    let io_error = |source| VerbError::Io { what: "make a directory for a container", source };
    let before = keys().map_err(TemplateError::from)?;
    // Of its own: what is there for a moment is nobody's container.
    let dir = tempfile::TempDir::new_in(paths::data_dir()).map_err(io_error)?;
    let root = Root::new(dir.path().to_owned());
    // Its control group has this name.
    let id = format!("template-{}", std::process::id());
    let order = Order {
        id: &id,
        bundle,
        config: None,
        terminal: Terminal::Callers,
        pid_file: None,
        systemd_cgroup: false,
        rootless: !nix::unistd::geteuid().is_root(),
    };
    create::bake(&root, &order)?;
    let made = keys().map_err(TemplateError::from)?.into_iter().filter(|key| !before.contains(key));
    Ok(made.map(|key| format!("{key}\n")).collect())
}

/// How large the machine of a bundle's container is.
fn size_of(bundle: &Path) -> Result<VmSize, VerbError> {
    let bundle = Bundle::read(bundle, None)?;
    let settings = PlanSettings {
        id: "template".to_owned(),
        systemd_cgroup: false,
        rootless: !nix::unistd::geteuid().is_root(),
        arch: GuestArch::X86_64,
        host_memory_mib: plan::host_memory_mib(),
    };
    Ok(plan::plan(&bundle, &settings)?.vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_of_a_key_is_enough() {
        let keys: Vec<_> = ["ab", "ac", "bc"].iter().filter_map(|name| Key::parse(&name.repeat(32))).collect();
        let some = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
            chosen(keys.clone(), &wanted).map(|keys| keys.len()).ok()
        };
        assert_eq!([some(&[]), some(&["a"]), some(&["ac", "b"])], [Some(3), Some(2), Some(2)]);
        assert_eq!([some(&["d"]), some(&["a", "d"]), some(&[""])], [None; 3]);
    }
}
