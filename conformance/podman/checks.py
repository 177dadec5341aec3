"""The checks: each is a function of a Podman, and says by `want` what must hold."""
import hashlib
import io
import json
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from podman import IMAGE, wait_for

CHECKS = {}


class Wrong(Exception):
    """Something does not hold."""


class Skip(Exception):
    """The check does not apply to this runtime."""


def want(holds, why):
    if not holds:
        raise Wrong(why)


def check(function):
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


def shell(script):
    return [IMAGE, "sh", "-c", script]


def logged(podman, name, text, seconds=30):
    """Waits until the container has printed that text."""
    want(wait_for(seconds, lambda: text in podman("logs", name).text), f"{text!r} is not in the log")


def exit_code(podman, name, seconds=60):
    return podman("wait", name, timeout=seconds).want_status(0).text.strip()


LOOP = "while :; do sleep 0.1; done"


@check
def output_and_status(podman):
    done = podman.run("--rm", *shell("echo out; echo err >&2; exit 7")).want_status(7).want_text("out\n")
    want(done.err == b"err\n", f"stderr {done.err!r}")


@check
def own_kernel(podman):
    if podman.control:
        raise Skip("runc shares the host's kernel")
    guest = podman.run("--rm", IMAGE, "uname", "-r").want_status(0).text.strip()
    want(guest != os.uname().release, f"the host's kernel {guest}")


@check
def every_byte_of_a_burst(podman):
    done = podman.run("--rm", *shell("yes 0123456789abcde | head -c 8388608; exit 3"), timeout=120).want_status(3)
    want(done.out == b"0123456789abcde\n" * 524288, f"{len(done.out)} bytes of 8388608, or other ones")


@check
def stdin(podman):
    data = os.urandom(1 << 20)
    done = podman.run("--rm", "--interactive", IMAGE, "sha256sum", stdin=data).want_status(0)
    done.want_text(hashlib.sha256(data).hexdigest() + "  -\n")


@check
def missing_program(podman):
    podman.run("--rm", IMAGE, "/nonexistent").want_status(127)
    podman.run("--rm", IMAGE, "nonexistent").want_status(127)
    podman.run("--rm", IMAGE, "/etc/passwd").want_status(126)
    podman.run("--rm", "--workdir", "/etc/passwd", IMAGE, "true").want_status(126)


@check
def terminal(podman):
    shown = podman.terminal(*podman.run_arguments("--rm", "-it", *shell("tty; stty size; read line; echo got $line; exit 3")), rows=33, columns=101)
    want(shown.read_until(b"33 101\r\n"), f"no size: {shown.seen!r}")
    shown.write(b"hello\n")
    want(shown.read_until(b"got hello\r\n"), f"no answer: {shown.seen!r}")
    status = shown.end()
    want(status == 3, f"status {status}")
    want(b"/dev/pts/" in shown.seen or b"/dev/console" in shown.seen, f"no terminal: {shown.seen!r}")


@check
def terminal_signals(podman):
    shown = podman.terminal(*podman.run_arguments("--rm", "-it", *shell("echo ready; sleep 60 & wait $!; sleep 60")))
    want(shown.read_until(b"ready"), f"does not start: {shown.seen!r}")
    shown.write(b"\x03")
    status = shown.end()
    want(status == 130, f"status {status} after ^C: {shown.seen!r}")


@check
def terminal_resize(podman):
    shown = podman.terminal(*podman.run_arguments("--rm", "-it", *shell("trap 'stty size' WINCH; echo ready; " + LOOP)))
    want(shown.read_until(b"ready"), f"does not start: {shown.seen!r}")
    shown.resize(41, 97)
    want(shown.read_until(b"41 97"), f"no new size: {shown.seen!r}")
    shown.write(b"\x03")
    shown.end()


@check
def exec_runs_in_the_container(podman):
    name = podman.start(*shell("echo mark >/mark; echo ready; " + LOOP))
    logged(podman, name, "ready")
    podman("exec", name, "cat", "/mark").want_status(0).want_text("mark\n")
    podman("exec", name, "sh", "-c", "exit 9").want_status(9)
    podman("exec", "--env", "A=b", "--workdir", "/tmp", "--user", "user", name, "sh", "-c", "echo $A; pwd; id -u").want_status(0).want_text("b\n/tmp\n1000\n")
    podman("exec", "--interactive", name, "cat", stdin=b"through").want_status(0).want_text("through")
    podman("exec", name, "/nonexistent").want_status(127)


