//! Attributes of files.

use std::os::fd::AsFd;

use crate::error::{Errno, stale};
use crate::message::Answer;
use crate::os::{Pin, stat_at, stat_fd};
use crate::server::{Call, Found, Server};
use crate::share::SymlinkPolicy;
use crate::spec::{
    self, FUSE_ROOT_ID, fuse_attr, fuse_attr_out, fuse_entry_out, fuse_getattr_in, fuse_setattr_in, fuse_statx,
    fuse_statx_in, fuse_statx_out, fuse_sx_time,
};
use crate::stat::{Identity, NewTimes, OpenMode, Place, Stat, Time};

/// The root's inode number: none that a host's file system gives, or programs would see a loop.
pub(crate) const ROOT_INO: u64 = u32::MAX as u64;

impl Server {
    pub(crate) fn getattr(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_getattr_in { getattr_flags, dummy: _, fh } = call.body.read()?;
        let fh = (getattr_flags & spec::FUSE_GETATTR_FH != 0).then_some(fh);
        let stat = self.stat(call, fh)?;
        Ok(Answer::of(&self.attr_out(&stat)))
    }

    pub(crate) fn statx(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_statx_in { getattr_flags, fh, .. } = call.body.read()?;
        let fh = (getattr_flags & spec::FUSE_GETATTR_FH != 0).then_some(fh);
        let stat = self.stat(call, fh)?;
        let (attr_valid, attr_valid_nsec) = self.valid();
        let stat = self.statx_of(&stat);
        Ok(Answer::of(&fuse_statx_out { attr_valid, attr_valid_nsec, stat, ..fuse_statx_out::default() }))
    }

    fn stat(&self, call: &Call<'_>, fh: Option<u64>) -> Result<Stat, Errno> {
        if call.header.nodeid == FUSE_ROOT_ID {
            return Ok(self.root_stat());
        }
        match fh {
            Some(fh) => stat_fd(self.handle_of(call, fh)?.fd()),
            None => self.stat_of(&self.found(call.header.nodeid)?),
        }
    }

    /// The attributes of a node's file, which must still be there.
    pub(crate) fn stat_of(&self, found: &Found) -> Result<Stat, Errno> {
        let stat = match &found.place {
            Place::Fd(fd) => return stat_fd(fd.as_fd()),
            Place::At { dir, name } => stat_at(dir.as_fd(), name).map_err(stale)?,
        };
        if stat.identity == found.identity { Ok(stat) } else { Err(Errno::STALE) }
    }

    /// The attributes of the file system's own root.
    pub(crate) fn root_stat(&self) -> Stat {
        let shares = self.lock().shares.len();
        Stat {
            identity: Identity { dev: 0, ino: ROOT_INO, born_ns: 0, kind: spec::S_IFDIR },
            mode: spec::S_IFDIR | 0o555,
            nlink: u32::try_from(shares).unwrap_or(u32::MAX).saturating_add(2),
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: self.started,
            mtime: self.started,
            ctime: self.started,
            btime: None,
        }
    }

    /// Seconds and nanoseconds for which the guest believes what it is told.
    fn valid(&self) -> (u64, u32) {
        (self.valid.as_secs(), self.valid.subsec_nanos())
    }

    pub(crate) fn ino(&self, identity: Identity) -> u64 {
        match identity.dev {
            0 => identity.ino,
            dev => self.lock().devices.ino(dev, identity.ino),
        }
    }

    /// What the guest is told of node `id`.
    pub(crate) fn entry(&self, nodeid: u64, stat: &Stat) -> Result<fuse_entry_out, Errno> {
        let (valid, nsec) = self.valid();
        Ok(fuse_entry_out {
            nodeid,
            generation: 0,
            entry_valid: valid,
            attr_valid: valid,
            entry_valid_nsec: nsec,
            attr_valid_nsec: nsec,
            attr: self.attr(stat),
        })
    }

    fn attr_out(&self, stat: &Stat) -> fuse_attr_out {
        let (attr_valid, attr_valid_nsec) = self.valid();
        fuse_attr_out { attr_valid, attr_valid_nsec, dummy: 0, attr: self.attr(stat) }
    }

