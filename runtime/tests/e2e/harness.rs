//! Bundles, calls of the runtime, and a parent that waits as conmon does.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest that anything here may take: everything is emulated, on a machine that does much at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A file that `make test` provides.
fn provided(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.unwrap_or_else(|| panic!("{variable} is not set: run `make test`, or `conformance/with-guest cargo test`"))
}

/// A busybox root file system, made once a test run.
fn rootfs() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // Kept for the next run, and replaced as a whole.
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
        let made = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc", "root"] {
            fs::create_dir(made.path().join(name)).expect("a directory");
        }
        let bin = made.path().join("bin");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed (make setup)");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", bin.join(applet)).expect("a link");
        }
        fs::write(made.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nme:x:7:8::/tmp:/bin/sh\n")
            .expect("a file");
        fs::write(made.path().join("etc/data"), "data\n").expect("a file");
        let made = made.keep();
        let _ = fs::remove_dir_all(&root);
        fs::rename(&made, &root).expect("replaces the old one");
        root
    })
}

/// Lets orphans come to this process, as conmon does: they can be waited for.
fn adopt_orphans() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| nix::sys::prctl::set_child_subreaper(true).expect("a sub-reaper"));
}

/// Directories of one test.
pub(crate) struct Place {
    dir: TempDir,
    /// What the names of its control groups begin with: containers of other tests have the same ids.
    cgroups: String,
}

impl Place {
    /// Directories that have the templates of all tests.
    pub(crate) fn new() -> Self {
        let place = Self::alone();
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
        fs::create_dir_all(&shared).and_then(|()| fs::create_dir(place.path("data"))).expect("directories");
        symlink(&shared, place.path("data/templates")).expect("a link");
        place
    }

    /// Directories of which no other test has any.
    pub(crate) fn alone() -> Self {
        adopt_orphans();
        let cgroups = format!("supermachine-test-{}-{}-", std::process::id(), unique());
        Self { dir: TempDir::new().expect("a temporary directory"), cgroups }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A bundle that runs `args`; `change` may change its configuration.
    pub(crate) fn bundle(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut config = config(args);
        config["linux"]["cgroupsPath"] = json!(format!("/{}{}", self.cgroups, unique()));
        change(&mut config);
        let bundle = TempDir::new_in(self.dir.path()).expect("a directory").keep();
        fs::write(bundle.join("config.json"), config.to_string()).expect("a file");
        bundle
    }

    /// The runtime with this test's directories.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supermachine-runtime"));
        command.arg("--root").arg(self.path("root")).args(args).stdin(Stdio::null());
        command.env("SUPERMACHINE_DATA", self.path("data"));
        // A test means the same the second time: those that are about image templates ask for them.
        command.env("SUPERMACHINE_SNAPSHOT", "base");
        command.env("SUPERMACHINE_KERNEL", provided("SUPERMACHINE_TEST_KERNEL"));
        command.env("SUPERMACHINE_INITRAMFS", provided("SUPERMACHINE_TEST_INITRAMFS"));
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn call(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().expect("the runtime runs"))
    }

    /// Runs a verb that must succeed; gives its output.
    pub(crate) fn good(&self, args: &[&str]) -> String {
        let done = self.call(args);
        assert_eq!(done.status, 0, "{args:?}: {}", done.stderr);
        done.stdout
    }

    /// Runs a verb that leaves a process behind which holds its streams, so with files instead of pipes.
    pub(crate) fn detached(&self, args: &[&str]) -> Done {
        let (out, err) = (self.path("detached.out"), self.path("detached.err"));
        let mut command = self.command(args);
        command.stdout(fs::File::create(&out).expect("a file")).stderr(fs::File::create(&err).expect("a file"));
        let status = command.status().expect("the runtime runs");
        let read = |path| fs::read_to_string(path).expect("a file");
        Done { status: status.code().unwrap_or(-1), stdout: read(&out), stderr: read(&err) }
    }

    /// The same for one that must succeed.
    pub(crate) fn leave(&self, args: &[&str]) {
        let done = self.detached(args);
        assert_eq!(done.status, 0, "{args:?}: {}", done.stderr);
    }

    /// Runs a verb that must fail; gives its standard error.
    pub(crate) fn bad(&self, args: &[&str]) -> String {
        let done = self.call(args);
        assert!(done.status != 0, "{args:?} did not fail: {}", done.stdout);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        done.stderr
    }

    /// Runs a container in the foreground.
    pub(crate) fn run(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> Done {
        let bundle = self.bundle(args, change);
        self.call(&["run", "--bundle", text(&bundle), "c"])
    }

    /// Creates container `id` with files as its streams.
    pub(crate) fn create(&self, id: &str, args: &[&str]) -> Container<'_> {
        self.create_with(id, args, |_| ())
    }

    pub(crate) fn create_with(&self, id: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> Container<'_> {
        self.create_from(id, &self.bundle(args, change))
    }

