//! A busy guest, cut at random places and gone on with in a new machine each time, ends as one that never stopped.
//!
//! `CUTS_SEED` repeats a run's delays; where the cuts fall depends on the host's time as well.

mod device;
mod guest;
mod kicker;
mod programs;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use supermachine_hv::laws::machine::{Frozen, RAM_LEN, Rig};
use supermachine_hv::{Exit, HvError, Hypervisor, Kept, Reply};
use supermachine_hv_soft::{Model, SoftHypervisor};

use device::{Device, Random};
use guest::{Ending, boot, is_end};
use kicker::Kicker;

/// Cuts in all.
const CUTS: u32 = 1_000;
/// Longest time from a machine's start to its kick.
const LONGEST_NS: u64 = 600_000;
/// Of how many cuts one goes through JSON, as a snapshot's states do.
const JSON_EVERY: u32 = 3;
/// Of how many exits for the device one is a cut.
const EXITS_PER_CUT: u64 = 24;

/// What a run was cut into.
#[derive(Debug, Default)]
struct Cuts {
    kicks: u32,
    exits: u32,
    halts: u32,
    refused: u32,
    /// How often decoded code was kept.
    kept: u32,
}

impl Cuts {
    fn all(&self) -> u32 {
        self.kicks + self.exits
    }
}

#[test]
fn cut_runs_end_as_whole_ones() {
    let seed = seed();
    eprintln!("CUTS_SEED={seed}");
    let (hypervisor, mut random) = (SoftHypervisor::new(Model::V2), Random(seed));
    let whole = whole_run(&hypervisor);
    whole.check_was_busy();
    let (kicker, mut cuts, mut runs) = (Kicker::start(), Cuts::default(), 0);
    while cuts.all() < CUTS {
        let ending = cut_run(&hypervisor, &kicker, &mut random, &mut cuts);
        ending.compare(&whole);
        runs += 1;
    }
    eprintln!("{cuts:?} in {runs} runs");
    assert!(cuts.kicks > 0 && cuts.exits > 0 && cuts.halts > 0, "every kind of cut is made: {cuts:?}");
    assert!(cuts.kept > 0, "decoded code is kept: {cuts:?}");
}

fn seed() -> u64 {
    match std::env::var("CUTS_SEED") {
        Ok(seed) => seed.parse().expect("CUTS_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
    }
}

fn whole_run(hypervisor: &dyn Hypervisor) -> Ending {
    let (mut rig, mut device) = (boot(hypervisor), Device::default());
    loop {
        let exit = rig.run();
        if is_end(&exit) {
            return Ending::of(&mut rig, device);
        }
        serve(&mut rig, &mut device, &exit);
    }
}

fn cut_run(hypervisor: &dyn Hypervisor, kicker: &Kicker, random: &mut Random, cuts: &mut Cuts) -> Ending {
    let (mut rig, mut device) = (boot(hypervisor), Device::default());
    let mut kept: Option<Kept> = None;
    kicker.kick_after(rig.kicker(), random.below(LONGEST_NS));
    loop {
        let exit = rig.run();
        if is_end(&exit) {
            return Ending::of(&mut rig, device);
        }
        let kicked = exit == Exit::Kicked;
        if !kicked {
            serve(&mut rig, &mut device, &exit);
            if random.below(EXITS_PER_CUT) != 0 {
                continue;
            }
        }
        let Some(frozen) = freeze(&mut rig, kicked) else {
            cuts.refused += 1;
            continue;
        };
        cuts.count(kicked, &frozen);
        let frozen = if cuts.all().is_multiple_of(JSON_EVERY) { through_json(frozen) } else { frozen };
        // Much of what was decoded has changed by the time it is looked at again.
        if let Some(code) = rig.vcpu.keep(1, &|_| true) {
            kept = Some(Arc::new(code));
            cuts.kept += 1;
        }
        rig = frozen.thaw(hypervisor);
        if let Some(kept) = &kept {
            rig.vcpu.recall(kept.clone());
        }
        kicker.kick_after(rig.kicker(), random.below(LONGEST_NS));
    }
}

/// Everything, or nothing where the guest is in the middle of an access, which it may not be after a kick.
fn freeze(rig: &mut Rig, kicked: bool) -> Option<Frozen> {
    let vcpu = match rig.vcpu.save() {
        Ok(vcpu) => vcpu,
        Err(HvError::ExitInFlight { .. }) if !kicked => return None,
        Err(error) => panic!("a vCPU at rest is saved: {error}"),
    };
    let vm = rig.vm.save().expect("a machine at rest");
    Some(Frozen { memory: rig.read(0, RAM_LEN), vm, vcpu })
}

fn through_json(frozen: Frozen) -> Frozen {
    let Frozen { memory, vm, vcpu } = frozen;
    let vm = serde_json::to_string(&vm).expect("a machine's state is data");
    let vcpu = serde_json::to_string(&vcpu).expect("a vCPU's state is data");
    Frozen {
        memory,
        vm: serde_json::from_str(&vm).expect("and back"),
        vcpu: serde_json::from_str(&vcpu).expect("and back"),
    }
}

fn serve(rig: &mut Rig, device: &mut Device, exit: &Exit) {
    if let Some(value) = device.serve(exit) {
        rig.vcpu.complete(Reply::Read(value)).expect("a read takes data");
    }
}

impl Cuts {
    fn count(&mut self, kicked: bool, frozen: &Frozen) {
        if kicked {
            self.kicks += 1;
        } else {
            self.exits += 1;
        }
        self.halts += u32::from(guest::halted(&frozen.vcpu));
    }
}
