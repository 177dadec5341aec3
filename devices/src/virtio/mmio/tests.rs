use std::io;

use super::MmioDevice;
use crate::RestoreError;
use crate::rng::{EntropySource, Rng};
use crate::virtio::Transport;
use crate::virtio::spec::status;
use crate::virtio::testing::{COMMON_FEATURES, DESC_INDIRECT, DESC_NEXT, Driver, Piece, reg};

struct Sevens;

impl EntropySource for Sevens {
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(7);
        Ok(())
    }
}

fn device() -> Rng {
    Rng::new(Box::new(Sevens))
}

const NEGOTIATED: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;

#[test]
fn status_goes_one_way() {
    let mut driver = Driver::cold(device());
    driver.write(reg::STATUS, status::DRIVER);
    assert_eq!(driver.read(reg::STATUS), 0, "DRIVER before ACKNOWLEDGE");
    driver.write(reg::STATUS, status::ACKNOWLEDGE);
    driver.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
    driver.write(reg::STATUS, NEGOTIATED);
    assert_eq!(driver.read(reg::STATUS), status::ACKNOWLEDGE | status::DRIVER, "VERSION_1 was not accepted");
    driver.write(reg::DRIVER_FEATURES_SEL, 1);
    driver.write(reg::DRIVER_FEATURES, 3);
    driver.write(reg::STATUS, NEGOTIATED);
    assert_eq!(driver.read(reg::STATUS) & status::FEATURES_OK, 0, "bit 33 was not offered");
    driver.write(reg::DRIVER_FEATURES, 1);
    driver.write(reg::STATUS, NEGOTIATED);
    assert_eq!(driver.read(reg::STATUS), NEGOTIATED);
    driver.write(reg::STATUS, status::ACKNOWLEDGE);
    assert_eq!(driver.read(reg::STATUS), NEGOTIATED, "bits cannot be taken back");
    driver.write(reg::STATUS, NEGOTIATED | status::FAILED);
    assert_eq!(driver.read(reg::STATUS), NEGOTIATED | status::FAILED);
    assert!(!driver.transport.is_running());
    driver.write(reg::STATUS, 0);
    assert_eq!(driver.read(reg::STATUS), 0);
}

#[test]
fn offers_the_common_features_and_no_third_word() {
    let mut driver = Driver::cold(device());
    assert_eq!(driver.features(), COMMON_FEATURES);
    driver.write(reg::DEVICE_FEATURES_SEL, 2);
    assert_eq!(driver.read(reg::DEVICE_FEATURES), 0);
}

#[test]
fn a_queue_that_does_not_exist_has_size_zero() {
    let mut driver = Driver::cold(device());
    for index in [1, 2, u32::MAX] {
        driver.write(reg::QUEUE_SEL, index);
        assert_eq!(driver.read(reg::QUEUE_NUM_MAX), 0);
        driver.write(reg::QUEUE_READY, 1);
        assert_eq!(driver.read(reg::QUEUE_READY), 0);
    }
}

#[test]
fn a_ring_outside_memory_needs_a_reset() {
    for (register, value) in
        [(reg::DESC_LOW, 0xffff_fff0), (reg::AVAIL_LOW, 1), (reg::USED_LOW, 0), (reg::QUEUE_NUM, 3)]
    {
        let mut driver = Driver::new(device());
        driver.write(reg::STATUS, 0);
        driver.write(reg::STATUS, status::ACKNOWLEDGE);
        driver.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        driver.write(reg::DRIVER_FEATURES_SEL, 1);
        driver.write(reg::DRIVER_FEATURES, 1);
        driver.write(reg::STATUS, NEGOTIATED);
        driver.write(reg::DESC_LOW, 0x1_0000);
        driver.write(reg::AVAIL_LOW, 0x1_8000);
        driver.write(reg::USED_LOW, 0x1_c000);
        driver.write(register, value);
        driver.write(reg::QUEUE_READY, 1);
        assert_eq!(driver.read(reg::QUEUE_READY), 0);
        assert!(driver.failed(), "register {register:#x} = {value:#x}");
        assert!(driver.transport.take_failure().is_some());
    }
}