@check
def exec_with_a_terminal(podman):
    name = podman.start(*shell(LOOP))
    # podman tells the size only once the process runs.
    shown = podman.terminal("exec", "-it", name, "sh", "-c", "tty; until [ \"$(stty size)\" = '21 77' ]; do sleep 0.1; done; echo sized; exit 4", rows=21, columns=77)
    want(shown.read_until(b"sized"), f"no size: {shown.seen!r}")
    status = shown.end()
    want(status == 4, f"status {status}: {shown.seen!r}")
    want(b"/dev/pts/" in shown.seen, f"no terminal: {shown.seen!r}")


@check
def exec_detached(podman):
    name = podman.start(*shell(LOOP))
    podman("exec", "--detach", name, "sh", "-c", "echo done >/done").want_status(0)
    want(wait_for(10, lambda: podman("exec", name, "cat", "/done").text == "done\n"), "did not run")


@check
def logs(podman):
    name = podman.start(*shell("echo one; echo two >&2; exit 6"))
    want(exit_code(podman, name) == "6", "status is not 6")
    done = podman("logs", name)
    want((done.out, done.err) == (b"one\n", b"two\n"), f"log {done.out!r} {done.err!r}")


@check
def stop_that_is_heard(podman):
    name = podman.start(*shell("trap 'exit 143' TERM; echo ready; " + LOOP))
    logged(podman, name, "ready")
    start = time.monotonic()
    podman("stop", "--time", "20", name).want_status(0)
    want(time.monotonic() - start < 8, "took more than 8 s")
    code = podman.inspect(name, "State.ExitCode")
    want(code == "143", f"status {code}")


@check
def stop_that_is_not_heard(podman):
    name = podman.start(*shell("trap '' TERM; echo ready; " + LOOP))
    logged(podman, name, "ready")
    start = time.monotonic()
    podman("stop", "--time", "2", name).want_status(0)
    seconds = time.monotonic() - start
    want(2 <= seconds < 10, f"took {seconds:.1f} s")
    code = podman.inspect(name, "State.ExitCode")
    want(code == "137", f"status {code}")


@check
def kill(podman):
    name = podman.start(*shell("trap 'echo heard' USR1; echo ready; " + LOOP))
    logged(podman, name, "ready")
    podman("kill", "--signal", "USR1", name).want_status(0)
    logged(podman, name, "heard")
    podman("kill", name).want_status(0)
    code = exit_code(podman, name)
    want(code == "137", f"status {code}")


@check
def vanished_runtime_process(podman):
    name = podman.start(*shell(LOOP))
    os.kill(int(podman.inspect(name, "State.Pid")), 9)
    code = exit_code(podman, name)
    want(code == "137", f"status {code}")
    podman("rm", name).want_status(0)


@check
def pause(podman):
    name = podman.start(*shell("while :; do echo tick; sleep 0.05; done"))
    logged(podman, name, "tick")
    podman("pause", name).want_status(0)
    want(podman.inspect(name, "State.Status") == "paused", "not paused")
    time.sleep(0.5)
    before = len(podman("logs", name).out)
    time.sleep(1)
    want(len(podman("logs", name).out) == before, "goes on while paused")
    podman("unpause", name).want_status(0)
    want(wait_for(10, lambda: len(podman("logs", name).out) > before), "does not go on")


@check
def stats(podman):
    name = podman.start(*shell("while :; do :; done"))
    time.sleep(1)
    shown = json.loads(podman("stats", "--no-stream", "--format", "json", name).want_status(0).text)[0]
    used = shown["mem_usage"].split("/")[0].strip()
    want(not used.startswith("0"), f"memory {shown['mem_usage']}")
    want(int(shown["pids"]) > 0, f"processes {shown['pids']}")
    want(float(shown["cpu_percent"].rstrip("%")) > 0, f"processor {shown['cpu_percent']}")


@check
def read_only(podman):
    podman.run("--rm", "--read-only", *shell("touch /x && exit 1; touch /tmp/y /run/z && exit 5")).want_status(5)


