//! Random guests: the same seeded cases in every run, more of them while `SUPERMACHINE_FUZZ_SECONDS` lasts.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vm_memory::{Bytes, GuestAddress};

use crate::virtio::testing::{Driver, reg};
use crate::virtio::{MmioDevice, Transport, TransportState, VirtioDevice};

/// Cases of one round.
const CASES: u32 = 400;

/// Runs `test` on cases of `strategy`: one round, then rounds with further seeds until the time is over.
pub(crate) fn check<S>(strategy: &S, test: impl Fn(S::Value))
where
    S: Strategy,
    S::Value: Debug,
{
    let seconds = std::env::var("SUPERMACHINE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    for round in 0u64.. {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&round.to_le_bytes());
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let result = TestRunner::new_with_rng(config, rng).run(strategy, |case| {
            test(case);
            Ok(())
        });
        if let Err(error) = result {
            panic!("round {round}: {error}");
        }
        if Instant::now() >= end {
            break;
        }
    }
}

/// Something a hostile guest does to a device.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Vec<u8> },
    Register { offset: u64, value: u32 },
    Descriptor { queue: usize, index: u16, gpa: u64, len: u32, flags: u16, next: u16 },
    Offer { queue: usize, head: u16 },
    AvailIdx { queue: usize, idx: u16 },
    Scribble { gpa: u64, data: Vec<u8> },
    Notify { queue: usize },
    Service,
    Restart,
}

fn gpa() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0x10_0000u64..0x20_0000,
        1 => (4u64 << 20) - 64..(4 << 20) + 64,
        1 => (12u64 << 20) - 64..(12 << 20) + 64,
        1 => 0x1_0000u64..0x4_0000,
        1 => any::<u64>(),
        1 => u64::MAX - 64..=u64::MAX,
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => 0u32..64,
        2 => Just(16u32),
        2 => Just(512u32),
        1 => Just(1u32),
        2 => 0u32..70_000,
        1 => any::<u32>(),
        1 => Just(u32::MAX),
    ]
}

fn descriptor() -> impl Strategy<Value = Move> {
    (0usize..3, 0u16..12, gpa(), length(), 0u16..8, 0u16..14)
        .prop_map(|(queue, index, gpa, len, flags, next)| Move::Descriptor { queue, index, gpa, len, flags, next })
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let register = prop_oneof![(0u64..0x40).prop_map(|index| index * 4), Just(reg::STATUS), Just(reg::QUEUE_READY)];
    let value = prop_oneof![0u32..16, Just(0xff), any::<u32>()];
    let one = prop_oneof![
        2 => (prop_oneof![0u64..0x200, any::<u64>()], 0usize..9).prop_map(|(offset, len)| Move::Read { offset, len }),
        2 => (prop_oneof![0u64..0x200, any::<u64>()], vec(any::<u8>(), 0..9))
            .prop_map(|(offset, data)| Move::Write { offset, data }),
        1 => (register, value).prop_map(|(offset, value)| Move::Register { offset, value }),
        12 => descriptor(),
        8 => (0usize..3, 0u16..300).prop_map(|(queue, head)| Move::Offer { queue, head: head % 12 }),
        1 => (0usize..3, any::<u16>()).prop_map(|(queue, head)| Move::Offer { queue, head }),
        1 => (0usize..3, any::<u16>()).prop_map(|(queue, idx)| Move::AvailIdx { queue, idx }),
        4 => (gpa(), vec(any::<u8>(), 0..64)).prop_map(|(gpa, data)| Move::Scribble { gpa, data }),
        8 => (0usize..4).prop_map(|queue| Move::Notify { queue }),
        2 => Just(Move::Service),
        2 => Just(Move::Restart),
    ];
    vec(one, 1..60)
}

pub(crate) fn play<D: VirtioDevice>(driver: &mut Driver<D>, moves: Vec<Move>) {
    for step in moves {
        match step {
            Move::Read { offset, len } => driver.transport.read(offset, &mut vec![0; len]),
            Move::Write { offset, data } => {
                let _ = driver.transport.write(offset, &data, &driver.mem);
            }
            Move::Register { offset, value } => driver.write(offset, value),
            Move::Descriptor { queue, index, gpa, len, flags, next } => {
                let Some(ring) = driver.rings.get(queue) else { continue };
                let piece = crate::virtio::testing::Piece { gpa, len, write: false };
                driver.put_descriptor(ring.desc, index, piece, flags, next);
            }
            Move::Offer { queue, head } if queue < driver.rings.len() => driver.offer_head(queue, head),
            Move::AvailIdx { queue, idx } => {
                let Some(ring) = driver.rings.get(queue) else { continue };
                driver.mem.write_obj(idx, GuestAddress(ring.avail + 2)).expect("ring is in memory");
            }
            Move::Scribble { gpa, data } => {
                // Where there is no memory a guest cannot write either.
                let _ = driver.mem.write_slice(&data, GuestAddress(gpa));
            }
            Move::Notify { queue } => driver.write(reg::QUEUE_NOTIFY, queue as u32),
            Move::Offer { .. } | Move::Service => driver.service(),
            Move::Restart => driver.start(),
        }
    }
}

/// Random accesses, rings and buffers: whatever the guest does, the device comes back and can be started again.
pub(crate) fn hostile_guest<D: VirtioDevice>(make: impl Fn() -> D) {
    check(&moves(), |moves| {
        let mut driver = Driver::new(make());
        play(&mut driver, moves);
        driver.start();
        assert!(driver.transport.is_running());
    });
}

/// Random saved transports: refused or harmless, and a transport's own state is always accepted.
pub(crate) fn hostile_transport_state<D: VirtioDevice>(make: impl Fn() -> D) {
    let field = || prop_oneof![3 => Just(None), 1 => any::<u64>().prop_map(Some), 1 => (0u64..16).prop_map(Some)];
    check(&(moves(), vec(field(), 14), moves()), |(before, fields, after)| {
        let mut driver = Driver::new(make());
        play(&mut driver, before);
        let saved = driver.transport.save_transport();
        let text = serde_json::to_string(&saved).expect("state serialises");
        let parsed: TransportState = serde_json::from_str(&text).expect("state parses");
        assert_eq!(parsed, saved);
        let back = Transport::restore(parsed, make(), &driver.mem).expect("its own state is good");
        assert_eq!(back.save_transport(), saved);

        if let Ok(back) = Transport::restore(mutate(saved, &fields), make(), &driver.mem) {
            let mut driver = driver.with_transport(back);
            driver.service();
            play(&mut driver, after);
        }
    });
}

fn mutate(mut state: TransportState, fields: &[Option<u64>]) -> TransportState {
    let mut fields = fields.iter().copied();
    let mut next = || fields.next().flatten();
    let narrow = |value: u64| value as u32;
    state.status = next().map_or(state.status, narrow);
    state.driver_features = next().unwrap_or(state.driver_features);
    state.queue_sel = next().map_or(state.queue_sel, narrow);
    state.interrupt_status = next().map_or(state.interrupt_status, narrow);
    if let Some(count) = next() {
        state.queues.resize_with((count % 5) as usize, Default::default);
    }
    for queue in &mut state.queues {
        queue.size = next().map_or(queue.size, |value| value as u16);
        queue.ready = next().map_or(queue.ready, |value| value % 2 == 1);
        queue.desc_table = next().unwrap_or(queue.desc_table);
        queue.used_ring = next().unwrap_or(queue.used_ring);
        queue.next_avail = next().map_or(queue.next_avail, |value| value as u16);
        queue.next_used = next().map_or(queue.next_used, |value| value as u16);
    }
    state
}
