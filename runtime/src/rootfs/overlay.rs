//! A root file system that an engine has mounted as an overlay: the directories that it is made of.
//!
//! Each container of an image has an overlay of its own, over directories that all of them share. As a whole it would be
//! packed for each container; its directories are packed once.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, llistxattr, major, minor, statfs};
use supermachine_agent_protocol::spec::LAYERS_MAX;

use crate::host::mountinfo::{self, Mount};

/// `OVERLAYFS_SUPER_MAGIC` of `linux/magic.h`.
const OVERLAYFS: FsWord = 0x794c_7630;

/// The directories of the overlay that is mounted at `root`, the lowest first. Nothing where none is, or where they would
/// not come to the same if they were laid over each other once more.
pub(super) fn directories(root: &Path) -> Option<Vec<PathBuf>> {
    // Most roots are none: the host's mounts, of which there may be thousands, are not read for them.
    statfs(root).ok().filter(|found| found.f_type == OVERLAYFS)?;
    let (root, text) = (root.canonicalize().ok()?, fs::read_to_string("/proc/self/mountinfo").ok()?);
    let mounts: Vec<_> = text.lines().filter_map(mountinfo::mount).collect();
    let seen = fs::symlink_metadata(&root).ok()?;
    let device = format!("{}:{}", major(seen.st_dev()), minor(seen.st_dev()));
    let paths = layers(overlay_at(&mounts, &root, &device)?)?;
    let mut directories = paths.into_iter().map(|path| path.canonicalize().ok()).collect::<Option<Vec<_>>>()?;
    // An overlay does not show what is mounted in its directories, and a directory that is packed has it.
    if mounts.iter().any(|mount| directories.iter().any(|directory| is_below(&mount.target, directory))) {
        return None;
    }
    // Paths are those of whoever mounted it: the topmost directory must be what is seen.
    let shown = |meta: &fs::Metadata| {
        let changed = [meta.st_mtime(), meta.st_mtime_nsec(), meta.st_ctime(), meta.st_ctime_nsec()];
        (meta.st_mode(), meta.st_uid(), meta.st_gid(), changed)
    };
    let own = fs::metadata(directories.last()?).ok()?;
    if shown(&own) != shown(&seen) || !directories.iter().all(|directory| directory.is_dir()) {
        return None;
    }
    if let [.., below, top] = &directories[..]
        && adds_nothing(top, below)
    {
        directories.pop();
    }
    (directories.len() <= LAYERS_MAX).then_some(directories)
}

/// The overlay at `root`, unless something else is mounted below.
fn overlay_at<'a, 'b>(mounts: &'b [Mount<'a>], root: &Path, device: &str) -> Option<&'b Mount<'a>> {
    if mounts.iter().any(|mount| is_below(&mount.target, root)) {
        return None;
    }
    let topmost = mounts.iter().rfind(|mount| mount.target == root)?;
    let whole = topmost.kind == "overlay" && topmost.device == device && topmost.root == Path::new("/");
    whole.then_some(topmost)
}

fn is_below(path: &Path, directory: &Path) -> bool {
    path != directory && path.starts_with(directory)
}

/// The directories that its options name, the lowest first; nothing where one is not a plain path from the root, or the overlay is of
/// a form that is not ours in the guest.
fn layers(mount: &Mount<'_>) -> Option<Vec<PathBuf>> {
    let (mut lower, mut upper) = (Vec::new(), None);
    for option in mount.options.split(',') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = mountinfo::unescape(value).into_os_string().into_string().ok()?;
        match name {
            "lowerdir" => lower.extend(value.split(':').map(str::to_owned)),
            "lowerdir+" => lower.push(value),
            "upperdir" => upper = Some(value),
            // Layers of content alone; marks under other names.
            "datadir+" | "userxattr" => return None,
            _ => {}
        }
    }
    // Options name the topmost first.
    let all = lower.into_iter().rev().chain(upper);
    // A backslash was to keep a colon or a comma from its meaning, or is of a name.
    let plain = |path: String| (path.starts_with('/') && !path.contains('\\')).then(|| PathBuf::from(path));
    all.map(plain).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
}

/// Whether an empty directory on top of another only has other times: those of the container that it was made for. Without it
/// all containers of an image have the same layers.
fn adds_nothing(top: &Path, below: &Path) -> bool {
    let empty = fs::read_dir(top).is_ok_and(|mut entries| entries.next().is_none());
    let (Ok(own), Ok(other)) = (fs::metadata(top), fs::metadata(below)) else { return false };
    let owner = |meta: &fs::Metadata| (meta.st_mode(), meta.st_uid(), meta.st_gid());
    empty && owner(&own) == owner(&other) && [top, below].iter().all(|path| is_without_attributes(path))
}

/// Whether a directory has no extended attributes but those that overlays keep for themselves.
fn is_without_attributes(path: &Path) -> bool {
    let mut names = [0; 4096];
    let Ok(length) = llistxattr(path, &mut names[..]) else { return false };
    let names = names.get(..length).unwrap_or_default();
    names.split(|&byte| byte == 0).all(|name| name.is_empty() || name.starts_with(b"trusted.overlay."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOVE: &str = "22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n";

    fn found(lines: &str) -> Option<Vec<PathBuf>> {
        let text = format!("{ABOVE}{lines}");
        let mounts: Vec<_> = text.lines().filter_map(mountinfo::mount).collect();
        layers(overlay_at(&mounts, Path::new("/run/c/merged"), "0:51")?)
    }

    fn line(options: &str) -> String {
        format!("90 22 0:51 / /run/c/merged rw,relatime - overlay overlay {options}\n")
    }

    #[test]
    fn the_lowest_comes_first_and_what_is_written_to_last() {
        let options = "rw,lowerdir=/i/l/B:/i/l/A,upperdir=/i/c\\040d/diff,workdir=/i/c/work,volatile,metacopy=on";
        let expected = ["/i/l/A", "/i/l/B", "/i/c d/diff"].map(PathBuf::from).to_vec();
        assert_eq!(found(&line(options)), Some(expected));
        let expected = ["/a:1", "/b"].map(PathBuf::from).to_vec();
        assert_eq!(found(&line("ro,lowerdir+=/b,lowerdir+=/a:1")), Some(expected));
    }

    #[test]
    fn what_is_not_plain_is_not_taken_apart() {
        for options in [
            "rw",
            "rw,lowerdir=l/A:l/B,upperdir=/u",
            "rw,lowerdir=/a\\134:b,upperdir=/u",
            "rw,lowerdir=/a::/data,upperdir=/u",
            "rw,lowerdir=/a,datadir+=/data",
            "rw,lowerdir=/a,upperdir=/u,userxattr",
        ] {
            assert_eq!(found(&line(options)), None, "{options}");
        }
        let good = line("rw,lowerdir=/a,upperdir=/u");
        let below = "91 90 0:52 / /run/c/merged/data rw - tmpfs tmpfs rw\n";
        let over = "92 90 0:53 / /run/c/merged rw - tmpfs tmpfs rw\n";
        let part = good.replace("0:51 / ", "0:51 /etc ");
        let other = good.replace("0:51", "0:50");
        for lines in [format!("{good}{below}"), format!("{good}{over}"), part, other, String::new()] {
            assert_eq!(found(&lines), None, "{lines}");
        }
        assert!(found(&format!("{over}{good}")).is_some(), "the topmost counts");
        assert!(found(&good.replace("/c/merged ", "/c/merged2 ")).is_none());
        assert!(found(&format!("{good}{}", good.replace("/c/merged ", "/c/merged2 "))).is_some());
    }
}
