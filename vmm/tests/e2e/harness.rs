//! Starts machines and talks to them.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use supermachine_agent_protocol::blocking::{FrameReader, FrameWriter};
use supermachine_agent_protocol::container::Container;
use supermachine_agent_protocol::{Exec, ExitStatus};
use supermachine_vmm::root::ROOT;
use supermachine_vmm_api::{
    Client, ClientError, ContainerFiles, Create, Input, Relay, Reply, Request, Sender, Streams,
};
use tempfile::TempDir;

/// The longest that anything here may take: a nested machine under software emulation is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A file that `make test` provides.
fn provided(variable: &str, how: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path =
        path.unwrap_or_else(|| panic!("{variable} is not set: run `make test`, or set it to what `{how}` prints"));
    assert!(path.exists(), "{variable}: {} does not exist", path.display());
    path
}

pub(crate) fn kernel() -> PathBuf {
    provided("SUPERMACHINE_TEST_KERNEL", "kernel/build")
}

pub(crate) fn initramfs() -> PathBuf {
    provided("SUPERMACHINE_TEST_INITRAMFS", "guest-init/build")
}

/// A squashfs image of busybox, made once a test run.
pub(crate) fn rootfs() -> &'static Path {
    static IMAGE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, image) = IMAGE.get_or_init(|| {
        let dir = TempDir::new().expect("a temporary directory");
        let root = dir.path().join("root");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(root.join(name)).expect("directory");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("/bin/busybox is missing: install busybox-static (make setup)");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("file");
        std::fs::write(root.join("etc/not-executable"), "data\n").expect("file");
        compile("vsock-call.c", &root.join("bin/vsock-call"));
        compile("live.c", &root.join("bin/live"));
        let image = dir.path().join("root.squashfs");
        let made =
            Command::new("mksquashfs").arg(&root).arg(&image).args(["-quiet", "-no-progress", "-all-root"]).output();
        let made = made.expect("mksquashfs is missing: install squashfs-tools (make setup)");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (dir, image)
    });
    image
}

/// Compiles a program for the guest, static.
fn compile(source: &str, program: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/guest").join(source);
    let compiled = Command::new("cc").args(["-static", "-O1", "-Wall", "-o"]).arg(program).arg(&source).output();
    let compiled = compiled.expect("cc is missing: install gcc and libc6-dev (make setup)");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "ls", "uname", "sleep", "dd", "head", "kill", "ps", "id", "env", "pwd", "stty", "true",
    "false", "md5sum", "yes", "mount", "grep", "nproc", "sync", "seq", "tr", "wc", "od", "date", "test", "df", "rm",
    "mkdir", "cut", "tail", "setsid",
];

/// The command line of a machine.
pub(crate) struct Config {
    pub(crate) args: Vec<String>,
    /// Largest file that the vmm may write, in blocks of 512 bytes.
    file_blocks: Option<u32>,
    dir: TempDir,
}

impl Config {
    /// A machine with the kernel, the initramfs and the busybox image as its root disk.
    pub(crate) fn new() -> Self {
        let config = Self::bare().arg(&format!("--initramfs={}", initramfs().display()));
        config.arg(&format!("--disk={}", rootfs().display())).arg("--root-disk=0")
    }

    /// A machine as containers have it: its disks are empty.
    pub(crate) fn for_container() -> Self {
        Self::bare().arg(&format!("--initramfs={}", initramfs().display())).arg("--container")
    }

    /// A machine with a kernel only.
    pub(crate) fn bare() -> Self {
        let kernel = format!("--kernel={}", kernel().display());
        Self { args: vec![kernel], file_blocks: None, dir: TempDir::new().expect("a temporary directory") }
    }

    /// A machine that goes on from the snapshot of one that [`Self::new`] made.
    pub(crate) fn restored(snapshot: &Path) -> Self {
        let args = vec![format!("--restore={}", snapshot.display()), format!("--disk={}", rootfs().display())];
        Self { args, file_blocks: None, dir: TempDir::new().expect("a temporary directory") }
    }

    /// A machine that goes on from a snapshot and is given its files later.
    pub(crate) fn from_snapshot(snapshot: &Path) -> Self {
        let args = vec![format!("--restore={}", snapshot.display())];
        Self { args, file_blocks: None, dir: TempDir::new().expect("a temporary directory") }
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    pub(crate) fn limited_to_file_blocks(self, blocks: u32) -> Self {
        Self { file_blocks: Some(blocks), ..self }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn control_path(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_supermachine-vmm");
        let mut command = match self.file_blocks {
            None => Command::new(program),
            Some(blocks) => {
                // Without the signal, a write beyond the limit is an error as on a full disk.
                let mut command = Command::new("sh");
                command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "sh", program]);
                command
            }
        };
        command.args(&self.args).stdin(Stdio::null());
        command
    }

    /// Runs a command as the main process and gives its output and status.
    pub(crate) fn run(&self, argv: &[&str]) -> Output {
        let child = self.spawn(argv, Stdio::null());
        finish(child)
    }

    /// Starts a command as the main process, its output in pipes.
    pub(crate) fn spawn(&self, argv: &[&str], stdin: Stdio) -> Child {
        let mut command = self.command();
        if !argv.is_empty() {
            command.arg("--").args(argv);
        }
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the vmm starts")
    }

    /// Starts a machine whose control client is the connection that it inherits; its standard error is [`Self::stderr`].
    pub(crate) fn start_inherited(&self, stdin: Stdio) -> (UnixStream, Child) {
        self.start_inherited_on(stdin, Stdio::piped())
    }

