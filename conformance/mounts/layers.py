"""A root file system in many layers, as overlayfs keeps them and as images carry them."""
import ctypes
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OPAQUE = "trusted.overlay.opaque"
CLONE_NEWNS = 0x20000
# Of a file system for any of the trees; what is not used of it takes no room.
DISK_BYTES = 4 << 30
# security.capability of revision 2: cap_net_raw permitted and effective.
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


def own_mounts():
    """From now on this process's mounts are its own, and end with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        sys.exit(f"{Path(sys.argv[0]).name}: needs root, for mounts: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


class Layers:
    """Overlay layers below a folder, the lowest first: a Debian, then one for each change."""

    def __init__(self, work, debian):
        self.work, self.lowest, self.uppers = work, debian, []

    def lowerdirs(self):
        return ":".join(str(path) for path in [*reversed(self.uppers), self.lowest])

    def mount(self, target, upper=None):
        target.mkdir(exist_ok=True)
        options = f"lowerdir={self.lowerdirs()},redirect_dir=off,metacopy=off,index=off"
        if upper:
            scratch = self.work / f"scratch{len(self.uppers)}"
            scratch.mkdir()
            options += f",upperdir={upper},workdir={scratch}"
        # A path of `lowerdir` that is too long for one page of options would need another way; ours are short.
        run("mount", "-t", "overlay", "overlay", "-o", options, target)

    def change(self, function):
        upper, at = self.work / f"u{len(self.uppers)}", self.work / "changing"
        upper.mkdir(mode=0o755)
        self.mount(at, upper)
        try:
            function(at)
        finally:
            run("umount", at)
        self.uppers.append(upper)


def special_files(root):
    """One of everything that a file system can hold and an image layer can carry."""
    place = root / "opt/special"
    place.mkdir(parents=True)
    (place / "setuid").write_bytes(b"#!/bin/sh\n")
    os.chown(place / "setuid", 4294967294, 65536)
    os.chmod(place / "setuid", 0o6755)
    (place / "ping").write_bytes(b"\x7fELF")
    os.setxattr(place / "ping", "security.capability", NET_RAW)
    (place / "noted").write_bytes(b"x")
    os.setxattr(place / "noted", "user.note", bytes(range(256)))
    os.setxattr(place / "noted", "user.empty", b"")
    os.mkfifo(place / "fifo", 0o640)
    os.mknod(place / "tty7", stat.S_IFCHR | 0o620, os.makedev(4, 7))
    os.mknod(place / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    (place / "empty").touch()
    with open(place / "sparse", "wb") as file:
        file.truncate(300 << 20)
        file.seek(200 << 20)
        file.write(b"in the middle")
    os.link(place / "noted", place / "noted-again")
    os.symlink("/" + "a" * 3000, place / "long-link")
    os.mkdir(place / "sticky")
    os.chmod(place / "sticky", 0o3777)
    (Path(os.fsdecode(os.fsencode(place) + b"/\xff\xfe name\n"))).write_bytes(b"not UTF-8")
    (place / ("n" * 255)).write_bytes(b"long name")
    for name, when in (("old", -1), ("older", 0), ("future", 2**32 - 1)):
        (place / name).touch()
        os.utime(place / name, (max(when, 0), max(when, 0)))
    for n in range(3000):
        (place / "sticky" / f"{n:05}").write_bytes(b"%d" % n)


def removals(root):
    """Whiteouts of files, links and whole directories; a Debian loses half of what is in it, and keeps more than 300 MB."""
    for name in ("lib", "share"):
        for compiler in root.glob(f"usr/{name}/go-*"):
            shutil.rmtree(compiler)
    os.unlink(root / "opt/special/empty")
    os.unlink(root / "opt/special/noted-again")
    shutil.rmtree(root / "usr/share/zoneinfo", ignore_errors=True)
    shutil.rmtree(root / "usr/share/common-licenses", ignore_errors=True)
    for n in range(0, 3000, 3):
        os.unlink(root / f"opt/special/sticky/{n:05}")


def opaque(root):
    """A directory removed and made again hides all that was in it."""
    shutil.rmtree(root / "opt/special/sticky")
    os.mkdir(root / "opt/special/sticky", 0o700)
    (root / "opt/special/sticky/only").write_bytes(b"me")
    os.mkdir(root / "usr/share/common-licenses", 0o755)


def replacements(root):
    """Files become directories and the other way round, links become files."""
    os.unlink(root / "opt/special/fifo")
    os.mkdir(root / "opt/special/fifo", 0o711)
    (root / "opt/special/fifo/inside").write_bytes(b"1")
    os.unlink(root / "opt/special/long-link")
    (root / "opt/special/long-link").write_bytes(b"a file now")
    shutil.rmtree(root / "opt/special/sticky")
    (root / "opt/special/sticky").write_bytes(b"a file too")
    os.mkdir(root / "opt/special/empty", 0o755)


def attributes(root):
    """Nothing but attributes."""
    os.chmod(root / "usr/bin/env", 0o4711)
    os.chown(root / "opt/special/old", 12345, 54321)
    os.chown(root / "opt/special/fifo", 7, 8)
    os.setxattr(root / "opt/special/older", "user.later", b"layer")
    os.chmod(root / "opt/special", 0o1775)
    os.setxattr(root, "user.root", b"its own")
    os.chown(root, 1, 2)
    os.chmod(root, 0o1755)


def back_again(root):
    """What a layer below removed comes back."""
    (root / "opt/special/noted-again").write_bytes(b"new")
    os.makedirs(root / "usr/share/zoneinfo/Etc")
    (root / "usr/share/zoneinfo/Etc/UTC").write_bytes(b"TZif")


def filler(n):
    """A layer that adds a file, and removes the one of the layer below it."""
    def change(root):
        (root / f"opt/filler-{n}").write_bytes(b"%d\n" % n * 1000)
        if n:
            os.unlink(root / f"opt/filler-{n - 1}")
    return change


CHANGES = [special_files, removals, opaque, replacements, attributes, back_again, *(filler(n) for n in range(5))]


def tar_of(upper, out):
    """An image layer of an overlay's upper directory: whiteouts and opaque directories in the form of image layers."""
    links = {}
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder, directories, files in os.walk(os.fsencode(upper)):
            directories.sort()
            names = [b"", *sorted(directories), *sorted(files)] if folder == os.fsencode(upper) else [*sorted(directories), *sorted(files)]
            for name in names:
                add(tar, upper, os.path.join(folder, name) if name else folder, links)


