//! A guest's device accesses harm nothing: every width and alignment at every device of a real machine, by the vmm's own
//! vCPU loop, buses and event loop.
//!
//! `SUPERMACHINE_FUZZ_SECONDS` sets how long the random guests go on, `SUPERMACHINE_FUZZ_SEED` repeats them.

mod moves;
mod scripted;

use std::io::{Read, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use supermachine_hv::{Exit, GuestMemory};
use supermachine_vmm::agent::Agent;
use supermachine_vmm::backend::vsock::HostDialer;
use supermachine_vmm::ending::Ending;
use supermachine_vmm::events::EventLoop;
use supermachine_vmm::life::Lifecycle;
use supermachine_vmm::machine::Machine;
use supermachine_vmm::settings::{Disk, Settings};
use supermachine_vmm::vcpu::VcpuEnd;
use tempfile::TempDir;

use moves::{Driver, Random, Sweep, USED};
use scripted::{NewScript, Script, Scripted};

const DEFAULT_SECONDS: u64 = 4;
/// What one guest may take, on a busy host.
const GRACE: Duration = Duration::from_secs(30);
/// Bursts of one random guest.
const BURSTS: u32 = 2_000;
/// Bytes of the writable disk.
const DISK_BYTES: u64 = 1 << 20;
/// Three disks, shares, vsock, rng and balloon.
const WINDOWS: u64 = 7;
/// What this process may hold: RAM of two machines at once and their devices' queues.
const MOST_RSS_KIB: u64 = 400 << 10;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// A machine's files.
struct Files {
    kernel: PathBuf,
    disk: PathBuf,
    _dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let disk = dir.path().join("disk");
        let file = std::fs::File::create(&disk).expect("a file");
        file.set_len(DISK_BYTES).expect("a length");
        let kernel = std::env::var_os("SUPERMACHINE_TEST_KERNEL");
        let kernel = kernel.expect("SUPERMACHINE_TEST_KERNEL is not set: run `make test`").into();
        Self { kernel, disk, _dir: dir }
    }

    fn settings(&self) -> Settings {
        let file = |path: &Path, read_only| Disk::File { path: path.to_owned(), read_only };
        Settings {
            memory_bytes: 64 << 20,
            disks: vec![file(&self.disk, false), file(&self.disk, true), Disk::Empty { read_only: false }],
            shares: true,
            ..Settings::new(self.kernel.clone())
        }
    }
}

/// Runs a machine until its script ends. `host` uses the machine from another thread meanwhile.
fn run(files: &Files, script: NewScript, host: impl FnOnce(Agent) + Send + 'static) {
    let event_loop = EventLoop::new().expect("a poll");
    let (events, streams) = (event_loop.sender(), event_loop.streams());
    let dialer = HostDialer::new(streams.clone(), events.clone(), None);
    let settings = files.settings();
    let machine = Machine::build(&settings, &Scripted(script), &events, Box::new(dialer)).expect("a machine");
    let agent = Agent::new(machine.vsock.clone(), streams);
    let life = Arc::new(Lifecycle::new(Instant::now(), events.clone(), agent.clone(), &settings));
    let (done, over) = channel::<()>();
    let watchdog = thread::spawn(move || {
        if over.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
            // The test's captured output is lost in an abort; this is not captured.
            let _ = writeln!(stderr(), "a guest's accesses do not end");
            std::process::abort();
        }
    });
    machine.start(&events).expect("threads");
    let host = thread::spawn(move || host(agent));
    let ending = event_loop.run(&machine, &life).expect("the event loop");
    machine.gate.stop();
    drop(done);
    watchdog.join().expect("the watchdog ends");
    host.join().expect("the host's side does not panic");
    // The guest may have said hello, or something else, in the agent's name.
    let usual = matches!(ending, Ending::Vcpu { end: VcpuEnd::GuestReset, .. } | Ending::Agent { .. });
    assert!(usual, "{ending:?}");
}

/// Calls the guest some times, writes to it and reads what comes.
fn call(agent: &Agent, random: &mut Random) {
    for _ in 0..4 {
        let Ok(mut socket) = agent.connect(random.next() as u32 % 2000) else { continue };
        let _ = socket.write(&[0x55; 5000]);
        let _ = socket.set_nonblocking(true).and_then(|()| socket.read(&mut [0; 5000]));
    }
}

/// Counts another script's accesses.
struct Counted(Box<dyn Script>, Arc<AtomicU64>);

impl Script for Counted {
    fn burst(&mut self, memory: &GuestMemory, out: &mut std::collections::VecDeque<Exit>) {
        self.0.burst(memory, out);
        self.1.fetch_add(out.len() as u64, Ordering::Relaxed);
    }

    fn answer(&mut self, exit: &Exit, value: u64) {
        self.0.answer(exit, value);
    }
}

#[test]
fn every_width_at_every_offset_of_every_device() {
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    let script = move || Box::new(Counted(Box::new(Sweep::new(WINDOWS, 1)), counted.clone())) as Box<dyn Script>;
    run(&Files::new(), Arc::new(script), |_| ());
    let count = count.load(Ordering::Relaxed);
    println!("{count} accesses");
    assert!(count >= WINDOWS * 4096 * 12 + 0x1_0000 * 6, "only {count}");
}

#[test]
fn random_drivers_do_no_harm() {
    let time = Duration::from_secs(variable("SUPERMACHINE_FUZZ_SECONDS").unwrap_or(DEFAULT_SECONDS));
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
    let seed = variable("SUPERMACHINE_FUZZ_SEED").unwrap_or(clock);
    let _ = writeln!(stderr(), "SUPERMACHINE_FUZZ_SEED={seed}");
    let (files, count, start) = (Files::new(), Arc::<AtomicU64>::default(), Instant::now());
    let (mut random, mut guests) = (Random(seed), 0);
    while start.elapsed() < time {
        let (own, mut hosts, counted) = (random.next(), Random(random.next()), count.clone());
        let script =
            move || Box::new(Counted(Box::new(Driver::new(WINDOWS, BURSTS, own)), counted.clone())) as Box<dyn Script>;
        run(&files, Arc::new(script), move |agent| call(&agent, &mut hosts));
        guests += 1;
    }
    let (count, kib) = (count.load(Ordering::Relaxed), most_rss_kib());
    let used = USED.load(Ordering::Relaxed);
    println!(
        "{guests} guests, {count} accesses, {used} times buffers were used, in {:?}, peak RSS {kib:?} KiB",
        start.elapsed()
    );
    assert!(guests > 0 && used > guests);
    assert!(kib.is_none_or(|kib| kib < MOST_RSS_KIB), "peak RSS is {kib:?} KiB");
    assert_eq!(std::fs::metadata(&files.disk).expect("the disk").len(), DISK_BYTES, "the disk's size is the host's");
}

/// The most memory this process ever held, where the host says.
fn most_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
