//! How long files and functions are, and which of them are too long.

mod exceptions;
mod functions;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use exceptions::Exceptions;

use crate::figure::Figure;

/// Longest file that needs no reason; tests may be longer.
const FILE_LINES: usize = 600;
/// No file may have as many lines.
const FILE_LINES_NEVER: usize = 1000;
/// Longest function that needs no reason.
const FUNCTION_LINES: usize = 80;
/// No function may have as many lines.
const FUNCTION_LINES_NEVER: usize = 100;

/// What can go wrong with the check itself.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A source file is not Rust.
    #[error("cannot parse {path}, line {line}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: syn::Error,
    },
    /// A line of the list of exceptions has no reason.
    #[error("exception without a reason: {line}")]
    NoReason {
        /// The line.
        line: String,
    },
}

/// Something that is too long, or an exception that excuses nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Offence {
    /// Longer than it may be. `excusable` says whether an exception would help.
    TooLong {
        /// `path` or `path::function`, as an exception would name it.
        name: String,
        /// Where it starts, counted from 1.
        line: usize,
        /// Its length.
        lines: usize,
        /// What it may have.
        limit: usize,
        /// Whether a line in the list of exceptions would excuse it.
        excusable: bool,
    },
    /// The list names something that is short enough or not there.
    Unneeded {
        /// The entry's name.
        name: String,
    },
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { name, line, lines, limit, excusable } => {
                let help = if *excusable { " (or give a reason in size-exceptions.txt)" } else { "" };
                write!(f, "{name} (line {line}): {lines} lines, at most {limit}{help}")
            }
            Self::Unneeded { name } => write!(f, "{name}: listed in size-exceptions.txt, but needs no exception"),
        }
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What must change; empty when the check passes.
    pub offences: Vec<Offence>,
    files: Vec<usize>,
    functions: Vec<usize>,
    excused: usize,
}

impl Report {
    /// Measures every Rust file below `root`, except in hidden folders and build output.
    ///
    /// # Errors
    /// When a file cannot be read or is not Rust.
    pub fn of(root: &Path, exceptions: &mut Exceptions) -> Result<Self, SizeError> {
        let mut report = Self::default();
        for path in rust_files(root)? {
            let text = fs::read_to_string(&path).map_err(|source| SizeError::Read { path: path.clone(), source })?;
            report.add(path.strip_prefix(root).unwrap_or(&path), &text, exceptions)?;
        }
        report.offences.extend(exceptions.unused().map(|name| Offence::Unneeded { name: name.to_owned() }));
        Ok(report)
    }

    /// Measures one file; `path` is relative to the workspace.
    fn add(&mut self, path: &Path, text: &str, exceptions: &mut Exceptions) -> Result<(), SizeError> {
        let lines = text.lines().count();
        self.files.push(lines);
        let limit = if is_test(path) { FILE_LINES_NEVER - 1 } else { FILE_LINES };
        self.judge(path.display().to_string(), 1, lines, (limit, FILE_LINES_NEVER), exceptions);

        let functions = functions::in_source(text).map_err(|source| SizeError::Parse {
            path: path.to_owned(),
            line: source.span().start().line,
            source,
        })?;
        for function in functions {
            self.functions.push(function.lines);
            let name = format!("{}::{}", path.display(), function.name);
            self.judge(name, function.line, function.lines, (FUNCTION_LINES, FUNCTION_LINES_NEVER), exceptions);
        }
        Ok(())
    }

    fn judge(
        &mut self,
        name: String,
        line: usize,
        lines: usize,
        (limit, never): (usize, usize),
        exceptions: &mut Exceptions,
    ) {
        if lines <= limit {
            return;
        }
        let excusable = lines < never;
        if excusable && exceptions.excuse(&name) {
            self.excused += 1;
            return;
        }
        let limit = if excusable { limit } else { never - 1 };
        self.offences.push(Offence::TooLong { name, line, lines, limit, excusable });
    }

    /// The numbers to print last.
    pub fn figures(&mut self) -> Vec<Figure> {
        self.files.sort_unstable();
        self.functions.sort_unstable();
        let figure = |name, value: usize, bound: Option<usize>| Figure {
            name,
            value: value as f64,
            unit: if name == "size.exceptions" { "entries" } else { "lines" },
            at_most: bound.map(|bound| bound as f64),
        };
        vec![
            figure("size.file.median", median(&self.files), None),
            figure("size.file.longest", longest(&self.files), Some(FILE_LINES_NEVER - 1)),
            figure("size.function.median", median(&self.functions), None),
            figure("size.function.longest", longest(&self.functions), Some(FUNCTION_LINES_NEVER - 1)),
            figure("size.exceptions", self.excused, None),
        ]
    }
}

fn median(sorted: &[usize]) -> usize {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn longest(sorted: &[usize]) -> usize {
    sorted.last().copied().unwrap_or(0)
}

/// Whether the file holds only tests or benchmarks.
fn is_test(path: &Path) -> bool {
    path.file_name() == Some(OsStr::new("tests.rs"))
        || path.components().any(|part| ["tests", "benches"].iter().any(|name| part.as_os_str() == *name))
}

/// Every `.rs` file below `root`, in a stable order.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>, SizeError> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| SizeError::Read { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
                folders.push(entry.path());
            } else if kind.is_file() && name.ends_with(".rs") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