    pub(crate) fn create_from(&self, id: &str, bundle: &Path) -> Container<'_> {
        self.make(id, bundle, &["create"])
    }

    /// Restores a container from an image with a bundle of its own.
    pub(crate) fn restore(&self, id: &str, image: &Path) -> Container<'_> {
        self.restore_from(id, image, &self.bundle(&["true"], |_| ()))
    }

    pub(crate) fn restore_from(&self, id: &str, image: &Path, bundle: &Path) -> Container<'_> {
        self.make(id, bundle, &["restore", "--detach", "--image-path", text(image)])
    }

    fn make(&self, id: &str, bundle: &Path, verb: &[&str]) -> Container<'_> {
        let (output, pid_file) = (self.path(&format!("{id}.out")), self.path(&format!("{id}.pid")));
        let line = ["--bundle", text(bundle), "--pid-file", text(&pid_file), id];
        let mut command = self.command(&[verb, &line[..]].concat());
        let file = fs::File::create(&output).expect("a file");
        command.stdout(file.try_clone().expect("a copy")).stderr(file);
        let status = command.status().expect("the runtime runs");
        assert!(status.success(), "{verb:?}: {}", fs::read_to_string(&output).unwrap_or_default());
        let pid = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a number");
        Container { place: self, id: id.to_owned(), pid, output }
    }

    /// A container that runs.
    pub(crate) fn start(&self, id: &str, args: &[&str]) -> Container<'_> {
        let container = self.create(id, args);
        self.good(&["start", id]);
        container
    }

    /// The state of a container.
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.good(&["state", id])).expect("JSON")
    }

    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("a status").to_owned()
    }

    /// Says that nothing is left: no state, nothing in use or half made in the layer store, no process, no control group.
    pub(crate) fn assert_clean(&self) {
        let names = |dir: &str| {
            let entries = fs::read_dir(self.path(dir)).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
            entries.into_iter().map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
        };
        assert_eq!(names("root"), Vec::<PathBuf>::new(), "states are left");
        for dir in ["holds", "making", "locks"] {
            assert_eq!(names(&format!("data/layers/{dir}")), Vec::<PathBuf>::new(), "{dir} of the layer store");
        }
        wait_for(|| self.processes().is_empty(), "the end of all processes");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "control groups are left");
    }

    /// Control groups of this test, in the unified hierarchy or in those of the controllers.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let below = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let first = below(Path::new("/sys/fs/cgroup"));
        let all = first.iter().flat_map(|dir| below(dir)).chain(first.iter().cloned());
        let ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.cgroups));
        all.filter(ours).collect()
    }

    /// Processes with this test's directory in their command line, or that are in it, as a vmm is.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = text(self.dir.path());
        let pids =
            fs::read_dir("/proc").expect("proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(mark) || cwd.starts_with(mark)
        };
        pids.filter(ours).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed may have left containers.
        let root = self.path("root");
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let mut command = Command::new(env!("CARGO_BIN_EXE_supermachine-runtime"));
            command.arg("--root").arg(&root).args(["delete", "--force"]).arg(entry.file_name());
            let _ = command.env("SUPERMACHINE_DATA", self.path("data")).output();
        }
    }
}

/// A container with files as its streams.
pub(crate) struct Container<'a> {
    place: &'a Place,
    pub(crate) id: String,
    pub(crate) pid: u32,
    output: PathBuf,
}

impl Container<'_> {
    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).expect("a file")).into_owned()
    }

    /// Waits until it has written something.
    pub(crate) fn wait_for_output(&self, word: &str) {
        wait_for(|| self.output().contains(word), word);
    }

    /// Waits for its process, as conmon does, and gives its status as a shell does.
    pub(crate) fn wait(&self) -> i32 {
        wait_pid(self.pid)
    }

    /// Runs a command in it.
    pub(crate) fn exec(&self, args: &[&str]) -> Done {
        self.place.call(&[&["exec", &self.id], args].concat())
    }

    pub(crate) fn delete(&self) {
        self.place.good(&["delete", &self.id]);
    }
}

/// Waits for an adopted process and gives its status as a shell does.
pub(crate) fn wait_pid(pid: u32) -> i32 {
    match waitpid(Pid::from_raw(pid.cast_signed()), None).expect("a child of this process") {
        WaitStatus::Exited(_, status) => status,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// What a call gave.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Starts a command with pipes and gives it `input` from a thread.
pub(crate) fn with_input(mut command: Command, input: Vec<u8>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child: Child = command.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || {
        // The other end may have enough before all is written.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("no panic");
    output
}

/// Bytes without a pattern.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Waits until something outside of this process is so.
pub(crate) fn wait_for(mut so: impl FnMut() -> bool, what: &str) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The configuration of a plain busybox container.
fn config(args: &[&str]) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/",
        },
        "root": {"path": rootfs(), "readonly": false},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
        },
    })
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
