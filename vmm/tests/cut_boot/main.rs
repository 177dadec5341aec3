//! A boot that is cut at random places and gone on with in a new machine each time is like one that never stopped: the
//! real kernel and initramfs to the agent's hello, then a program on a disk.
//!
//! `SUPERMACHINE_CUTS` sets how many cuts, `SUPERMACHINE_CUTS_SEED` repeats a run's delays; where the cuts fall depends
//! on the host's time as well.

mod cutting;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use supermachine_agent_protocol::{Exec, ExitStatus, FrameKind};
use supermachine_vmm::agent::Agent;
use supermachine_vmm::backend::vsock::HostDialer;
use supermachine_vmm::ending::Ending;
use supermachine_vmm::events::{Event, EventLoop};
use supermachine_vmm::life::Lifecycle;
use supermachine_vmm::machine::Machine;
use supermachine_vmm::root::ROOT;
use supermachine_vmm::settings::{Disk, Settings};
use tempfile::TempDir;

use cutting::{Cutting, Random, Record};

/// Cuts unless told; one boot has more than that.
const CUTS: u32 = 1_000;
/// The longest that one boot may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// Processes, pipes, files, sums: all of it has one right output.
const PROGRAM: &str = "md5sum /bin/busybox; seq 1 3000 | md5sum; i=0; while [ $i -lt 40 ]; do i=$((i+1)); \
    head -c $((i*997)) /bin/busybox | md5sum | cut -c1-8; done; dd if=/bin/busybox bs=1k 2>/dev/null | wc -c; \
    seq 1 400 | sort -r | tail -n 2; cat /proc/version; nproc; exit 7";

/// Lines that tell a time.
const TIMED: [&str; 4] = [
    "kvm-clock: using sched offset of",
    "sched_clock: Marking stable",
    "Freeing initrd memory",
    "clocksource: tsc: mask",
];

/// What must be the same in all boots.
#[derive(Debug, PartialEq)]
struct Boot {
    /// Sorted: the initramfs is unpacked by a kernel thread of its own, whose lines fall between any others.
    console: Vec<String>,
    hello: String,
    output: String,
    status: ExitStatus,
}

impl Boot {
    #[track_caller]
    fn compare(&self, whole: &Self, cuts: u32) {
        let missing =
            |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
        let (more, less) = (missing(&self.console, &whole.console), missing(&whole.console, &self.console));
        assert_eq!((more, less), (vec![], vec![]), "console after {cuts} cuts: lines more, lines missing");
        assert_eq!(self.output, whole.output, "after {cuts} cuts in this boot");
        assert_eq!(self, whole, "after {cuts} cuts in this boot");
    }
}

fn provided(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `make test`")).into()
}

