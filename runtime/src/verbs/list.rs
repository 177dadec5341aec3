//! `list`: all containers of a root.

use std::io::{self, Write};

use clap::ValueEnum;

use crate::state::{OciState, Root};

use super::table::Table;
use super::{VerbError, look, state};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of the list.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only ids.
    #[arg(long, short)]
    quiet: bool,
}

/// Form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns with a heading.
    Table,
    /// JSON.
    Json,
}

/// Lists containers.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    let dirs = root.all()?;
    let text = if args.quiet {
        dirs.iter().map(|dir| format!("{}\n", dir.id)).collect()
    } else {
        // One that is deleted or broken meanwhile does not hide the others.
        let states = dirs.into_iter().filter_map(|dir| {
            let owner = dir.owner();
            let found = look(dir).inspect_err(|error| log::warn!("{}", super::chain(error))).ok()?;
            Some(OciState { owner, ..state::of(&found) })
        });
        let states: Vec<_> = states.collect();
        match args.format {
            Format::Table => table(&states),
            // As runc has it.
            Format::Json if states.is_empty() => "null\n".to_owned(),
            Format::Json => format!("{}\n", serde_json::to_string(&states).unwrap_or_default()),
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(|source| VerbError::Io { what: "print the list", source })?;
    Ok(0)
}

fn table(states: &[OciState]) -> String {
    let mut table = Table::new(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for state in states {
        table.row([
            state.id.clone(),
            state.pid.to_string(),
            state.status.word().to_owned(),
            state.bundle.display().to_string(),
            state.created.clone(),
            state.owner.clone(),
        ]);
    }
    table.text()
}
