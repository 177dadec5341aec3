//! A guest cannot harm the host: random guests with random memory, registers, devices, interrupts and kicks.
//!
//! `SUPERMACHINE_FUZZ_SECONDS` sets how long, `SUPERMACHINE_FUZZ_SEED` repeats a run and `SUPERMACHINE_FUZZ_CASE`
//! one case of it; interrupts come by the host's clock, so a repetition is close, not exact.

mod arena;
mod code;
mod guest;
mod rng;
mod watchdog;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write, stderr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use supermachine_hv::{Exit, Fault, GuestMemory, HvError, Hypervisor, Reply, Vcpu, VmConfig};
use supermachine_hv_soft::SoftHypervisor;

use rng::Rng;
use watchdog::Watchdog;

const DEFAULT_SECONDS: u64 = 4;
/// Exits that one guest may make.
const MOST_EXITS: u32 = 20_000;
/// What this process may hold, however long it runs; a code cache is 32 MiB at most.
const MOST_RSS_KIB: u64 = 400 << 10;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn random_guests_do_no_harm() {
    let time = Duration::from_secs(variable("SUPERMACHINE_FUZZ_SECONDS").unwrap_or(DEFAULT_SECONDS));
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
    let seed = variable("SUPERMACHINE_FUZZ_SEED").unwrap_or(clock);
    let only = variable("SUPERMACHINE_FUZZ_CASE");
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{seed}"));
    // Not captured: a stray access ends the process, and then this is all that is left.
    let _ = writeln!(stderr(), "SUPERMACHINE_FUZZ_SEED={seed}, SUPERMACHINE_FUZZ_CASE is in {}", log.display());
    let mut run = Run {
        memory: arena::guarded_ram(),
        watchdog: Watchdog::start(),
        log: File::create(&log).expect("a file in the target folder"),
        ends: BTreeMap::new(),
    };
    let (start, mut case) = (Instant::now(), only.unwrap_or(0));
    while start.elapsed() < time {
        run.guarded_case(seed, case);
        case += u64::from(only.is_none());
    }
    let kib = most_rss_kib();
    println!("{} guests in {:?}, peak RSS {kib:?} KiB: {:#?}", run.cases(), start.elapsed(), run.ends);
    assert!(run.cases() > 0);
    assert!(kib.is_none_or(|kib| kib < MOST_RSS_KIB), "peak RSS is {kib:?} KiB");
    std::fs::remove_file(log).expect("the file made above");
}

/// The most memory this process ever held, where the host says.
fn most_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Run {
    memory: GuestMemory,
    watchdog: Watchdog,
    log: File,
    /// How guests ended.
    ends: BTreeMap<String, u64>,
}

impl Run {
    fn cases(&self) -> u64 {
        self.ends.values().sum()
    }

    fn guarded_case(&mut self, seed: u64, case: u64) {
        let logged = self.log.seek(SeekFrom::Start(0)).and_then(|_| writeln!(self.log, "{case}"));
        logged.expect("a file in the target folder");
        match catch_unwind(AssertUnwindSafe(|| self.case(seed, case))) {
            Ok(end) => *self.ends.entry(end).or_default() += 1,
            Err(panic) => {
                let _ = writeln!(stderr(), "SUPERMACHINE_FUZZ_SEED={seed} SUPERMACHINE_FUZZ_CASE={case} fails");
                resume_unwind(panic);
            }
        }
    }

    /// One guest's life; says how it ended.
    fn case(&mut self, seed: u64, case: u64) -> String {
        let mut rng = Rng::new(seed, case);
        guest::fill_ram(&mut rng, &self.memory);
        let config = VmConfig { memory: self.memory.clone(), vcpus: 1 };
        let vm = SoftHypervisor::default().create_vm(config).expect("a machine of one vCPU");
        let vcpu = vm.create_vcpu(0).expect("the first vCPU");
        let kick = vcpu.kicker();
        let mut vcpu = vcpu.bind().expect("binding to this thread");
        let mut state = vcpu.save().expect("nothing is in flight");
        guest::registers(&mut rng, &mut state);
        if let Err(error) = vcpu.restore(&state) {
            let HvError::BadState { field, .. } = error else { panic!("restore gives {error}") };
            // What a refused state leaves behind is no worse than any other guest.
            let _ = save_and_restore(&mut *vcpu);
            if rng.chance(50) {
                return format!("refused {field}");
            }
        }
        self.watchdog.guard(&vm, kick, Rng::new(seed, !case), case);
        let end = live(&mut rng, &mut *vcpu, &self.watchdog);
        self.watchdog.over();
        let chips = vm.save().expect("a machine at rest");
        vm.restore(&chips).expect("the machine's own state");
        end
    }
}

/// Runs until the guest ends or is kicked.
fn live(rng: &mut Rng, vcpu: &mut dyn Vcpu, watchdog: &Watchdog) -> String {
    for _ in 0..MOST_EXITS {
        let exit = vcpu.run().expect("a vCPU with nothing in flight runs");
        if exit.needs_reply() {
            assert!(matches!(vcpu.save(), Err(HvError::ExitInFlight { .. })), "saved with {exit:?} in flight");
            let value = rng.edge();
            let hypercall = matches!(exit, Exit::Hypercall { .. });
            let reply = if hypercall { Reply::Hypercall(value) } else { Reply::Read(value) };
            vcpu.complete(reply).expect("a reply of the exit's kind");
        }
        let over = match &exit {
            Exit::Kicked => watchdog.is_last(),
            Exit::Fault(_) | Exit::Halted { .. } | Exit::Reset | Exit::PowerOff => true,
            _ => false,
        };
        if over || rng.chance(5) {
            let saved = save_and_restore(vcpu);
            assert!(saved || exit != Exit::Kicked, "a kicked vCPU is not saved");
        }
        if over {
            return match exit {
                // Without the addresses, or each would count as an end of its own.
                Exit::Fault(Fault::Internal { detail }) => {
                    detail.split(' ').filter(|word| !word.starts_with("0x")).collect::<Vec<_>>().join(" ")
                }
                Exit::Halted { .. } => "halted".to_owned(),
                exit => format!("{exit:?}"),
            };
        }
    }
    "exits".to_owned()
}

/// Saves the vCPU, if its last exit lets it, and puts its state back.
fn save_and_restore(vcpu: &mut dyn Vcpu) -> bool {
    match vcpu.save() {
        Ok(state) => {
            if let Err(error) = vcpu.restore(&state) {
                panic!("a vCPU's own state is refused: {error}; {state:x?}");
            }
            true
        }
        Err(HvError::ExitInFlight { .. }) => false,
        Err(error) => panic!("save gives {error}"),
    }
}