@check
def users(podman):
    podman.run("--rm", "--user", "user", *shell("id -u; id -g; echo $HOME")).want_status(0).want_text("1000\n1000\n/\n")
    podman.run("--rm", "--user", "1234:5678", "--group-add", "99", *shell("id -u; id -G")).want_status(0).want_text("1234\n5678 99\n")


@check
def environment(podman):
    done = podman.run("--rm", "--hostname", "box", "--env", "A=b c", "--workdir", "/tmp", *shell("hostname; cat /etc/hostname; echo; echo $A; pwd"))
    done.want_status(0).want_text("box\nbox\nb c\n/tmp\n")
    text = podman.run("--rm", "--add-host", "other:10.1.2.3", *shell("cat /etc/hosts; test -e /run/.containerenv")).want_status(0).text
    want("10.1.2.3" in text, f"/etc/hosts {text!r}")


@check
def confinement(podman):
    script = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t'; ip -o link | wc -l; touch /proc/sys/kernel/hostname 2>/dev/null || echo fixed"
    podman.run("--rm", "--security-opt", "no-new-privileges", *shell(script)).want_status(0).want_text(
        "CapEff:00000000800405fb\nNoNewPrivs:1\nSeccomp:2\n1\nfixed\n")


@check
def limits(podman):
    if not podman.control:
        podman.run("--rm", *shell("ulimit -n")).want_status(0).want_text("1048576\n")
    podman.run("--rm", "--ulimit", "nofile=100:200", *shell("ulimit -Sn; ulimit -Hn")).want_status(0).want_text("100\n200\n")
    done = podman.run("--rm", "--pids-limit", "10", *shell("for i in $(seq 30); do sleep 1 & done; wait"))
    want(b"fork" in done.err, f"30 processes where 10 are allowed: {done.err!r}")


@check
def memory_limit(podman):
    name = podman.start("--memory", "64m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    code = exit_code(podman, name)
    want(code == "137", f"status {code}")


@check
def memory_limit_of_a_child(podman):
    name = podman.start("--memory", "64m", *shell("dd if=/dev/zero of=/dev/null bs=200M count=1; echo status $?; " + LOOP))
    logged(podman, name, "status 137")
    podman("exec", name, "cat", "/etc/hostname").want_status(0)


@check
def tmpfs(podman):
    script = "grep ' /scratch tmpfs ' /proc/mounts >/dev/null || exit 1; dd if=/dev/zero of=/scratch/f bs=1M count=3 2>/dev/null && exit 2; exit 5"
    podman.run("--rm", "--tmpfs", "/scratch:rw,size=1m", *shell(script)).want_status(5)


def shared_folder(podman):
    folder = podman.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "in").write_text("from the host\n")
    return folder


@check
def volumes(podman):
    shared = shared_folder(podman)
    podman.run("--rm", "--volume", f"{shared}:/data:ro", *shell("cat /data/in; touch /data/x && exit 1; exit 5")).want_status(5).want_text("from the host\n")
    podman.run("--rm", "--volume", f"{shared}/in:/etc/one:ro", IMAGE, "cat", "/etc/one").want_status(0).want_text("from the host\n")


@check
def shared_volumes(podman):
    shared = shared_folder(podman)
    podman.run("--rm", "--volume", f"{shared}:/data", *shell("cat /data/in; echo from the guest >/data/out")).want_status(0).want_text("from the host\n")
    want((shared / "out").read_text() == "from the guest\n", "not seen on the host")


@check
def one_shared_file(podman):
    shared = shared_folder(podman)
    podman.run("--rm", "--volume", f"{shared}/in:/etc/one", *shell("echo more >>/etc/one; cat /etc/one")).want_status(0).want_text("from the host\nmore\n")
    want((shared / "in").read_text() == "from the host\nmore\n", "not seen on the host")


@check
def named_volume(podman):
    podman("volume", "create", "kept").want_status(0)
    podman.run("--rm", "--volume", "kept:/data", *shell("echo one >/data/file; mkdir /data/folder")).want_status(0)
    podman.run("--rm", "--volume", "kept:/data", *shell("cat /data/file; ls /data")).want_status(0).want_text("one\nfile\nfolder\n")
    podman("volume", "rm", "kept").want_status(0)


