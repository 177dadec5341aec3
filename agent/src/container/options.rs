//! Mount options by name: what each means to the newer mount calls.

use supermachine_agent_protocol::ErrorReply;

use super::tree::Change;
use crate::reply::bad_request;

/// What the flags of a mount ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Of the mount itself.
    pub(super) own: Change,
    /// Of the mount and of everything below it.
    pub(super) recursive: Change,
    /// Propagation and whether it is for everything below as well, in the order given.
    pub(super) propagation: Vec<(u64, bool)>,
    /// Whether a bind takes along what is mounted below.
    pub(super) recursive_bind: bool,
    /// Whether a new file system starts with what was at its destination.
    pub(super) copy_up: bool,
    /// Options of the file system that are written as flags.
    pub(super) filesystem: Vec<&'static str>,
}

const ATIME: u64 = libc::MOUNT_ATTR__ATIME;

/// Attributes by name: what they set, what they clear. With an `r` before it, for everything below as well.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rw", 0, libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("suid", 0, libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV, 0),
    ("dev", 0, libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("exec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("noatime", libc::MOUNT_ATTR_NOATIME, ATIME),
    ("atime", libc::MOUNT_ATTR_RELATIME, ATIME),
    ("relatime", libc::MOUNT_ATTR_RELATIME, ATIME),
    ("norelatime", libc::MOUNT_ATTR_STRICTATIME, ATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME, ATIME),
    ("nostrictatime", libc::MOUNT_ATTR_RELATIME, ATIME),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("diratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, libc::MOUNT_ATTR_NOSYMFOLLOW),
];

const PROPAGATION: [(&str, u64); 4] = [
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];

const FILESYSTEM: [&str; 3] = ["sync", "dirsync", "lazytime"];

impl Options {
    /// Reads the flags of a mount.
    pub(super) fn parse(flags: &[String]) -> Result<Self, ErrorReply> {
        let mut options = Self::default();
        for flag in flags {
            options.add(flag).ok_or_else(|| bad_request(format!("mount: unknown flag {flag:?}")))?;
        }
        Ok(options)
    }

    fn add(&mut self, flag: &str) -> Option<()> {
        match flag {
            "bind" | "async" | "defaults" => {}
            "rbind" => self.recursive_bind = true,
            "tmpcopyup" => self.copy_up = true,
            _ => {
                if let Some(name) = FILESYSTEM.iter().find(|name| **name == flag) {
                    self.filesystem.push(name);
                } else if let Some(propagation) = propagation(flag) {
                    self.propagation.push(propagation);
                } else if let Some(attribute) = attribute(flag) {
                    put(&mut self.own, attribute);
                } else {
                    put(&mut self.recursive, attribute(flag.strip_prefix('r')?)?);
                }
            }
        }
        Some(())
    }
}

/// Propagation by name, and whether it is for everything below as well.
pub(super) fn propagation(name: &str) -> Option<(u64, bool)> {
    let find = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag);
    find(name).map(|flag| (flag, false)).or_else(|| Some((find(name.strip_prefix('r')?)?, true)))
}

fn attribute(name: &str) -> Option<(u64, u64)> {
    ATTRIBUTES.iter().find(|(known, ..)| *known == name).map(|(_, set, clear)| (*set, *clear))
}

/// The last of what contradicts each other counts.
fn put(change: &mut Change, (set, clear): (u64, u64)) {
    change.set = change.set & !clear | set;
    change.clear = change.clear & !set | clear;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Options {
        Options::parse(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_last_of_two_that_contradict_counts() {
        let options = parse(&["ro", "nosuid", "rw", "noatime", "strictatime"]);
        assert_eq!(options.own.set, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME);
        assert_eq!(options.own.clear & libc::MOUNT_ATTR_RDONLY, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(options.own.clear & ATIME, ATIME);
    }

    #[test]
    fn an_r_before_it_means_everything_below() {
        let options = parse(&["rro", "rbind", "rslave", "private", "relatime"]);
        assert_eq!((options.own.set, options.recursive.set), (0, libc::MOUNT_ATTR_RDONLY));
        assert!(options.recursive_bind);
        assert_eq!(options.propagation, [(libc::MS_SLAVE, true), (libc::MS_PRIVATE, false)]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for flag in ["idmap", "ridmap", "rrro", "", "r", "size=1"] {
            assert!(Options::parse(&[flag.to_owned()]).is_err(), "{flag}");
        }
    }
}
