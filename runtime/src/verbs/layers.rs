//! `layers`: what is in the layer store, whether it is whole, and its end.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use supermachine_layers::store::{Condition, Listed, Prune, Source, Verified};

use crate::rootfs;
use crate::time::rfc3339;

use super::VerbError;
use super::duration::duration;
use super::table::Table;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    work: Work,
}

/// What is done with layers.
#[derive(Debug, Subcommand)]
enum Work {
    /// List the images in the store
    List {
        /// Form of the list.
        #[arg(long, short, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Read all images and compare them with their digests; the status is 1 if one is not what it was
    Verify {
        /// Form of the report.
        #[arg(long, short, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Remove those that are not, unless a container uses them: they are made again when they are needed.
        #[arg(long)]
        remove: bool,
    },
    /// Remove images that nothing uses
    Prune {
        /// Also those that bundles name, and those of directories that are still there.
        #[arg(long)]
        all: bool,
        /// Only what was not used for so long, as in 90s, 15m, 12h, 30d.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        older_than: Option<Duration>,
        /// Form of the report.
        #[arg(long, short, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

/// Form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns with a heading.
    Table,
    /// JSON.
    Json,
}

/// Does it.
pub fn run(args: &Args) -> Result<u8, VerbError> {
    let store = rootfs::store()?;
    match args.work {
        Work::List { format } => {
            let list = store.list()?;
            print(format, &list, || list_table(&list))
        }
        Work::Verify { format, remove } => {
            let all = store.verify(remove)?;
            print(format, &all, || verify_table(&all))?;
            Ok(u8::from(all.iter().any(|one| one.condition != Condition::Good)))
        }
        Work::Prune { all, older_than, format } => {
            let pruned = store.prune(Prune { all, older_than })?;
            let lines = || pruned.images.iter().map(|image| format!("{image}\n")).collect::<String>();
            print(format, &pruned, || format!("{}{} bytes freed\n", lines(), pruned.bytes))
        }
    }
}

fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce() -> String) -> Result<u8, VerbError> {
    let text = match format {
        Format::Table => table(),
        Format::Json => format!("{}\n", serde_json::to_string(value).unwrap_or_default()),
    };
    io::stdout().write_all(text.as_bytes()).map_err(|source| VerbError::Io { what: "print", source })?;
    Ok(0)
}

fn list_table(list: &[Listed]) -> String {
    let mut table = Table::new(["IMAGE", "BYTES", "USED", "BY", "SOURCE"]);
    for image in list {
        let used = UNIX_EPOCH.checked_add(Duration::from_secs(image.used)).unwrap_or(UNIX_EPOCH);
        let mut by = image.users.clone();
        by.extend(image.bundle.then(|| "a bundle".to_owned()));
        let sources = image.sources.iter().map(|source| match source {
            Source::Layer(diff_id) => diff_id.to_string(),
            Source::Tree(path) => path.display().to_string(),
            Source::Attributes(stack) => format!("attributes of directories of {stack}"),
        });
        table.row([
            image.image.hex().chars().take(16).collect(),
            image.bytes.to_string(),
            rfc3339(used),
            if by.is_empty() { "-".to_owned() } else { by.join(", ") },
            sources.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.text()
}

fn verify_table(all: &[Verified]) -> String {
    let mut table = Table::new(["IMAGE", "CONDITION"]);
    for one in all {
        let condition = match one.condition {
            Condition::Good => "good",
            Condition::Damaged => "damaged",
            Condition::Missing => "missing",
        };
        let removed = if one.removed { ", removed" } else { "" };
        table.row([one.image.hex(), format!("{condition}{removed}")]);
    }
    table.text()
}
