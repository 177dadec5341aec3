//! Machines that are saved and gone on with.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use supermachine_agent_protocol::{ExitStatus, Signal};
use supermachine_snapshot::{Limits, Snapshot, SnapshotError};
use supermachine_vmm_api::{ClientError, Reply, Request, State, Status};

use crate::harness::{Config, Machine, PATIENCE, collect, finish, initramfs, kernel};
use crate::process::max_vcpus;

/// Restores of the test that counts them, unless `SUPERMACHINE_RESTORES` says otherwise.
const RESTORES: u32 = 10;
/// How many times sooner the agent of a restored machine answers than that of one that boots.
const SOONER: f64 = 10.0;
/// Boots of the test that compares the two.
const BOOTS: usize = 3;
/// Restores between two boots: together they take less time than one.
const RESTORES_A_BOOT: usize = 4;
/// How far a restored guest's wall clock may be off.
const SKEW: Duration = Duration::from_millis(10);

fn status(machine: &Machine) -> Status {
    match machine.client().request(&Request::Status {}).expect("a reply") {
        Reply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

/// A machine in which `live` runs.
fn lively(memory: &str) -> Machine {
    let machine = Config::new().arg(memory).start();
    let started = machine.exec(&["sh", "-c", "setsid live /dev/live </dev/null >/dev/null 2>&1 &"]);
    assert_eq!(started.status, ExitStatus::Exited(0));
    machine
}

/// What `live` has seen: turns, ticks of its timer, and errors.
fn seen(machine: &Machine) -> (u64, u64, u64) {
    seen_at(machine, "/dev/live")
}

fn seen_at(machine: &Machine, file: &str) -> (u64, u64, u64) {
    let script = format!("while ! test -s {file}; do sleep 0.01; done; cat {file}");
    let text = machine.exec(&["sh", "-c", &script]).text();
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [turns, ticks, wrong] = numbers[..] else { panic!("{text:?}") };
    (turns, ticks, wrong)
}

/// Waits until `live` has made more turns than that.
#[track_caller]
fn goes_on(machine: &Machine, from: (u64, u64, u64)) -> (u64, u64, u64) {
    goes_on_at(machine, "/dev/live", from)
}

#[track_caller]
fn goes_on_at(machine: &Machine, file: &str, from: (u64, u64, u64)) -> (u64, u64, u64) {
    let begin = Instant::now();
    loop {
        let now = seen_at(machine, file);
        assert_eq!(now.2, 0, "registers, pipe or clock went wrong: {now:?}");
        if now.0 > from.0 + 2 && now.1 > from.1 + 2 {
            return now;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing moves: {from:?}, then {now:?}");
    }
}

#[test]
fn a_restored_machine_goes_on_and_so_does_the_one_that_was_saved() {
    let machine = lively("--memory=128M");
    let before = goes_on(&machine, (0, 0, 0));
    let snapshot = machine.snapshot("one");
    let copy = Config::restored(&snapshot).start();
    let there = goes_on(&copy, before);
    let here = goes_on(&machine, before);
    goes_on(&copy, there);
    goes_on(&machine, here);
    let (saved, restored) = (status(&machine), status(&copy));
    assert_eq!((restored.state, restored.memory_mib, restored.vcpus), (State::Running, 128, 1));
    assert_eq!((saved.kernel, &saved.generation), (restored.kernel, &None));
    assert!(restored.generation.is_some());
}

/// Restores at `vcpus`, with more of `live` than one so that each vCPU has something in flight.
fn restores_are_good(vcpus: u32) {
    let most = max_vcpus();
    if most < vcpus {
        eprintln!("skipped: this back end has at most {most} vCPUs; `make testbed` runs this test on KVM");
        return;
    }
    let wanted = std::env::var("SUPERMACHINE_RESTORES").map_or(RESTORES, |text| text.parse().expect("a number"));
    let config = Config::new().arg("--memory=128M").arg(&format!("--vcpus={vcpus}"));
    let machine = config.start();
    for number in 0..vcpus {
        let start = format!("setsid live /dev/live{number} </dev/null >/dev/null 2>&1 &");
        assert_eq!(machine.exec(&["sh", "-c", &start]).status, ExitStatus::Exited(0));
    }
    let all = |machine: &Machine, from: &[(u64, u64, u64)]| -> Vec<_> {
        (0..vcpus).zip(from).map(|(number, from)| goes_on_at(machine, &format!("/dev/live{number}"), *from)).collect()
    };
    let before = all(&machine, &vec![(0, 0, 0); vcpus as usize]);
    let snapshot = Kept(machine.snapshot("one"));
    for number in 1..=wanted {
        // Of a test that fails, the last line says which one it was.
        eprintln!("restore {number} of {wanted} at {vcpus} vCPUs");
        all(&Config::restored(&snapshot.0).start(), &before);
    }
    snapshot.verify().expect("no restored machine wrote to what it came from");
}

/// A snapshot; of a test that fails with it, one can see whether the snapshot is still what was saved.
struct Kept(PathBuf);

impl Kept {
    fn verify(&self) -> Result<(), SnapshotError> {
        Snapshot::open(&self.0, &Limits::default())?.verify()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the snapshot, looked at again: {:?}", self.verify());
        }
    }
}

#[test]
fn every_one_of_many_restores_is_good() {
    restores_are_good(1);
}

#[test]
fn every_one_of_many_restores_is_good_with_2_vcpus() {
    restores_are_good(2);
}

#[test]
fn every_one_of_many_restores_is_good_with_4_vcpus() {
    restores_are_good(4);
}

#[test]
fn a_restored_machine_can_be_saved_again() {
    let machine = lively("--memory=128M");
    let first = machine.snapshot("first");
    assert_eq!(machine.exec(&["sh", "-c", "echo kept >/dev/kept"]).status, ExitStatus::Exited(0));
    let second = Config::restored(&machine.snapshot("second")).start();
    let third = Config::restored(&second.snapshot("third")).start();
    assert_eq!(third.exec(&["cat", "/dev/kept"]).text(), "kept");
    goes_on(&third, seen(&second));
    let without = Config::restored(&first).start();
    assert_eq!(without.exec(&["test", "-e", "/dev/kept"]).status, ExitStatus::Exited(1));
}

/// What must differ between any two copies of a machine.
fn identity(machine: &Machine) -> [String; 4] {
    let print = |script: &str| {
        let printed = machine.exec(&["sh", "-c", script]);
        assert_eq!(printed.status, ExitStatus::Exited(0), "{script}");
        printed.text()
    };
    [
        print("cat /proc/sys/kernel/random/boot_id"),
        print("head -c 32 /dev/urandom | md5sum"),
        print("cat /proc/self/stat | wc -c; cat /proc/sys/kernel/random/uuid"),
        status(machine).generation.expect("a restored machine has one"),
    ]
}

#[test]
fn two_machines_from_one_snapshot_are_two() {
    // Nobody has asked the kernel for its boot id in this one, as in a template.
    let machine = Config::new().arg("--memory=128M").start();
    let snapshot = machine.snapshot("one");
    let copies: Vec<_> = (0..3).map(|_| Config::restored(&snapshot).start()).collect();
    let identities: Vec<_> = copies.iter().map(identity).collect();
    for part in 0..4 {
        let different: HashSet<_> = identities.iter().map(|identity| &identity[part]).collect();
        assert_eq!(different.len(), copies.len(), "{identities:?}");
    }
    assert_eq!(copies[0].exec(&["sh", "-c", "echo mine >/dev/own"]).status, ExitStatus::Exited(0));
    for other in [&copies[1], &machine] {
        assert_eq!(other.exec(&["test", "-e", "/dev/own"]).status, ExitStatus::Exited(1));
    }
}

#[test]
fn the_wall_clock_of_a_restored_machine_is_right() {
    let machine = Config::new().arg("--memory=128M").start();
    let snapshot = machine.snapshot("one");
    // The time that a snapshot lies around must not be missing.
    std::thread::sleep(Duration::from_millis(300));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let copy = Config::restored(&snapshot).start();
    let before = now();
    let printed = copy.exec(&["live", "--clock"]).text();
    let after = now();
    let guest = Duration::from_nanos(printed.parse().expect("nanoseconds"));
    assert!(guest + SKEW >= before && guest <= after + SKEW, "{guest:?} is not between {before:?} and {after:?}");
}

#[test]
fn what_talks_while_a_machine_is_saved_goes_on_and_ends_in_the_copy() {
    let machine = Config::new().arg("--memory=128M").start();
    let script = "echo ready; exec sleep 1000";
    let (mut reader, mut writer, pid) = machine.client().exec(machine.spec(&["sh", "-c", script])).expect("starts");
    assert_eq!(reader.frame().expect("its word").payload, b"ready\n");
    let copy = Config::restored(&machine.snapshot("one")).start();
    let probe = format!("/proc/{pid}/stat");
    // In the copy its connection was cut, so the agent ended it; here it still has one.
    let gone = format!("while grep -q . {probe} 2>/dev/null && ! grep -q ') Z' {probe}; do sleep 0.01; done");
    assert_eq!(copy.exec(&["sh", "-c", &gone]).status, ExitStatus::Exited(0));
    assert_eq!(machine.exec(&["test", "-e", &probe]).status, ExitStatus::Exited(0));
    writer.send_frame(Signal(9)).expect("the process is still reached");
    assert_eq!(collect((reader, writer, pid)).status, ExitStatus::Signaled(9));
}

#[test]
fn a_paused_machine_is_saved_and_stays_paused() {
    let machine = lively("--memory=128M");
    goes_on(&machine, (0, 0, 0));
    let pause = machine.client().request(&Request::Pause {}).expect("a reply");
    assert_eq!(pause, Reply::Ok {});
    let snapshot = machine.snapshot("one");
    assert_eq!(status(&machine).state, State::Paused);
    let copy = Config::restored(&snapshot).start();
    goes_on(&copy, (0, 0, 0));
    assert_eq!(machine.client().request(&Request::Resume {}).expect("a reply"), Reply::Ok {});
    goes_on(&machine, (0, 0, 0));
}

/// Lines that say why a snapshot was refused.
fn refusal(machine: &Machine, dir: &Path) -> String {
    match machine.client().request(&Request::Snapshot { dir: dir.to_owned() }) {
        Err(ClientError::Refused(reply)) => reply.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_save_that_fails_leaves_the_machine_running_and_nothing_behind() {
    // A file may not be larger than this here: the disk is full in the middle of RAM.
    let config = Config::new().arg("--memory=128M").limited_to_file_blocks(2_000);
    let machine = config.start();
    let started = machine.exec(&["sh", "-c", "setsid live /dev/live </dev/null >/dev/null 2>&1 &"]);
    assert_eq!(started.status, ExitStatus::Exited(0));
    let before = goes_on(&machine, (0, 0, 0));
    let target = machine.config.dir().join("full");
    std::fs::create_dir(&target).expect("a directory");
    let why = refusal(&machine, &target.join("one"));
    assert!(why.contains("File too large"), "{why}");
    assert_eq!(std::fs::read_dir(&target).expect("a directory").count(), 0, "all of it is removed");
    assert!(refusal(&machine, Path::new("/no/such/place")).contains("make"));
    let nowhere = goes_on(&machine, before);
    goes_on(&machine, nowhere);
    assert_eq!(status(&machine).state, State::Running);
}

/// Bakes a template of a machine with these options.
fn baked(dir: &Path, options: &[&str]) -> PathBuf {
    let template = dir.join("template");
    let mut command = Command::new(env!("CARGO_BIN_EXE_supermachine-vmm"));
    command.arg("--kernel").arg(kernel()).arg("--initramfs").arg(initramfs()).arg("--bake").arg(&template);
    command.args(options).stdin(Stdio::null());
    let baked = finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts"));
    assert!(baked.status.success(), "{}", String::from_utf8_lossy(&baked.stderr));
    assert!(baked.stdout.is_empty());
    template
}

#[test]
fn a_baked_machine_is_a_template() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let template = baked(dir.path(), &["--disk=none:ro", "--key=memory=128", "--memory=128M"]);
    let snapshot = Snapshot::open(&template, &Limits::default());
    let about = &snapshot.as_ref().expect("a snapshot").manifest().about;
    assert_eq!(about.kind, supermachine_snapshot::Kind::Base);
    assert_eq!(about.key.get("memory").map(String::as_str), Some("128"));
    snapshot.expect("a snapshot").verify().expect("whole");
    let once = Config::restored(&template).run(&["/init"]);
    assert!(String::from_utf8_lossy(&once.stderr).contains("it is PID 1 of a guest"), "{once:?}");
}

/// Milliseconds from the vmm's start to the agent's answer, after a restore with its new identity. The back end is not
/// probed, as in containers from a template.
fn up_after(config: &Config) -> f64 {
    let mut command = config.command();
    // With so little time a probe would fail where it takes long, so it is seen that there is none.
    command.args(["--hypervisor=kvm", "--probed", "--", "/init"]);
    command.env("SUPERMACHINE_LOG", "info").env("SUPERMACHINE_PROBE_MS", "1");
    let done = finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts"));
    let said = String::from_utf8_lossy(&done.stderr);
    let text = said.split_once("guest is up after ").and_then(|(_, rest)| rest.split_once(" ms"));
    text.unwrap_or_else(|| panic!("no time in {said}")).0.parse().expect("a number")
}

/// On the soft back end `make bench-start` has this, with a bound of its own.
#[test]
#[ignore = "needs KVM"]
fn a_restored_machine_answers_ten_times_sooner_than_one_that_boots() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let template = baked(dir.path(), &["--container", "--memory=256M"]);
    let (mut boot, mut restore) = (f64::INFINITY, f64::INFINITY);
    // It lacks a container's devices, which have no command of their own: that makes the boot shorter, not longer.
    let cold = Config::bare().arg(&format!("--initramfs={}", initramfs().display())).arg("--memory=256M");
    let warm = Config::from_snapshot(&template);
    // In turn, so that what else this machine does meets both; the best of each is what the others are but for that.
    for _ in 0..BOOTS {
        let took = up_after(&cold);
        boot = boot.min(took);
        eprintln!("boot to answer: {took:.1} ms");
        for _ in 0..RESTORES_A_BOOT {
            let took = up_after(&warm);
            restore = restore.min(took);
            eprintln!("restore to answer: {took:.1} ms");
        }
    }
    let ratio = boot / restore;
    eprintln!("best boot {boot:.1} ms, best restore {restore:.1} ms: {ratio:.1} x");
    assert!(ratio >= SOONER, "boot {boot:.1} ms, restore {restore:.1} ms: {ratio:.1} x, not {SOONER} x");
}
