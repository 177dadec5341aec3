//! What runs in a container, read from `/proc`.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};
use supermachine_agent_protocol::container::ProcessInfo;

/// Majors of `/dev/pts`, see `Documentation/admin-guide/devices.txt`.
const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// Describes processes; those that are gone meanwhile are left out.
pub(super) fn describe(pids: &[libc::pid_t]) -> Vec<ProcessInfo> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    let started = boot_time();
    pids.iter().filter_map(|pid| one(*pid, ticks.max(1), started)).collect()
}

/// When the guest's kernel started, seconds since 1970.
fn boot_time() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

fn one(pid: libc::pid_t, ticks: u64, boot_time: u64) -> Option<ProcessInfo> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold some itself; fields are counted from the one behind it, field 3.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks_used = number(11).saturating_add(number(12));
    Some(ProcessInfo {
        pid: u32::try_from(pid).ok()?,
        ppid: u32::try_from(number(1)).unwrap_or(0),
        container_pid: field("NSpid")?.split_whitespace().last()?.parse().ok()?,
        uid: field("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        tty: terminal(u32::try_from(number(4)).unwrap_or(0)),
        cpu_ms: ticks_used.saturating_mul(1000) / ticks,
        started_at: boot_time.saturating_add(number(19) / ticks),
        command: command(pid, name),
    })
}

/// A terminal's name from its device number: the minor's low byte, the major, the rest of the minor.
fn terminal(number: u32) -> String {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        5 => "console".to_owned(),
        _ if TERMINALS.contains(&major) => format!("pts/{}", (major - TERMINALS.start()) << 20 | minor),
        _ => format!("{major}:{minor}"),
    }
}

fn command(pid: libc::pid_t, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    match text.trim_end_matches('\0') {
        "" => format!("[{name}]"),
        arguments => arguments.replace('\0', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let pid = libc::pid_t::try_from(std::process::id()).unwrap();
        let described = describe(&[pid, libc::pid_t::MAX]);
        let [own] = described.as_slice() else { panic!("one process exists of the two: {described:?}") };
        assert_eq!(own.pid, std::process::id());
        assert!(own.ppid > 0 && own.container_pid > 0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((now - 3600..=now + 2).contains(&own.started_at), "{} is not close to {now}", own.started_at);
        assert!(own.command.contains("agent"), "{}", own.command);
    }

    #[test]
    fn terminals_have_their_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 3), "pts/3");
        assert_eq!(terminal(4 << 8 | 1), "tty1");
        assert_eq!(terminal(136 << 8 | 1 << 20 | 44), "pts/300");
    }
}
