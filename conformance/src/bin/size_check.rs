//! `size_check [WORKSPACE]`: fails when a file or a function of the workspace is too long.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use supermachine_conformance::size::{Exceptions, Report};

fn main() -> anyhow::Result<ExitCode> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let list = root.join("conformance/size-exceptions.txt");
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut exceptions = Exceptions::parse(&text)?;
    let mut report = Report::of(&root, &mut exceptions)?;
    for offence in &report.offences {
        println!("{offence}");
    }
    for figure in report.figures() {
        println!("{figure}");
    }
    Ok(if report.offences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
