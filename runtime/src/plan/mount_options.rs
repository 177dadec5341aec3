//! Mount options: what each name means, and what is left for the guest.

use super::PlanError;

/// A set of mount flags, with numbers of our own.
type Flags = u32;

const RO: Flags = 1 << 0;
const NOSUID: Flags = 1 << 1;
const NODEV: Flags = 1 << 2;
const NOEXEC: Flags = 1 << 3;
const SYNC: Flags = 1 << 4;
const DIRSYNC: Flags = 1 << 5;
const NOATIME: Flags = 1 << 6;
const NODIRATIME: Flags = 1 << 7;
const RELATIME: Flags = 1 << 8;
const STRICTATIME: Flags = 1 << 9;
const NOSYMFOLLOW: Flags = 1 << 10;
const LAZYTIME: Flags = 1 << 11;
const BIND: Flags = 1 << 13;
const REC: Flags = 1 << 14;
const COPY_UP: Flags = 1 << 15;
/// Options that change nothing a container can see: mandatory locks left Linux with 5.15, the others are internal.
const NOTHING: Flags = 0;

/// What one option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Set(Flags),
    Clear(Flags),
    /// Sets the flags on all mounts below as well.
    SetAll(Flags),
    /// Clears the flags on all mounts below as well.
    ClearAll(Flags),
    Propagate,
}

use Effect::{Clear, ClearAll, Propagate, Set, SetAll};

