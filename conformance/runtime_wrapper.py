"""The runtime under test as one program without arguments: callers such as podman pass neither global options nor environment on."""
import os
import shlex
from pathlib import Path

# What finds the parts of supermachine, and the variables of `conformance/with-guest` that name them for tests.
PARTS = {
    "SUPERMACHINE_VMM": "SUPERMACHINE_VMM",
    "SUPERMACHINE_KERNEL": "SUPERMACHINE_TEST_KERNEL",
    "SUPERMACHINE_INITRAMFS": "SUPERMACHINE_TEST_INITRAMFS",
    "SUPERMACHINE_HYPERVISOR": "SUPERMACHINE_HYPERVISOR",
}


def wrap(runtime, folder, data):
    """Writes the program `folder/runtime`. State is kept in `folder/state`, images in `data`; `folder/created` gets the name of each container."""
    lines = ["#!/bin/sh", f"export SUPERMACHINE_DATA={shlex.quote(str(data))}"]
    for name, test_name in PARTS.items():
        value = os.environ.get(name) or os.environ.get(test_name)
        if value:
            lines.append(f"export {name}={shlex.quote(value)}")
    lines.append(f'if [ "$1" = create ]; then for id in "$@"; do :; done; echo "$id" >>{shlex.quote(str(folder))}/created; fi')
    lines.append(f'exec {shlex.quote(str(runtime))} --root {shlex.quote(str(folder))}/state "$@"')
    program = Path(folder) / "runtime"
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    return program


def created(folder):
    """The names of the containers that were created."""
    names = Path(folder) / "created"
    return set(names.read_text().split("\n")) - {""} if names.exists() else set()


def images_left(data):
    """What is still in use, or half made, in the layer store."""
    return [str(path.relative_to(data)) for name in ("holds", "making", "locks") for path in (Path(data) / "layers" / name).glob("*")]