@check
def podmans_own_files(podman):
    podman("secret", "create", "pass", "-", stdin=b"a secret").want_status(0)
    # Without a network there is no resolv.conf.
    script = "cat /run/secrets/pass; echo; cat /etc/hostname; echo; grep -c box /etc/hosts"
    podman.run("--rm", "--hostname", "box", "--secret", "pass", *shell(script)).want_status(0).want_text("a secret\nbox\n1\n")
    podman("secret", "rm", "pass").want_status(0)


@check
def process_on_the_host(podman):
    name = podman.start(*shell(LOOP))
    pid = podman.inspect(name, "State.Pid")
    want(Path("/proc", pid).exists(), f"no process {pid}")
    cgroups = Path("/proc", pid, "cgroup").read_text()
    want("/libpod_parent/libpod-" in cgroups, f"cgroups {cgroups!r}")


@check
def restart(podman):
    name = podman.start(*shell("echo started; " + LOOP))
    logged(podman, name, "started")
    podman("restart", "--time", "0", name).want_status(0)
    want(wait_for(20, lambda: podman("logs", name).text.count("started") == 2), "did not start again")
    podman("exec", name, "true").want_status(0)


@check
def remove_while_running(podman):
    name = podman.start(*shell(LOOP))
    pid = podman.inspect(name, "State.Pid")
    podman("rm", "--force", "--time", "0", name).want_status(0)
    want(wait_for(5, lambda: not Path("/proc", pid).exists()), f"process {pid} is still there")


@check
def two_at_once(podman):
    def one(number):
        return podman.run("--rm", *shell(f"sleep 1; echo {number}; exit {number}"))
    with ThreadPoolExecutor() as pool:
        for number, done in zip((11, 12), pool.map(one, (11, 12))):
            done.want_status(number).want_text(f"{number}\n")


def given_files(podman):
    """A folder of the host with a file and a link, of which owners and modes are not the usual ones."""
    folder = podman.folder / "given"
    if not folder.exists():
        (folder / "sub").mkdir(parents=True)
        (folder / "plain").write_text("from the host\n")
        (folder / "sub" / "random").write_bytes(os.urandom(3 << 20))
        (folder / "sub" / "link").symlink_to("random")
        (folder / "sub" / "random").chmod(0o750)
        os.chown(folder / "plain", 1234, 5678)
        (folder / "plain").chmod(0o4755)
    return folder


@check
def copy_into_a_running_container(podman):
    given = given_files(podman)
    name = podman.start(*shell("mkdir /into; echo ready; " + LOOP))
    logged(podman, name, "ready")
    podman("cp", str(given / "plain"), f"{name}:/into/file").want_status(0)
    podman("exec", name, "cat", "/into/file").want_status(0).want_text("from the host\n")
    # Otherwise podman makes them the container's user's.
    podman("cp", "--archive=false", str(given / "plain"), f"{name}:/into/own").want_status(0)
    podman("exec", name, "stat", "-c", "%a %u:%g", "/into/own").want_status(0).want_text("4755 1234:5678\n")
    podman("cp", str(given), f"{name}:/into/folder").want_status(0)
    wanted = hashlib.sha256((given / "sub" / "random").read_bytes()).hexdigest()
    podman("exec", name, "sh", "-c", "cd /into/folder/sub; sha256sum <link; stat -c %a random; readlink link").want_status(0).want_text(
        f"{wanted}  -\n750\nrandom\n")
    podman("cp", "-", f"{name}:/into", stdin=tar_of("piped", b"by a pipe\n")).want_status(0)
    podman("exec", name, "cat", "/into/piped").want_status(0).want_text("by a pipe\n")
    want(podman("cp", str(given / "plain"), f"{name}:/not/there/file").status != 0, "copies into a folder that is not there")