/// Every option that is no data for the file system.
const OPTIONS: [(&str, Effect); 60] = [
    ("acl", Set(NOTHING)),
    ("async", Clear(SYNC)),
    ("atime", Clear(NOATIME)),
    ("bind", Set(BIND)),
    ("defaults", Set(NOTHING)),
    ("dev", Clear(NODEV)),
    ("diratime", Clear(NODIRATIME)),
    ("dirsync", Set(DIRSYNC)),
    ("exec", Clear(NOEXEC)),
    ("iversion", Set(NOTHING)),
    ("lazytime", Set(LAZYTIME)),
    ("loud", Set(NOTHING)),
    ("mand", Set(NOTHING)),
    ("noacl", Set(NOTHING)),
    ("noatime", Set(NOATIME)),
    ("nodev", Set(NODEV)),
    ("nodiratime", Set(NODIRATIME)),
    ("noexec", Set(NOEXEC)),
    ("noiversion", Set(NOTHING)),
    ("nolazytime", Clear(LAZYTIME)),
    ("nomand", Set(NOTHING)),
    ("norelatime", Clear(RELATIME)),
    ("nostrictatime", Clear(STRICTATIME)),
    ("nosuid", Set(NOSUID)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("private", Propagate),
    ("ratime", ClearAll(NOATIME)),
    ("rbind", Set(BIND | REC)),
    ("rdev", ClearAll(NODEV)),
    ("rdiratime", ClearAll(NODIRATIME)),
    ("relatime", Set(RELATIME)),
    ("rexec", ClearAll(NOEXEC)),
    ("rnoatime", SetAll(NOATIME)),
    ("rnodev", SetAll(NODEV)),
    ("rnodiratime", SetAll(NODIRATIME)),
    ("rnoexec", SetAll(NOEXEC)),
    ("rnorelatime", ClearAll(RELATIME)),
    ("rnostrictatime", ClearAll(STRICTATIME)),
    ("rnosuid", SetAll(NOSUID)),
    ("rnosymfollow", SetAll(NOSYMFOLLOW)),
    ("ro", Set(RO)),
    ("rprivate", Propagate),
    ("rrelatime", SetAll(RELATIME)),
    ("rro", SetAll(RO)),
    ("rrw", ClearAll(RO)),
    ("rshared", Propagate),
    ("rslave", Propagate),
    ("rstrictatime", SetAll(STRICTATIME)),
    ("rsuid", ClearAll(NOSUID)),
    ("rsymfollow", ClearAll(NOSYMFOLLOW)),
    ("runbindable", Propagate),
    ("rw", Clear(RO)),
    ("shared", Propagate),
    ("silent", Set(NOTHING)),
    ("slave", Propagate),
    ("strictatime", Set(STRICTATIME)),
    ("suid", Clear(NOSUID)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("sync", Set(SYNC)),
    ("tmpcopyup", Set(COPY_UP)),
];

/// Flags as the guest's agent names them.
const GUEST: [(&str, Flags); 13] = [
    ("ro", RO),
    ("nosuid", NOSUID),
    ("nodev", NODEV),
    ("noexec", NOEXEC),
    ("sync", SYNC),
    ("dirsync", DIRSYNC),
    ("noatime", NOATIME),
    ("nodiratime", NODIRATIME),
    ("relatime", RELATIME),
    ("strictatime", STRICTATIME),
    ("nosymfollow", NOSYMFOLLOW),
    ("lazytime", LAZYTIME),
    ("tmpcopyup", COPY_UP),
];

/// Names of all options that are no data, in order.
#[cfg(target_os = "linux")]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// The options of one mount, sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    flags: Flags,
    /// Flags that are to hold for mounts below as well.
    recursive_flags: Flags,
    propagation: Vec<&'static str>,
    /// Options for the file system, comma separated.
    pub(super) data: String,
}

impl Options {
    /// Sorts out the options of the mount at `at`.
    pub(super) fn parse(options: &[String], at: &str) -> Result<Self, PlanError> {
        let mut parsed = Self::default();
        let mut data = Vec::new();
        for (index, option) in options.iter().enumerate() {
            let path = || format!("{at}.options[{index}]");
            super::process::no_nul(&path(), option)?;
            match option.as_str() {
                "idmap" | "ridmap" => {
                    return Err(PlanError::unsupported(path(), "mounts with mapped ids are not offered"));
                }
                "remount" => return Err(PlanError::unsupported(path(), "mounting again is not offered")),
                _ => {}
            }
            match OPTIONS.iter().find(|(name, _)| name == option) {
                Some((name, effect)) => parsed.apply(name, *effect),
                None if option.is_empty() => {}
                None => data.push(option.as_str()),
            }
        }
        parsed.data = data.join(",");
        Ok(parsed)
    }

    fn apply(&mut self, name: &'static str, effect: Effect) {
        match effect {
            Set(flags) => self.flags |= flags,
            Clear(flags) => self.flags &= !flags,
            SetAll(flags) => {
                self.flags |= flags;
                self.recursive_flags |= flags;
            }
            ClearAll(flags) => {
                self.flags &= !flags;
                self.recursive_flags &= !flags;
            }
            Propagate => self.propagation.push(name),
        }
    }

    /// Whether it is a bind mount.
    pub(super) fn is_bind(&self) -> bool {
        self.flags & BIND != 0
    }

    /// Whether mounts below the source come with it.
    pub(super) fn is_recursive(&self) -> bool {
        self.flags & REC != 0
    }

    /// Whether nothing can be written to it.
    pub(super) fn is_read_only(&self) -> bool {
        self.flags & RO != 0
    }

    /// Whether mounts made on the host later are to be seen.
    pub(super) fn follows(&self) -> bool {
        matches!(self.propagation.last(), Some(&("slave" | "rslave" | "shared" | "rshared")))
    }

    /// Whether mounts made in the container are to be seen on the host.
    pub(super) fn propagates_back(&self) -> bool {
        matches!(self.propagation.last(), Some(&("shared" | "rshared")))
    }

    /// The flags for a mount of its own in the guest: nothing is mounted below it.
    pub(super) fn guest_flags(&self) -> Vec<String> {
        let flags = GUEST.iter().filter(|(_, flag)| self.flags & flag != 0).map(|(name, _)| *name);
        flags.chain(self.propagation.iter().copied()).map(str::to_owned).collect()
    }

    /// The flags for a bind mount of something of the guest.
    pub(super) fn guest_bind_flags(&self) -> Vec<String> {
        let bind = if self.is_recursive() { "rbind" } else { "bind" }.to_owned();
        let below =
            GUEST.iter().filter(|(_, flag)| self.recursive_flags & flag != 0).map(|(name, _)| format!("r{name}"));
        [bind].into_iter().chain(self.guest_flags()).chain(below).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> Options {
        let options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        Options::parse(&options, "mounts[0]").expect("valid options")
    }

    #[test]
    fn options_become_flags_propagation_and_data() {
        let cases = [
            ("nosuid noexec nodev", "nosuid,nodev,noexec", ""),
            ("ro rw", "", ""),
            ("rw ro", "ro", ""),
            ("defaults async atime dev exec suid loud", "", ""),
            ("nosuid strictatime mode=755 size=65536k", "nosuid,strictatime", "mode=755,size=65536k"),
            ("rprivate nosuid tmpcopyup size=1m", "nosuid,tmpcopyup,rprivate", "size=1m"),
            ("slave rshared", "slave,rshared", ""),
            ("rro", "ro", ""),
            ("rro rrw", "", ""),
            ("gid=5 ptmxmode=0666 newinstance", "", "gid=5,ptmxmode=0666,newinstance"),
            ("nosymfollow lazytime dirsync sync", "sync,dirsync,nosymfollow,lazytime", ""),
        ];
        for (options, flags, data) in cases {
            let parsed = parse(options);
            assert_eq!(parsed.guest_flags().join(","), flags, "{options}");
            assert_eq!(parsed.data, data, "{options}");
        }
    }

    #[test]
    fn binds_are_seen() {
        assert!(!parse("ro").is_bind());
        assert!(parse("bind").is_bind() && !parse("bind").is_recursive());
        assert!(parse("rbind ro").is_recursive() && parse("rbind ro").is_read_only());
        assert!(parse("rbind private rslave").follows() && !parse("rbind rslave rprivate").follows());
        assert!(parse("rbind rshared").propagates_back() && !parse("rbind rslave").propagates_back());
        assert_eq!(parse("rbind rro slave").guest_bind_flags(), ["rbind", "ro", "slave", "rro"]);
        assert_eq!(parse("bind rnoexec rro rrw").guest_bind_flags(), ["bind", "noexec", "rnoexec"]);
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        for option in ["idmap", "ridmap", "remount"] {
            let options = ["bind".to_owned(), option.to_owned()];
            let error = Options::parse(&options, "mounts[3]").expect_err("refused");
            assert_eq!(error.path(), "mounts[3].options[1]");
        }
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    }
}