#[test]
fn buffers_offered_before_driver_ok_are_not_lost() {
    let driver = Driver::new(device());
    let saved = driver.transport.save_transport();
    let early = crate::virtio::TransportState { status: NEGOTIATED, ..saved };
    let transport = Transport::restore(early, device(), &driver.mem).expect("a state a driver passes through");
    let mut driver = driver.with_transport(transport);
    let room = driver.room(8);
    driver.send(0, &[room]);
    assert_eq!(driver.used(0), None);
    driver.write(reg::STATUS, NEGOTIATED | status::DRIVER_OK);
    assert_eq!(driver.used(0).map(|used| used.1), Some(8));
}

#[test]
fn interrupts_are_raised_acknowledged_and_suppressed() {
    let mut driver = Driver::new(device());
    let room = driver.room(4);
    driver.send(0, &[room]);
    assert_eq!((driver.interrupts, driver.read(reg::INTERRUPT_STATUS)), (1, 1));
    assert!(driver.transport.interrupt_pending());
    driver.write(reg::INTERRUPT_ACK, 1);
    assert!(!driver.transport.interrupt_pending());
    // The driver has not taken the first buffer yet, so used_event asks for no further interrupt.
    driver.send(0, &[room]);
    assert_eq!((driver.interrupts, driver.read(reg::INTERRUPT_STATUS)), (1, 0));
    while driver.used(0).is_some() {}
    driver.send(0, &[room]);
    assert_eq!(driver.interrupts, 2);
}

#[test]
fn an_indirect_table_works() {
    let mut driver = Driver::new(device());
    let (first, second) = (driver.room(3), driver.room(5));
    let table = driver.alloc(32);
    driver.put_descriptor(table, 0, first, DESC_NEXT, 1);
    driver.put_descriptor(table, 1, second, 0, 0);
    let desc = driver.rings[0].desc;
    driver.put_descriptor(desc, 9, Piece { gpa: table, len: 32, write: false }, DESC_INDIRECT, 0);
    driver.offer_head(0, 9);
    driver.kick(0);
    assert_eq!(driver.used(0), Some((9, 8)));
    assert_eq!(driver.bytes(second.gpa, 5), [7; 5]);
}

/// Each of these is one way to break a ring; the device stops, says so, and works again after a reset.
#[test]
fn malformed_rings_need_a_reset() {
    type Break = fn(&mut Driver<Rng>);
    let breaks: [(&str, Break); 7] = [
        ("loop", |driver| {
            let piece = driver.room(4);
            driver.put_descriptor(driver.rings[0].desc, 0, piece, DESC_NEXT, 0);
            driver.offer_head(0, 0);
        }),
        ("next out of range", |driver| {
            let piece = driver.room(4);
            driver.put_descriptor(driver.rings[0].desc, 0, piece, DESC_NEXT, 64);
            driver.offer_head(0, 0);
        }),
        ("head out of range", |driver| driver.offer_head(0, 64)),
        ("indirect in indirect", |driver| {
            let table = driver.alloc(16);
            let piece = Piece { gpa: table, len: 16, write: false };
            driver.put_descriptor(table, 0, piece, DESC_INDIRECT, 0);
            driver.put_descriptor(driver.rings[0].desc, 0, piece, DESC_INDIRECT, 0);
            driver.offer_head(0, 0);
        }),
        ("readable after writable", |driver| {
            let (room, out) = (driver.room(4), driver.out(b"late"));
            driver.offer(0, &[room, out]);
        }),
        ("buffer outside memory", |driver| {
            driver.offer(0, &[Piece { gpa: 6 << 20, len: 8, write: true }]);
        }),
        ("index jumps", |driver| {
            (0..65).for_each(|_| driver.offer_head(0, 0));
        }),
    ];
    for (name, break_ring) in breaks {
        let mut driver = Driver::new(device());
        break_ring(&mut driver);
        driver.write(reg::QUEUE_NOTIFY, 0);
        assert!(driver.failed(), "{name}");
        assert_eq!(driver.read(reg::INTERRUPT_STATUS) & 2, 2, "{name}: a configuration interrupt says so");
        assert!(driver.transport.take_failure().is_some(), "{name}");
        driver.start();
        let room = driver.room(4);
        driver.send(0, &[room]);
        assert_eq!(driver.used(0).map(|used| used.1), Some(4), "{name}: works again");
    }
}