@check
def copy_out_of_a_running_container(podman):
    out = podman.folder / "out"
    out.mkdir(exist_ok=True)
    script = """mkdir -p /made/sub; echo guest >/made/one; chmod 2640 /made/one; chown 12:34 /made/one; ln -s one /made/link
        head -c 3000000 /dev/urandom >/made/sub/random; sha256sum </made/sub/random; echo ready; """
    name = podman.start(*shell(script + LOOP))
    logged(podman, name, "ready")
    podman("cp", f"{name}:/made/one", str(out / "one")).want_status(0)
    want((out / "one").read_text() == "guest\n", "not what the container wrote")
    podman("cp", f"{name}:/made", str(out)).want_status(0)
    random = hashlib.sha256((out / "made" / "sub" / "random").read_bytes()).hexdigest()
    want(random in podman("logs", name).text, "other bytes than the container wrote")
    one = (out / "made" / "one").stat()
    want((one.st_mode & 0o7777) == 0o2640, f"mode {one.st_mode:o}")
    want(os.readlink(out / "made" / "link") == "one", "the link leads elsewhere")
    podman("exec", name, "sh", "-c", "echo changed >/made/one").want_status(0)
    podman("cp", f"{name}:/made/one", str(out / "one")).want_status(0)
    want((out / "one").read_text() == "changed\n", "what was there before")
    piped = podman("cp", f"{name}:/made/one", "-").want_status(0)
    with tarfile.open(fileobj=io.BytesIO(piped.out)) as tar:
        entry = tar.getmember("one")
        want(entry.mode & 0o7777 == 0o2640, f"mode {entry.mode:o}")
    want(podman("cp", f"{name}:/made/none", str(out)).status != 0, "copies what is not there")
    podman("cp", f"{name}:/etc/hostname", str(out / "hostname")).want_status(0)


@check
def copy_between_a_host_and_mounts(podman):
    shared = shared_folder(podman)
    given = given_files(podman)
    name = podman.start("--volume", f"{shared}:/data", "--tmpfs", "/scratch", *shell("echo memory >/scratch/m; echo ready; " + LOOP))
    logged(podman, name, "ready")
    podman("cp", str(given / "plain"), f"{name}:/data/copied").want_status(0)
    want((shared / "copied").read_text() == "from the host\n", "not in the volume")
    podman("exec", name, "cat", "/data/copied").want_status(0).want_text("from the host\n")
    podman("cp", f"{name}:/data/in", str(podman.folder / "in")).want_status(0)
    want((podman.folder / "in").read_text() == "from the host\n", "not what is in the volume")
    podman("cp", f"{name}:/scratch/m", str(podman.folder / "m")).want_status(0)
    want((podman.folder / "m").read_text() == "memory\n", "not what is in the tmpfs")


@check
def copy_while_it_does_not_run(podman):
    given = given_files(podman)
    name = f"c{time.monotonic_ns()}"
    arguments = podman.run_arguments("--name", name, *shell("cat /first /second 2>/dev/null; echo ran; exit 3"))
    podman("create", *arguments[1:]).want_status(0)
    podman("cp", str(given / "plain"), f"{name}:/first").want_status(0)
    podman("start", "--attach", name).want_status(3).want_text("from the host\nran\n")
    podman("cp", f"{name}:/first", str(podman.folder / "back")).want_status(0)
    want((podman.folder / "back").read_text() == "from the host\n", "not what was copied in")
    podman("cp", str(given / "plain"), f"{name}:/second").want_status(0)
    podman("start", "--attach", name).want_status(3).want_text("from the host\nfrom the host\nran\n")


@check
def commit(podman):
    given = given_files(podman)
    name = podman.start(*shell("echo inside >/inside; echo ready; " + LOOP))
    logged(podman, name, "ready")
    podman("cp", str(given / "plain"), f"{name}:/while-running").want_status(0)
    podman("commit", "--pause=false", name, "localhost/committed", timeout=120).want_status(0)
    seen = podman.run("--rm", "localhost/committed", "sh", "-c", "ls -d /inside /while-running 2>/dev/null; echo end").want_status(0).text
    podman("rmi", "localhost/committed").want_status(0)
    # A container of ours writes into its machine: on the host there is what was copied while it did not run.
    want(seen == ("/inside\n/while-running\nend\n" if podman.control else "end\n"), f"{seen!r}")


@check
def commit_of_what_was_copied_before(podman):
    given = given_files(podman)
    name = f"c{time.monotonic_ns()}"
    podman("create", *podman.run_arguments("--name", name, *shell("true"))[1:]).want_status(0)
    podman("cp", str(given / "plain"), f"{name}:/before").want_status(0)
    want("A /before" in podman("diff", name).want_status(0).text, "no difference is seen")
    podman("commit", name, "localhost/committed", timeout=120).want_status(0)
    podman.run("--rm", "localhost/committed", "cat", "/before").want_status(0).want_text("from the host\n")
    podman("rmi", "localhost/committed").want_status(0)


def tar_of(name, data):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
