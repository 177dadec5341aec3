"""Containers of busybox for the checks of mounts."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RUNTIME = os.environ.get("RUNTIME", str(TARGET / "release/supermachine-runtime"))
CAPABILITIES = ["CAP_" + name for name in """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETFCAP SETPCAP LINUX_IMMUTABLE
    LEASE MKNOD SYS_ADMIN SYS_RESOURCE SYS_CHROOT""".split()]
APPLETS = ["sh", "cat", "dd", "sync", "mount"]


def busybox_root(folder, programs=()):
    """A root file system of busybox and these programs."""
    for name in ("bin", "dev", "proc", "sys", "tmp", "share", "scratch"):
        (folder / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), folder / "bin/busybox")
    for applet in APPLETS:
        (folder / "bin" / applet).symlink_to("busybox")
    for program in programs:
        shutil.copy(program, folder / "bin")
    return folder


def bundle(folder, root, script, mounts):
    """A bundle whose container runs a shell script as root with all that root may do to files."""
    rights = {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")}
    config = {
        "ociVersion": "1.0.2",
        "process": {"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "capabilities": rights},
        "root": {"path": str(root)},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}, *mounts],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def environment(data):
    """Where the runtime finds the guest, and where it keeps its own."""
    env = dict(os.environ, SUPERMACHINE_DATA=str(data))
    for name in ("KERNEL", "INITRAMFS"):
        env.setdefault(f"SUPERMACHINE_{name}", os.environ[f"SUPERMACHINE_TEST_{name}"])
    return env


def run(work, folder, timeout_s):
    """What the container of a bundle prints; it must end well."""
    command = [RUNTIME, "--root", str(work / "state"), "run", "--bundle", str(folder), folder.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="surrogateescape", timeout=timeout_s, check=False,
                          env=environment(work / "data"))
    if done.returncode:
        sys.exit(f"{Path(sys.argv[0]).name}: the container ended with {done.returncode} after printing:\n{done.stdout[-2000:]}")
    return done.stdout