#[test]
fn registers_answer_only_aligned_words() {
    let mut driver = Driver::new(device());
    for len in [1, 2, 3, 8] {
        let mut bytes = vec![0xee; len];
        driver.transport.read(0, &mut bytes);
        assert_eq!(bytes, vec![0; len]);
    }
    let mut bytes = [0xee; 4];
    driver.transport.read(1, &mut bytes);
    assert_eq!(bytes, [0; 4]);
    let _ = driver.transport.write(reg::STATUS, &[0], &driver.mem);
    let _ = driver.transport.write(reg::STATUS + 2, &[0; 4], &driver.mem);
    assert!(driver.transport.is_running());
}

#[test]
fn a_restored_queue_goes_on_where_it_was() {
    let mut driver = Driver::new(device());
    let room = driver.room(4);
    for _ in 0..100 {
        driver.send(0, &[room]);
        assert!(driver.used(0).is_some());
    }
    driver.offer(0, &[room]);
    let state = driver.transport.save_transport();
    let transport = Transport::restore(state, device(), &driver.mem).expect("its own state is good");
    let mut driver = driver.with_transport(transport);
    driver.service();
    assert_eq!(driver.used(0).map(|used| used.1), Some(4));
    assert!(driver.transport.is_running());
}

#[test]
fn states_no_driver_can_reach_are_refused() {
    let driver = Driver::new(device());
    let good = driver.transport.save_transport();
    let refused = |change: &dyn Fn(&mut crate::virtio::TransportState)| {
        let mut state = good.clone();
        change(&mut state);
        Transport::restore(state, device(), &driver.mem).err()
    };
    assert!(refused(&|_| ()).is_none());
    assert!(matches!(
        refused(&|state| state.device_type = 2),
        Some(RestoreError::Field { field: "device_type", value: 2 })
    ));
    assert!(refused(&|state| state.status = status::DRIVER_OK).is_some());
    assert!(refused(&|state| state.driver_features = 0).is_some());
    assert!(refused(&|state| state.driver_features |= 1).is_some());
    assert!(refused(&|state| state.interrupt_status = 4).is_some());
    assert!(refused(&|state| state.queues.clear()).is_some());
    assert!(refused(&|state| state.queues[0].size = 65).is_some());
    assert!(refused(&|state| state.queues[0].used_ring = 4 << 20).is_some());
    assert!(refused(&|state| state.status = 0).is_some(), "a ready queue without negotiation");
}

#[test]
fn a_transport_saved_in_the_middle_of_negotiation_comes_back() {
    let mut driver = Driver::cold(device());
    driver.write(reg::STATUS, status::ACKNOWLEDGE);
    driver.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
    driver.write(reg::DRIVER_FEATURES, u32::MAX);
    let state = driver.transport.save_transport();
    let transport = Transport::restore(state.clone(), device(), &driver.mem).expect("its own state is good");
    assert_eq!(transport.save_transport(), state);
}

#[test]
fn a_chain_has_a_longest_length() {
    for (entries, fits) in [(1024u16, true), (1025, false)] {
        let mut driver = Driver::new(device());
        let room = driver.room(1);
        let table = driver.alloc(u32::from(entries) * 16);
        for index in 0..entries {
            let flags = if index + 1 == entries { 0 } else { DESC_NEXT };
            driver.put_descriptor(table, index, room, flags, index + 1);
        }
        let piece = Piece { gpa: table, len: u32::from(entries) * 16, write: false };
        driver.put_descriptor(driver.rings[0].desc, 0, piece, DESC_INDIRECT, 0);
        driver.offer_head(0, 0);
        driver.kick(0);
        assert_eq!(driver.used(0).is_some(), fits, "{entries}");
        assert_eq!(driver.failed(), !fits, "{entries}");
    }
}