    /// The same with its output somewhere else.
    pub(crate) fn start_inherited_on(&self, stdin: Stdio, stdout: Stdio) -> (UnixStream, Child) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        // The descriptor goes through a standard stream: another way would hand it to other children as well.
        let script = "exec \"$@\" --control-fd=3 3>&2 2>\"$0\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(self.stderr_path()).arg(env!("CARGO_BIN_EXE_supermachine-vmm"));
        command.args(&self.args).stdin(stdin).stdout(stdout).stderr(OwnedFd::from(theirs));
        (ours, command.spawn().expect("the vmm starts"))
    }

    fn stderr_path(&self) -> PathBuf {
        self.dir().join("stderr")
    }

    /// What a machine wrote on its standard error, where that is not a pipe of the test's.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.stderr_path()).unwrap_or_default()).into_owned()
    }

    /// Starts a machine that is used through its control socket. What it and its guest's kernel say goes to a file, for
    /// nobody reads a pipe while the machine runs; a test that fails prints it.
    pub(crate) fn start(self) -> Machine {
        let control = self.control_path();
        let config = self.arg(&format!("--control={}", control.display())).arg("--console");
        let said = std::fs::File::create(config.stderr_path()).expect("a file");
        let child = config.command().stdout(Stdio::piped()).stderr(said).spawn().expect("the vmm starts");
        let machine = Machine { child: Some(child), config };
        wait_for(|| control.exists() || machine.has_ended(), "the control socket");
        // The first exec waits for the guest.
        assert_eq!(machine.exec(&["true"]).status, ExitStatus::Exited(0));
        machine
    }
}

/// Passes the busybox image to the machine, and asks for a container on it.
pub(crate) fn create(client: &mut Client, container: Container) -> std::result::Result<Reply, ClientError> {
    let image = std::fs::File::open(rootfs()).expect("the image");
    client.files(&[image.as_fd()])?;
    let files = ContainerFiles { layers: vec![0], ..ContainerFiles::default() };
    client.request(&Request::Create(Box::new(Create { container, files, template: None })))
}

/// Waits for the child and collects its output; a hang is killed and fails.
pub(crate) fn finish(mut child: Child) -> Output {
    let pid = child.id();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if over.recv_timeout(PATIENCE).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("killing vmm {pid}: it did not end in {PATIENCE:?}");
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    });
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("the vmm can be waited for");
    drop(done);
    watchdog.join().expect("the watchdog ends");
    output
}

/// Waits for something outside of our processes' reach, such as a file that another process makes.
pub(crate) fn wait_for(mut condition: impl FnMut() -> bool, what: &str) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running machine; killed when it is dropped.
pub(crate) struct Machine {
    child: Option<Child>,
    pub(crate) config: Config,
}

/// What a process in the guest gave.
pub(crate) struct Result {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: ExitStatus,
}

impl Result {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

impl Machine {
    /// Whether the vmm is gone already: then the next step fails at once and shows why.
    fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("not ended").id()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.config.control_path(), "e2e tests").expect("the control socket answers")
    }

    /// A process on the busybox image. The root disk is mounted by the first one.
    pub(crate) fn spec(&self, argv: &[&str]) -> Exec {
        let env = vec!["PATH=/bin".to_owned()];
        Exec { env, root: Some(ROOT.to_owned()), ..Exec::new(argv.iter().copied()) }
    }

    pub(crate) fn exec(&self, argv: &[&str]) -> Result {
        collect(self.client().exec(self.spec(argv)).expect("the process starts"))
    }

    /// Runs a process with all of its standard input given from a second thread.
    pub(crate) fn exec_with_input(&self, argv: &[&str], input: Vec<u8>) -> Result {
        let spec = Exec { stdin: true, ..self.spec(argv) };
        collect_with_input(self.client().exec(spec).expect("the process starts"), input)
    }

    /// Saves the machine; gives where.
    pub(crate) fn snapshot(&self, name: &str) -> PathBuf {
        let dir = self.config.dir().join(name);
        let reply = self.client().request(&Request::Snapshot { dir: dir.clone() }).expect("the machine is saved");
        assert_eq!(reply, Reply::Ok {});
        dir
    }

    /// Waits for the machine's end.
    pub(crate) fn finish(mut self) -> Output {
        let output = finish(self.child.take().expect("not ended"));
        Output { stderr: self.config.stderr().into_bytes(), ..output }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- what the machine and its guest's kernel said ---\n{}---", self.config.stderr());
            }
        }
    }
}

/// A started process: its two directions and its process id.
pub(crate) type Process = (FrameReader<UnixStream>, FrameWriter<UnixStream>, u32);

/// Collects output until the streams' end.
pub(crate) fn collect(process: Process) -> Result {
    follow(process, None)
}

fn collect_with_input(process: Process, input: Vec<u8>) -> Result {
    let (theirs, mut ours) = UnixStream::pair().expect("a pair");
    let feeder = std::thread::spawn(move || {
        // The process may have enough before it has everything.
        let _ = ours.write_all(&input);
    });
    let result = follow(process, Some(Input::new(theirs.as_fd()).expect("a descriptor")));
    drop(theirs);
    feeder.join().expect("no panic");
    result
}

fn follow((reader, writer, _): Process, stdin: Option<Input>) -> Result {
    let (stdout, stderr) = (Capture::default(), Capture::default());
    let streams = Streams { stdin, stdout: Some(Box::new(stdout.clone())), stderr: Some(Box::new(stderr.clone())) };
    let relay = Relay::start(reader, Sender::new(writer), streams).expect("threads");
    let status = relay.wait_for_streams().expect("an exit frame before the end");
    Result { stdout: stdout.take(), stderr: stderr.take(), status }
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes that do not repeat: a linear congruential generator (Knuth's MMIX constants).
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}