def whiteout(tar, path):
    info = tarfile.TarInfo(path)
    tar.addfile(info, io.BytesIO())


def add(tar, upper, path, links):
    entry = os.lstat(path)
    inside = os.fsdecode(os.path.relpath(path, os.fsencode(upper)))
    if stat.S_ISCHR(entry.st_mode) and entry.st_rdev == 0:
        whiteout(tar, os.path.join(os.path.dirname(inside), ".wh." + os.path.basename(inside)))
        return
    info = tar.gettarinfo(os.fsdecode(path), arcname=inside)
    info.uname = info.gname = ""
    info.mtime = entry.st_mtime_ns // 10**9
    info.pax_headers = {}
    # The library knows hard links by the first name it saw; so do we, because it forgets them between layers.
    key = (entry.st_dev, entry.st_ino)
    if stat.S_ISREG(entry.st_mode):
        info.type, info.size = tarfile.REGTYPE, entry.st_size
        if entry.st_nlink > 1:
            if key in links:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, links[key], 0
            links.setdefault(key, inside)
    hides = False
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, name, follow_symlinks=False)
        if name.startswith("trusted.overlay."):
            hides |= name == OPAQUE and value == b"y"
        elif info.type != tarfile.LNKTYPE:
            info.pax_headers["SCHILY.xattr." + name] = value.decode("utf-8", "surrogateescape")
    if info.type == tarfile.REGTYPE:
        with open(path, "rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info)
    if hides:
        whiteout(tar, os.path.join(inside, ".wh..wh..opq"))


def tar_of_tree(tree, out):
    """A layer of a whole tree, by the system's tar: it writes holes as holes."""
    run("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--format=pax", "--sort=name", "-S", "-cf", out, "-C", tree, ".")


def tars_of(layers, work, name):
    """An image's layers of overlay layers, the lowest first."""
    tars = []
    for n, source in enumerate([layers.lowest, *layers.uppers]):
        tars.append(work / f"{name}-{n}.tar")
        (tar_of if n else tar_of_tree)(source, tars[-1])
    return tars


def ext4_of(tree, image, at):
    """The tree on an ext4 file system in a file, for machines that have it as a disk; it was mounted at a folder to be written."""
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", image)
    at.mkdir()
    run("mount", "-o", "loop", image, at)
    try:
        os.rmdir(at / "lost+found")
        run("cp", "-dR", "--preserve=all", f"{tree}/.", at)
    finally:
        run("umount", at)


def digest_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def oci_layout(folder, tars):
    """An image of these layers, lowest first; they are moved into it."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layers = []
    for tar in tars:
        digest, size = digest_file(tar), tar.stat().st_size
        shutil.move(tar, blobs / digest)
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{digest}", "size": size})
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
              "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(config).encode())}}
    index = {"schemaVersion": 2, "manifests": [{"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode()),
                                               "annotations": {"org.opencontainers.image.ref.name": "trees"}}]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def small_root(folder):
    """What the changes need, and busybox."""
    for name in ("bin", "dev", "mnt", "opt", "proc", "sys", "usr/bin", "usr/share/common-licenses", "usr/share/zoneinfo/Europe"):
        (folder / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), folder / "bin/busybox")
    os.link(folder / "bin/busybox", folder / "usr/bin/env")
    os.link(folder / "bin/busybox", folder / "bin/sh")
    for name in ("common-licenses/GPL", "zoneinfo/Europe/Rome"):
        (folder / "usr/share" / name).write_text(name)
    return folder


def debian_root():
    return Path(subprocess.check_output([ROOT / "conformance/programs/root"], text=True).strip()) / "tree"
