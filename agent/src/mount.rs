//! Mounting a file system for the host.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use nix::errno::Errno;
use nix::mount::MsFlags;
use supermachine_agent_protocol::{ErrorReply, Mount};

use crate::reply::{bad_request, os_error};

/// Flag options by name: what they set, and what they clear.
const FLAGS: [(&str, MsFlags, MsFlags); 17] = {
    const NONE: MsFlags = MsFlags::empty();
    [
        ("ro", MsFlags::MS_RDONLY, NONE),
        ("rw", NONE, MsFlags::MS_RDONLY),
        ("nosuid", MsFlags::MS_NOSUID, NONE),
        ("suid", NONE, MsFlags::MS_NOSUID),
        ("nodev", MsFlags::MS_NODEV, NONE),
        ("dev", NONE, MsFlags::MS_NODEV),
        ("noexec", MsFlags::MS_NOEXEC, NONE),
        ("exec", NONE, MsFlags::MS_NOEXEC),
        ("sync", MsFlags::MS_SYNCHRONOUS, NONE),
        ("dirsync", MsFlags::MS_DIRSYNC, NONE),
        ("noatime", MsFlags::MS_NOATIME, NONE),
        ("nodiratime", MsFlags::MS_NODIRATIME, NONE),
        ("relatime", MsFlags::MS_RELATIME, NONE),
        ("strictatime", MsFlags::MS_STRICTATIME, NONE),
        ("bind", MsFlags::MS_BIND, NONE),
        ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), NONE),
        ("remount", MsFlags::MS_REMOUNT, NONE),
    ]
};

/// Makes the target directory and mounts on it.
pub(crate) fn mount(request: &Mount) -> Result<(), ErrorReply> {
    if !request.target.starts_with('/') {
        return Err(bad_request("mount: target is not an absolute path"));
    }
    let flags = parse(&request.flags)?;
    let failed = |errno| {
        let Mount { source, target, fstype, .. } = request;
        os_error(&format!("mount {source:?} ({fstype}) on {target:?}"), errno)
    };
    DirBuilder::new().recursive(true).mode(0o755).create(&request.target).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
        os_error(&format!("mkdir {:?}", request.target), errno)
    })?;
    call(request, flags).map_err(failed)?;
    // A bind mount takes its flags only when it is mounted again.
    let only_bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    if flags.contains(MsFlags::MS_BIND) && !only_bind.contains(flags) && !flags.contains(MsFlags::MS_REMOUNT) {
        call(request, flags.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT).map_err(failed)?;
    }
    Ok(())
}

fn call(request: &Mount, flags: MsFlags) -> nix::Result<()> {
    let Mount { source, target, fstype, flags: _, data } = request;
    let fstype = Some(fstype.as_str()).filter(|fstype| !fstype.is_empty());
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    nix::mount::mount(Some(source.as_str()), target.as_str(), fstype, flags, data)
}

fn parse(names: &[String]) -> Result<MsFlags, ErrorReply> {
    names.iter().try_fold(MsFlags::empty(), |flags, name| {
        let known = FLAGS.iter().find(|(known, ..)| known == name);
        let (_, set, clear) = known.ok_or_else(|| bad_request(format!("mount: unknown flag {name:?}")))?;
        Ok(flags.difference(*clear) | *set)
    })
}