    fn attr(&self, stat: &Stat) -> fuse_attr {
        fuse_attr {
            ino: self.ino(stat.identity),
            size: stat.size,
            blocks: stat.blocks,
            atime: stat.atime.sec as u64,
            mtime: stat.mtime.sec as u64,
            ctime: stat.ctime.sec as u64,
            atimensec: stat.atime.nsec,
            mtimensec: stat.mtime.nsec,
            ctimensec: stat.ctime.nsec,
            mode: stat.mode,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: device_number(stat.rdev),
            blksize: stat.blksize,
            flags: 0,
        }
    }

    fn statx_of(&self, stat: &Stat) -> fuse_statx {
        let time = |time: Time| fuse_sx_time { tv_sec: time.sec, tv_nsec: time.nsec, reserved: 0 };
        fuse_statx {
            mask: spec::STATX_BASIC_STATS | if stat.btime.is_some() { spec::STATX_BTIME } else { 0 },
            blksize: stat.blksize,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            mode: stat.mode as u16,
            ino: self.ino(stat.identity),
            size: stat.size,
            blocks: stat.blocks,
            atime: time(stat.atime),
            btime: stat.btime.map(time).unwrap_or_default(),
            ctime: time(stat.ctime),
            mtime: time(stat.mtime),
            rdev_major: stat.rdev.0,
            rdev_minor: stat.rdev.1,
            ..fuse_statx::default()
        }
    }

    pub(crate) fn setattr(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let asked: fuse_setattr_in = call.body.read()?;
        let found = self.found_writable(call.header.nodeid)?;
        let pin = self.pin(&found)?;
        let has = |bit: u32| asked.valid & bit != 0;
        if has(spec::FATTR_UID | spec::FATTR_GID) {
            let uid = has(spec::FATTR_UID).then_some(asked.uid);
            let gid = has(spec::FATTR_GID).then_some(asked.gid);
            self.host.change_owner(&pin, uid, gid)?;
        }
        if has(spec::FATTR_MODE) {
            self.host.change_mode(&pin, asked.mode & spec::PERMISSIONS)?;
        }
        if has(spec::FATTR_SIZE) {
            self.truncate(call, &asked, &found, &pin)?;
        }
        if has(spec::FATTR_ATIME | spec::FATTR_MTIME) {
            self.host.change_times(&pin, new_times(&asked))?;
        }
        let stat = self.host.stat_pinned(&pin)?;
        Ok(Answer::of(&self.attr_out(&stat)))
    }

    fn truncate(&self, call: &Call<'_>, asked: &fuse_setattr_in, found: &Found, pin: &Pin) -> Result<(), Errno> {
        if found.identity.kind != spec::S_IFREG {
            return Err(Errno::INVAL);
        }
        if asked.valid & spec::FATTR_KILL_SUIDGID != 0 {
            self.drop_privileges(call, pin)?;
        }
        if asked.valid & spec::FATTR_FH != 0 {
            let handle = self.handle_of(call, asked.fh)?;
            return Ok(rustix::fs::ftruncate(handle.fd(), asked.size)?);
        }
        let file = self.host.open(pin, OpenMode::WRITE)?;
        Ok(rustix::fs::ftruncate(&file, asked.size)?)
    }

    /// Takes setuid and setgid away, as a write by somebody without CAP_FSETID does.
    pub(crate) fn drop_privileges(&self, call: &Call<'_>, pin: &Pin) -> Result<(), Errno> {
        match self.host.stat_pinned(pin)?.without_privileges(call.header.gid) {
            Some(mode) => self.host.change_mode(pin, mode),
            None => Ok(()),
        }
    }

    pub(crate) fn readlink(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let found = self.found(call.header.nodeid)?;
        if found.identity.kind != spec::S_IFLNK {
            return Err(Errno::INVAL);
        }
        if found.share.symlinks == SymlinkPolicy::Deny {
            return Err(Errno::ACCES);
        }
        let mut target = self.host.read_link(&self.pin(&found)?)?;
        target.truncate(call.reply.room());
        Ok(Answer::Bytes(target))
    }
}

fn new_times(asked: &fuse_setattr_in) -> NewTimes {
    let pick = |set: u32, now: u32, sec: u64, nsec: u32| {
        let time = (asked.valid & now == 0).then_some(Time { sec: sec as i64, nsec });
        (asked.valid & set != 0).then_some(time)
    };
    NewTimes {
        atime: pick(spec::FATTR_ATIME, spec::FATTR_ATIME_NOW, asked.atime, asked.atimensec),
        mtime: pick(spec::FATTR_MTIME, spec::FATTR_MTIME_NOW, asked.mtime, asked.mtimensec),
    }
}

/// A device number as the protocol packs it.
fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}
