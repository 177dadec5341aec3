//! `ps`: the processes of a container, as they are in its guest.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use supermachine_agent_protocol::container::ProcessInfo;
use supermachine_vmm_api::{Reply, Request};

use crate::control::{self, ControlError};
use crate::host::cgroup::Cgroup;
use crate::state::{Root, Status};
use crate::time::date;

use super::list::Format;
use super::{Found, VerbError, find};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of the list: `json` has the process ids on the host, those in the container's control group there.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The container.
    id: String,
    /// Options of ps: -ef, or -o with pid, ppid, user, uid, stat, tty, time, etime, c, stime, comm, args.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Prints processes.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    let (format, columns) = read_options(args)?;
    let found = find(root, &args.id)?;
    let text = match format {
        Format::Json => host_pids(&found),
        Format::Table => {
            let processes = if found.status == Status::Stopped { Vec::new() } else { processes(&found)? };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            table(&processes, &columns, now)
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(|source| VerbError::Io { what: "print the list", source })?;
    Ok(0)
}

fn processes(found: &Found) -> Result<Vec<ProcessInfo>, VerbError> {
    match control::connect(&found.dir)?.request(&Request::Processes {}).map_err(ControlError::from)? {
        Reply::Processes(processes) => Ok(processes),
        other => Err(ControlError::Unexpected(Box::new(other)).into()),
    }
}

/// Callers take these numbers for processes of the host; the guest's would name others there.
fn host_pids(found: &Found) -> String {
    let record = found.record.as_ref().filter(|_| found.status != Status::Stopped);
    let cgroup = record.and_then(|record| serde_json::from_value::<Cgroup>(record.cgroup.clone()).ok());
    let mut pids = cgroup.map(|cgroup| cgroup.processes()).unwrap_or_default();
    if let Some(vmm) = record.and_then(|record| record.vmm)
        && !pids.contains(&vmm.pid)
    {
        pids.insert(0, vmm.pid);
    }
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    if pids.is_empty() { "null\n".to_owned() } else { format!("[{}]\n", pids.join(",")) }
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    name: &'static str,
    heading: &'static str,
    /// Negative for text that starts at the left, as in printf.
    width: i8,
}

const fn column(name: &'static str, heading: &'static str, width: i8) -> Column {
    Column { name, heading, width }
}

/// Columns by name; widths as procps has them.
const COLUMNS: [Column; 18] = [
    column("user", "UID", -8),
    column("pid", "PID", 7),
    column("ppid", "PPID", 7),
    column("c", "C", 2),
    column("stime", "STIME", 5),
    column("tty", "TTY", -8),
    column("time", "TIME", 8),
    column("args", "CMD", -27),
    column("uid", "UID", 5),
    column("euser", "EUSER", -8),
    column("stat", "STAT", -4),
    column("s", "S", -1),
    column("comm", "COMMAND", -15),
    column("cmd", "CMD", -27),
    column("command", "COMMAND", -27),
    column("etime", "ELAPSED", 11),
    column("start", "STARTED", 8),
    column("tname", "TTY", -8),
];
/// As many of them as `ps -ef` shows.
const FULL: usize = 8;

fn read_options(args: &Args) -> Result<(Format, Vec<Column>), VerbError> {
    let refuse = |option: &str| {
        let known = "the processes are the guest's, and this ps knows -e, -f, -A, -a, -x and -o COLUMNS";
        Err(VerbError::Argument(format!("ps option {option:?}: {known}")))
    };
    let (mut format, mut columns) = (args.format, COLUMNS.get(..FULL).unwrap_or_default().to_vec());
    let mut options = args.options.iter().map(String::as_str).peekable();
    while let Some(option) = options.next() {
        // This program's own option may stand behind the id as well.
        if matches!(option, "--format" | "-f")
            && let Some(word @ ("json" | "table")) = options.peek().copied()
        {
            format = if word == "json" { Format::Json } else { Format::Table };
            options.next();
            continue;
        }
        let letters = option.strip_prefix('-').unwrap_or(option);
        let (letters, list) = match letters.split_once('o') {
            Some((letters, "")) => (letters, options.next()),
            Some((letters, list)) => (letters, Some(list)),
            None => (letters, None),
        };
        if letters.chars().any(|letter| !"efAax".contains(letter)) {
            return refuse(option);
        }
        if let Some(list) = list {
            columns.clear();
            for name in list.split(',') {
                let name = name.trim_end_matches('=');
                match COLUMNS.iter().find(|column| column.name == name) {
                    Some(column) => columns.push(*column),
                    None => return refuse(name),
                }
            }
        }
    }
    Ok((format, columns))
}

fn table(processes: &[ProcessInfo], columns: &[Column], now: u64) -> String {
    // Parents are told by their numbers in the guest; what is shown are the container's.
    let numbers: BTreeMap<u32, u32> = processes.iter().map(|p| (p.pid, p.container_pid)).collect();
    let mut text = line(columns, |column| column.heading.to_owned());
    for process in processes {
        text.push_str(&line(columns, |column| cell(process, column.name, &numbers, now)));
    }
    text
}

fn line(columns: &[Column], cell: impl Fn(&Column) -> String) -> String {
    let mut line = String::new();
    for (index, column) in columns.iter().enumerate() {
        let (text, width) = (cell(column), usize::from(column.width.unsigned_abs()));
        let last = index + 1 == columns.len();
        match (column.width < 0, last) {
            (true, true) => line.push_str(&text),
            (true, false) => line.push_str(&format!("{text:<width$} ")),
            (false, _) => line.push_str(&format!("{text:>width$}{}", if last { "" } else { " " })),
        }
    }
    line.push('\n');
    line
}

fn cell(process: &ProcessInfo, name: &str, numbers: &BTreeMap<u32, u32>, now: u64) -> String {
    let seconds = process.cpu_ms / 1000;
    let elapsed = now.saturating_sub(process.started_at);
    match name {
        "user" | "euser" if process.uid == 0 => "root".to_owned(),
        "user" | "euser" | "uid" => process.uid.to_string(),
        "pid" => process.container_pid.to_string(),
        "ppid" => numbers.get(&process.ppid).copied().unwrap_or(0).to_string(),
        "c" => (process.cpu_ms / 10).checked_div(elapsed).unwrap_or(0).min(99).to_string(),
        "stime" | "start" => started(process.started_at, now),
        "stat" | "s" => process.state.to_string(),
        "tty" | "tname" => process.tty.clone(),
        "time" => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        "etime" if elapsed >= 3600 => format!("{:02}:{:02}:{:02}", elapsed / 3600, elapsed / 60 % 60, elapsed % 60),
        "etime" => format!("{:02}:{:02}", elapsed / 60, elapsed % 60),
        "comm" => {
            let program = process.command.split(' ').next().unwrap_or_default();
            program.rsplit('/').next().unwrap_or_default().to_owned()
        }
        _ => process.command.clone(),
    }
}

/// The time of day within a day, the date before, in UTC.
fn started(at: u64, now: u64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    if now.saturating_sub(at) < 86_400 {
        return format!("{:02}:{:02}", at / 3600 % 24, at / 60 % 60);
    }
    let (_, month, day) = date(at / 86_400);
    let month = usize::try_from(month).ok().and_then(|month| MONTHS.get(month.saturating_sub(1)));
    format!("{}{day:02}", month.copied().unwrap_or("???"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(line: &[&str]) -> Result<(Format, Vec<&'static str>), String> {
        let args = Line::try_parse_from(std::iter::once(&"ps").chain(line)).map_err(|e| e.to_string())?.args;
        let (format, columns) = read_options(&args).map_err(|e| e.to_string())?;
        Ok((format, columns.iter().map(|column| column.name).collect()))
    }

    #[test]
    fn options_of_ps_follow_the_id() {
        let full: Vec<_> = COLUMNS[..FULL].iter().map(|column| column.name).collect();
        for line in [["a"].as_slice(), &["a", "-ef"], &["a", "-e", "-f"], &["a", "ax"]] {
            assert_eq!(options(line), Ok((Format::Table, full.clone())), "{line:?}");
        }
        for line in [["a", "-o", "pid,comm"].as_slice(), &["a", "-eo", "pid,comm"], &["a", "-opid,comm"]] {
            assert_eq!(options(line), Ok((Format::Table, vec!["pid", "comm"])), "{line:?}");
        }
        for line in [["--format", "json", "a"].as_slice(), &["-f", "json", "a"], &["a", "--format", "json"]] {
            assert_eq!(options(line), Ok((Format::Json, full.clone())), "{line:?}");
        }
        assert!(options(&["a", "-o", "rss"]).is_err_and(|error| error.contains("\"rss\"")));
        assert!(options(&["a", "-Z"]).is_err_and(|error| error.contains("\"-Z\"")));
    }

    #[test]
    fn a_table_looks_as_ps_prints_it() {
        let process = |pid, ppid, container_pid, uid, command: &str| ProcessInfo {
            pid,
            ppid,
            container_pid,
            uid,
            state: 'S',
            tty: "?".to_owned(),
            cpu_ms: 61_000,
            started_at: 1_700_000_000,
            command: command.to_owned(),
        };
        let processes = [process(70, 1, 1, 0, "sh -c x"), process(75, 70, 7, 33, "/bin/sleep 5")];
        let text = table(&processes, &COLUMNS[..FULL], 1_700_000_610);
        assert_eq!(
            text,
            "UID          PID    PPID  C STIME TTY          TIME CMD\n\
             root           1       0 10 22:13 ?        00:01:01 sh -c x\n\
             33             7       1 10 22:13 ?        00:01:01 /bin/sleep 5\n"
        );
        let columns = [COLUMNS[1], COLUMNS[12]];
        assert_eq!(table(&processes, &columns, 1_700_000_610), "    PID COMMAND\n      1 sh\n      7 sleep\n");
    }
}
