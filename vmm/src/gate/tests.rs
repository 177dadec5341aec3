use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use supermachine_hv::x86;

use super::*;

/// Counts its rounds instead of running a guest; is at rest every other round only.
struct Rounds {
    index: u64,
    rounds: Arc<AtomicU64>,
    even: bool,
    fails: bool,
}

impl Passer for Rounds {
    fn sample(&self) {}

    fn at_rest(&self) -> bool {
        self.even
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        assert!(self.even, "saved with something in flight");
        if self.fails {
            return Err(HvError::ExitInFlight { exit: "test" });
        }
        let regs = x86::Regs { rax: self.index, ..x86::Regs::default() };
        Ok(VcpuState::X86(Box::new(x86::VcpuState { regs, ..x86::VcpuState::default() })))
    }
}

struct NoKick;

impl Kick for NoKick {
    fn kick(&self) {}
}

/// A gate with so many threads that pass it all the time; their rounds.
fn running(count: u32, failing: Option<u32>) -> (Arc<Gate>, Arc<AtomicU64>) {
    let (gate, rounds) = (Arc::<Gate>::default(), Arc::<AtomicU64>::default());
    for index in 0..count {
        gate.enter(Arc::new(NoKick));
        let (gate, rounds) = (gate.clone(), rounds.clone());
        thread::spawn(move || {
            let mut seen = Seen::default();
            let mut passer = Rounds { index: index.into(), rounds, even: true, fails: failing == Some(index) };
            while gate.pass(index, &mut seen, &mut passer) == Passage::Run {
                passer.rounds.fetch_add(1, Ordering::Relaxed);
                passer.even = !passer.even;
            }
            gate.leave();
        });
    }
    (gate, rounds)
}

fn moves(rounds: &AtomicU64) {
    let before = rounds.load(Ordering::Relaxed);
    while rounds.load(Ordering::Relaxed) == before {
        thread::yield_now();
    }
}

#[test]
fn states_come_in_order_and_nobody_runs_while_they_are_held() {
    let (gate, rounds) = running(4, None);
    for _ in 0..50 {
        let hold = gate.hold();
        let before = rounds.load(Ordering::Relaxed);
        let saved = gate.save(&hold).expect("all are at rest");
        let order: Vec<u64> = saved
            .iter()
            .map(|state| match state {
                VcpuState::X86(state) => state.regs.rax,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [0, 1, 2, 3]);
        gate.resume();
        assert_eq!(rounds.load(Ordering::Relaxed), before, "a resume lets nobody past a hold");
        drop(hold);
        moves(&rounds);
    }
    gate.stop();
}

#[test]
fn a_pause_outlives_a_hold_and_a_failed_save_is_told() {
    let (gate, rounds) = running(2, Some(1));
    gate.pause();
    let hold = gate.hold();
    assert!(matches!(gate.save(&hold), Err(GateError::Vcpu { index: 1, .. })));
    drop(hold);
    assert!(gate.is_paused());
    let before = rounds.load(Ordering::Relaxed);
    drop(gate.hold());
    assert_eq!(rounds.load(Ordering::Relaxed), before);
    gate.resume();
    moves(&rounds);
    gate.stop();
    let hold = gate.hold();
    assert!(matches!(gate.save(&hold), Err(GateError::Ending)));
}
