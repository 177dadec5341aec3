"""podman in a folder of its own, and what it leaves behind there."""
import ctypes
import io
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from runtime_wrapper import created, images_left, wrap

PR_SET_CHILD_SUBREAPER = 36
IMAGE = "localhost/busybox"
# runc sets the limits of a container on the host, where root may lack the right to raise them to podman's defaults.
CONTROL_LIMITS = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]


class Podman:
    def __init__(self, folder, runtime, control):
        self.folder, self.runtime, self.control = folder, runtime, control
        self.base = ["podman", "--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/libpod",
                     "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", str(wrap(runtime, folder, folder / "data"))]
        self.log = (folder / "log").open("w")
        # What containers leave becomes a child of this process.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def __call__(self, *arguments, timeout=60, stdin=b""):
        """Runs podman with these arguments; a process that does not end counts as status 124."""
        try:
            done = subprocess.run([*self.base, *arguments], input=stdin, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as late:
            return Done(124, late.stdout or b"", (late.stderr or b"") + b"does not end")
        self.log.write(f"{arguments}: {done.returncode} {done.stderr}\n")
        return Done(done.returncode, done.stdout, done.stderr)

    def run_arguments(self, *arguments):
        """The arguments of `podman run` that all checks share."""
        return ["run", "--network", "none", *(CONTROL_LIMITS if self.control else []), *arguments]

    def run(self, *arguments, **others):
        return self(*self.run_arguments(*arguments), **others)

    def start(self, *arguments):
        """Starts a container in the background and gives its name."""
        name = f"c{time.monotonic_ns()}"
        done = self.run("--detach", "--name", name, *arguments)
        done.want_status(0)
        return name

    def inspect(self, name, what):
        return self("inspect", "--format", f"{{{{.{what}}}}}", name).want_status(0).text.strip()

    def terminal(self, *arguments, rows=24, columns=80):
        return Terminal([*self.base, *arguments], rows, columns)

    def make_image(self):
        """An image with nothing but a static busybox and its names."""
        busybox = shutil.which("busybox")
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        with tarfile.open(self.folder / "image.tar", "w") as tar:
            for folder in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"]:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                tar.addfile(entry)
            tar.add(busybox, "bin/busybox")
            for name in set(names) - {"busybox"}:
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
            for name, text in [("etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"),
                               ("etc/group", "root:x:0:\nuser:x:1000:\n")]:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(text), 0o644
                tar.addfile(entry, io.BytesIO(text.encode()))
        self("import", str(self.folder / "image.tar"), IMAGE, timeout=120).want_status(0)

    def remove_all(self):
        self("rm", "--all", "--force", "--time", "0", timeout=120)

    def finish(self):
        """Removes everything and gives what is left of the containers all the same, a line each."""
        left = []
        ids = self("ps", "--all", "--quiet", "--no-trunc").text.split()
        left += [f"container {name}" for name in ids]
        wait_for(5, lambda: (reap(), not children())[1])
        left += [f"process {pid} {name}" for pid, name in children()]
        for pid, _ in children():
            os.kill(pid, signal.SIGKILL)
        state = self.folder / "state"
        left += [f"state {entry.name}" for entry in state.iterdir()] if state.is_dir() else []
        left += [f"image {name}" for name in images_left(self.folder / "data")]
        left += [f"mount {point}" for point in mounts_below(self.folder, but=self.folder / "storage" / "overlay")]
        left += [f"cgroup {path}" for path in container_cgroups(self.folder)]
        for point in reversed(mounts_below(self.folder)):
            subprocess.run(["umount", "--lazy", point], check=False)
        remove_parents()
        return left


class Done:
    """What a command gave."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def text(self):
        return self.out.decode(errors="replace")

    def want_status(self, status):
        from checks import want
        want(self.status == status, f"status {self.status}, not {status}: {self.err.decode(errors='replace').strip()[-300:]}")
        return self

    def want_text(self, text):
        from checks import want
        want(self.text == text, f"printed {self.text[-200:]!r}, not {text!r}")
        return self


class Terminal:
    """A command on a pseudo-terminal of ours."""

    def __init__(self, command, rows, columns):
        self.seen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                # The parent sets the size before it writes this line.
                os.read(0, 1)
                os.execvp(command[0], command)
            finally:
                os._exit(127)
        self.resize(rows, columns)
        os.write(self.master, b"\n")

    def resize(self, rows, columns):
        termios.tcsetwinsize(self.master, (rows, columns))

    def write(self, text):
        os.write(self.master, text)

    def read_until(self, text, seconds=30):
        """Reads until that text was seen; gives whether it was."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            rest = end - time.monotonic()
            if rest <= 0 or not select.select([self.master], [], [], rest)[0]:
                return False
            if not self.read_some():
                return text in self.seen
        return True

    def read_some(self):
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data
        return bool(data)

    def end(self, seconds=30):
        """Reads on to the end, and gives the exit status."""
        limit = time.monotonic() + seconds
        while select.select([self.master], [], [], max(0, limit - time.monotonic()))[0] and self.read_some():
            pass
        if time.monotonic() >= limit:
            os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.master)
        return status


def wait_for(seconds, condition):
    """Waits until the condition holds, not longer than that, and gives whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def children():
    """This process's children, orphans among them, as (pid, name)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2:].split()[1]) == os.getpid():
                found.append((int(entry), stat[stat.index("(") + 1:stat.rindex(")")]))
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def mounts_below(folder, but=None):
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/") and point != str(but)]


def container_cgroups(folder):
    """Cgroups of containers that were made here: podman names them after the container."""
    ids = created(folder)
    return [path for path in Path("/sys/fs/cgroup").glob("*/libpod_parent/libpod-*") if path.name.split("-")[1] in ids]


def remove_parents():
    """Removes podman's own cgroups, where no other podman uses them."""
    for parent in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
        for path in [parent / "conmon", parent]:
            try:
                path.rmdir()
            except OSError:
                pass
