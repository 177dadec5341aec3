//! An idle guest on the soft back end costs next to nothing, and one from a template does not even wake.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use supermachine_vmm_api::{Client, Reply, Request, State};

const PATIENCE: Duration = Duration::from_secs(120);
/// Time that the guest gets to finish its start, then the time that is measured.
const SETTLE: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(6);
/// Times that a guest from a template may be woken meanwhile: its next timer is due later (`AHEAD` in `freeze`), and what the
/// restore made it do has had its consequences in the time before.
const WAKES: u64 = 4;
/// `/proc` counts in hundredths of a second (`USER_HZ`), on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn provided(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `make test`"))
}

/// User and system time of the process so far, in ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // Fields 14 and 15; the name before `)` may hold spaces (proc_pid_stat(5)).
    let after = stat.rsplit(')').next().expect("text");
    after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Times that the thread of a vCPU went to sleep of its own will so far: once for each time that it was woken, whatever
/// else the host does.
fn sleeps(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let is_vcpu = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("vcpu-"))
    };
    let vcpus = tasks.map(|task| task.expect("a task").path()).filter(is_vcpu);
    let count = |task: std::path::PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).expect("a running thread");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("a line").trim().parse::<u64>().expect("a number")
    };
    vcpus.map(count).sum()
}

/// A machine that runs, once it does; nothing where the back end is another than soft.
fn running(dir: &Path, args: &[String]) -> Option<Machine> {
    let control = dir.join("control.sock");
    let child = Command::new(env!("CARGO_BIN_EXE_supermachine-vmm"))
        .args(args)
        .arg(format!("--control={}", control.display()))
        .stdin(Stdio::null())
        .spawn();
    let machine = Machine(child.expect("the vmm starts"));
    let start = Instant::now();
    let status = loop {
        assert!(start.elapsed() < PATIENCE, "waited in vain for a running guest");
        // The process makes its socket when it can; nothing announces that.
        sleep(Duration::from_millis(20));
        let Ok(mut client) = Client::connect(&control, "idle test") else { continue };
        match client.request(&Request::Status {}).expect("a reply") {
            Reply::Status(status) if status.state == State::Running => break status,
            _ => {}
        }
    };
    if status.hypervisor != "soft" {
        println!("skipped: the hypervisor is {}, and this is a promise of soft", status.hypervisor);
        return None;
    }
    Some(machine)
}

fn guest() -> Vec<String> {
    let [kernel, initramfs] = ["SUPERMACHINE_TEST_KERNEL", "SUPERMACHINE_TEST_INITRAMFS"].map(provided);
    vec![format!("--kernel={kernel}"), format!("--initramfs={initramfs}")]
}

#[test]
fn an_idle_guest_uses_less_than_a_hundredth_of_a_core() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let Some(machine) = running(dir.path(), &guest()) else { return };
    sleep(SETTLE);
    let (before, begun) = (cpu_ticks(machine.0.id()), Instant::now());
    sleep(MEASURED);
    let used = (cpu_ticks(machine.0.id()) - before) as f64 / TICKS_PER_SECOND;
    let share = used / begun.elapsed().as_secs_f64();
    println!("an idle guest uses {:.2} % of a core", share * 100.0);
    assert!(share < 0.01, "an idle guest uses {:.2} % of a core", share * 100.0);
}

#[test]
fn a_guest_from_a_template_sleeps_on() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let template = dir.path().join("template");
    let bake = ["--container".to_owned(), format!("--bake={}", template.display())];
    let mut baker = Command::new(env!("CARGO_BIN_EXE_supermachine-vmm"));
    let baked = baker.args(guest()).args(bake).stdin(Stdio::null()).status();
    assert!(baked.expect("the vmm starts").success());
    let Some(machine) = running(dir.path(), &[format!("--restore={}", template.display())]) else { return };
    sleep(SETTLE);
    let before = sleeps(machine.0.id());
    assert!(before > 0, "it has gone to sleep after its restore");
    sleep(MEASURED);
    let woken = sleeps(machine.0.id()) - before;
    println!("an idle guest from a template was woken {woken} times in {MEASURED:?}");
    assert!(woken <= WAKES, "an idle guest from a template was woken {woken} times in {MEASURED:?}");
}
