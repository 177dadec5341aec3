"""Trees as lists of all their entries with all attributes, made by listing.c, and what differs between two."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import container

HERE = Path(__file__).resolve().parent
BED = container.ROOT / "conformance/testbed/run"
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_ADMIN", "CAP_SETFCAP"]
# What a container has of its own: its devices, and the folder with the program that lists.
LEFT_OUT = ["/dev", "/mnt", "/proc", "/sys"]
# Fields of a line of the listing, behind the path.
LINKS, GROUP, XATTRS = 7, 8, 10
TIMEOUT_S = 600
# The bed is an emulated machine, and the container's is one in it. What the runtime writes there is in the bed's memory.
BED_TIMEOUT_S, BED_MEMORY_MIB = 3000, 6144


class Lister:
    """Lists trees of this host, and what containers have as their root."""

    def __init__(self, work, kvm=False):
        """Everything is below `work`; with `kvm` containers run in the test bed."""
        self.work, self.kvm, self.tools = work, kvm, work / "tools"
        self.tools.mkdir()
        subprocess.run(["cc", "-O2", "-static", "-o", self.tools / "listing", HERE / "listing.c"], check=True)

    def tree(self, tree):
        return parse(subprocess.run([self.tools / "listing", tree, *LEFT_OUT], check=True, stdout=subprocess.PIPE).stdout)

    def configure(self, bundle, root_path=None):
        """Has the container of the bundle list its own root and nothing else; a bundle without a configuration gets one with this root."""
        path = bundle / "config.json"
        config = json.loads(path.read_text()) if path.exists() else {"ociVersion": "1.0.2", "root": {"path": str(root_path)}}
        rights = {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")}
        config["process"] = {"args": ["/mnt/listing", "/", *LEFT_OUT], "cwd": "/", "env": ["PATH=/bin"],
                             "user": {"uid": 0, "gid": 0}, "capabilities": rights}
        config["mounts"] = [{"destination": "/mnt", "type": "bind", "source": str(self.tools), "options": ["bind", "ro"]}]
        config["linux"] = {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]}
        path.write_text(json.dumps(config))

    def container(self, bundle, disk=None):
        """What a configured bundle's container has, and the seconds that its run took. In the bed it may have its root on a disk: the file
        of that, and where it is mounted."""
        printed, seconds = self.run(bundle, disk)
        return parse(printed), seconds

    def run(self, bundle, disk):
        command = [container.RUNTIME, "--root", str(self.work / "state"), "run", "--bundle", str(bundle), f"list-{bundle.name}"]
        env, timeout_s = container.environment(self.work / "data"), TIMEOUT_S
        if self.kvm:
            timeout_s, options = BED_TIMEOUT_S, []
            if disk:
                file, at = disk
                options = ["--module", "ext4", "--disk", str(file)]
                command = ["sh", "-c", 'mount -t ext4 -o ro /dev/vda "$0" && exec "$@"', str(at), *command]
            command = [BED, "--timeout", str(timeout_s), "--memory", str(BED_MEMORY_MIB), "--times", *options, "--", *command]
            env |= {"SUPERMACHINE_HYPERVISOR": "kvm", "SUPERMACHINE_PROBE_MS": "5000"}
        start = time.monotonic()
        # The bed keeps its own time.
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, timeout=timeout_s + 60, check=False)
        if done.returncode:
            sys.exit(f"{Path(sys.argv[0]).name}: the container of {bundle.name} ended with {done.returncode}")
        return done.stdout, time.monotonic() - start


def parse(listing):
    """Lines by path; which paths are links of one file, by those paths."""
    entries, groups = {}, {}
    for line in listing.decode().splitlines():
        path, *rest = line.split(" ")
        group, rest[GROUP] = rest[GROUP], "-"
        entries[path] = rest
        if group != "0":
            groups.setdefault(group, []).append(path)
    return entries, {tuple(sorted(paths)) for paths in groups.values() if len(paths) > 1}


def with_seen_links(tree):
    """The tree with as many links of each file as are seen. An overlay counts one that a layer above removed, an image of what
    is seen does not."""
    entries, groups = tree
    counts = {path: str(len(paths)) for paths in groups for path in paths}
    seen = {path: list(entry) for path, entry in entries.items()}
    for path, entry in seen.items():
        if entry[0] != "directory":
            entry[LINKS] = counts.get(path, "1")
    return seen, groups


def without_empty_attributes(tree):
    """The tree without extended attributes that have no value: who reads pax as it is written takes such a record for one that takes
    an earlier one back."""
    entries, groups = tree
    kept = {path: list(entry) for path, entry in entries.items()}
    for entry in kept.values():
        entry[XATTRS] = ",".join(pair for pair in entry[XATTRS].split(",") if not pair.endswith("=-")) or "-"
    return kept, groups


def differences(host, guest):
    (entries, links), (theirs, their_links) = host, guest
    for path in sorted(entries.keys() | theirs.keys()):
        mine, other = entries.get(path), theirs.get(path)
        if mine != other:
            yield f"{path or '/'}: host {' '.join(mine or ['absent'])[:300]}, guest {' '.join(other or ['absent'])[:300]}"
    for paths in sorted(links ^ their_links):
        yield f"links {', '.join(paths)}: only {'on the host' if paths in links else 'in the guest'}"


def report(what, one, other, figures, name):
    """Prints the first differences, and adds the figure of all."""
    wrong = list(differences(one, other))
    for line in wrong[:20]:
        print(f"{what}: {line}")
    figures.append((name, len(wrong), "entries", "<=0"))


def finish(figures):
    """Prints the figures; the exit status."""
    failed = False
    for name, value, unit, bound in figures:
        print(f"{name} {value} {unit} {bound}")
        failed |= value > int(bound[2:]) if bound.startswith("<=") else value < int(bound[2:])
    return 1 if failed else 0