#[test]
fn a_cut_boot_is_like_a_whole_one() {
    let wanted = std::env::var("SUPERMACHINE_CUTS").map_or(CUTS, |text| text.parse().expect("a number"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let seed = std::env::var("SUPERMACHINE_CUTS_SEED").map_or_else(|_| now(), |text| text.parse().expect("a number"));
    // Not captured: a hang would hide it.
    let _ = writeln!(std::io::stderr(), "SUPERMACHINE_CUTS_SEED={seed}");
    let dir = TempDir::new().expect("a temporary directory");
    let image = rootfs(dir.path());
    let (whole, _) = boot(&image, None);
    assert_eq!(whole.status, ExitStatus::Exited(7), "{}", whole.output);
    assert!(whole.console.len() > 20 && whole.output.lines().count() > 40, "{whole:#?}");
    let (mut random, mut cuts, mut boots) = (Random(seed), Record::default(), 0);
    while cuts.cuts() < wanted {
        let (cut, record) = boot(&image, Some(Random(random.below(u64::MAX))));
        cut.compare(&whole, record.cuts());
        cuts.kicks += record.kicks;
        cuts.exits += record.exits;
        cuts.refused += record.refused;
        cuts.kept += record.kept;
        boots += 1;
    }
    println!(
        "{boots} boots, {} cuts of running code, {} after exits, {} refused, {} with code kept anew",
        cuts.kicks, cuts.exits, cuts.refused, cuts.kept
    );
    assert!(cuts.kept > 0, "decoded code is kept");
    assert!(cuts.kicks > 0 && cuts.exits > 0, "both kinds of cut are made");
}

/// Boots, runs the program and ends.
fn boot(image: &Path, random: Option<Random>) -> (Boot, Record) {
    let record = Arc::<Mutex<Record>>::default();
    let cutting = Cutting { random, record: record.clone() };
    let event_loop = EventLoop::new().expect("a poll");
    let (events, streams) = (event_loop.sender(), event_loop.streams());
    let dialer = HostDialer::new(streams.clone(), events.clone(), None);
    let settings = settings(image);
    let machine = Machine::build(&settings, &cutting, &events, Box::new(dialer)).expect("a machine");
    let agent = Agent::new(machine.vsock.clone(), streams);
    let life = Arc::new(Lifecycle::new(Instant::now(), events.clone(), agent, &settings));
    let late = events.clone();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if over.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            late.send(Event::End(Ending::Killed));
        }
    });
    machine.start(&events).expect("threads");
    let running = life.clone();
    let program = thread::spawn(move || {
        let (output, status) = run_program(running.agent());
        events.send(Event::End(Ending::Process(status)));
        (output, status)
    });
    let ending = event_loop.run(&machine, &life).expect("the event loop");
    machine.gate.stop();
    drop(done);
    watchdog.join().expect("the watchdog ends");
    let record = record.lock().expect("the vCPU has ended").clone();
    let console = console_lines(&record.console);
    assert!(matches!(ending, Ending::Process(_)), "{ending:?} after {} cuts: {console:#?}", record.cuts());
    let (output, status) = program.join().expect("the program ran");
    let hello = life.up().map(|(hello, _)| format!("{hello:?}")).expect("the agent said hello");
    (Boot { console, hello, output, status }, record)
}

fn settings(image: &Path) -> Settings {
    Settings {
        initramfs: Some(provided("SUPERMACHINE_TEST_INITRAMFS")),
        cmdline: "loglevel=7".into(),
        memory_bytes: 192 << 20,
        disks: vec![Disk::File { path: image.to_owned(), read_only: true }],
        root_disk: Some(0),
        ..Settings::new(provided("SUPERMACHINE_TEST_KERNEL"))
    }
}

fn run_program(agent: &Agent) -> (String, ExitStatus) {
    let mut link = agent.call().expect("the agent answers");
    let env = vec!["PATH=/bin".to_owned()];
    let exec = Exec { env, root: Some(ROOT.to_owned()), ..Exec::new(["sh", "-c", PROGRAM]) };
    link.exec(exec).expect("the program starts");
    let mut output = Vec::new();
    loop {
        let frame = link.reader.frame().expect("frames until the exit");
        match frame.kind {
            FrameKind::Stdout | FrameKind::Stderr => output.extend(frame.payload),
            FrameKind::Exit => {
                let status = ExitStatus::try_from(&frame).expect("an exit status");
                return (String::from_utf8_lossy(&output).into_owned(), status);
            }
            _ => {}
        }
    }
}

/// The kernel's lines without what depends on time.
fn console_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest).trim_end());
    let untimed = lines.filter(|line| !TIMED.iter().any(|timed| line.starts_with(timed)));
    let mut lines: Vec<_> = untimed.map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// A squashfs image of busybox.
fn rootfs(dir: &Path) -> PathBuf {
    let (root, image) = (dir.join("root"), dir.join("root.squashfs"));
    for name in ["bin", "dev", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(name)).expect("directory");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is missing (make setup)");
    for applet in ["sh", "md5sum", "seq", "head", "cut", "dd", "wc", "sort", "tail", "cat", "nproc"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
    }
    let mut command = Command::new("mksquashfs");
    command.arg(&root).arg(&image).args(["-quiet", "-no-progress", "-all-root", "-all-time", "0", "-mkfs-time", "0"]);
    let made = command.output().expect("squashfs-tools is missing (make setup)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    image
}
