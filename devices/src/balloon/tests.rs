use std::sync::{Arc, Mutex};

use super::*;
use crate::fuzz;
use crate::virtio::testing::{Driver, Piece, RAM, reg};
use crate::virtio::{MmioDevice, Transport};

/// Remembers what was given back and checks that it is whole pages of RAM.
#[derive(Clone, Default)]
struct Host(Arc<Mutex<Vec<(u64, u64)>>>);

impl MemoryReclaimer for Host {
    fn discard(&mut self, gpa: u64, len: u64) {
        assert!(len > 0 && gpa.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE), "{gpa:#x}+{len:#x}");
        let inside = RAM.iter().any(|(start, size)| gpa >= *start && gpa + len <= start + *size as u64);
        assert!(inside, "{gpa:#x}+{len:#x}");
        self.0.lock().expect("no test panics with the lock").push((gpa, len));
    }
}

impl Host {
    fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.0.lock().expect("no test panics with the lock"))
    }
}

fn pages(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn inflation_gives_back_runs_of_pages() {
    let host = Host::default();
    let mut driver = Driver::new(Balloon::new(Box::new(host.clone())));
    let request = driver.out(&pages(&[302, 300, 301, 2050, 300]));
    driver.send(spec::INFLATE, &[request]);
    assert!(driver.used(spec::INFLATE).is_some());
    assert_eq!(host.take(), [(300 << 12, 3 << 12), (2050 << 12, 1 << 12)]);
    let request = driver.out(&pages(&[300]));
    driver.send(spec::DEFLATE, &[request]);
    assert!(driver.used(spec::DEFLATE).is_some());
    assert!(host.take().is_empty());
}

#[test]
fn pages_outside_memory_are_left_alone() {
    let host = Host::default();
    let mut driver = Driver::new(Balloon::new(Box::new(host.clone())));
    // The first memory piece ends at page 1024, the second at 3072.
    let request = driver.out(&pages(&[1023, 1024, 3071, 3072, u32::MAX]));
    driver.send(spec::INFLATE, &[request]);
    assert!(host.take().is_empty(), "both runs reach out of memory");
    let request = driver.out(&pages(&[1023, 3071]));
    driver.send(spec::INFLATE, &[request]);
    assert_eq!(host.take(), [(1023 << 12, 1 << 12), (3071 << 12, 1 << 12)]);
    assert!(driver.transport.is_running());
}

#[test]
fn free_ranges_are_reported_and_trimmed_to_pages() {
    let host = Host::default();
    let mut driver = Driver::new(Balloon::new(Box::new(host.clone())));
    let range = |gpa, len| Piece { gpa, len, write: true };
    let ranges = [range(8 << 20, 4 << 20), range(0x20_0800, 0x2000), range(0x7_f000, 0x800), range(u64::MAX - 9, 64)];
    driver.send(spec::REPORTING, &ranges);
    assert_eq!(host.take(), [(8 << 20, 4 << 20), (0x20_1000, 0x1000)]);
    assert!(driver.used(spec::REPORTING).is_some());
}

#[test]
fn the_target_is_a_configuration_change() {
    let mut driver = Driver::new(Balloon::new(Box::new(Host::default())));
    driver.transport.device_mut().set_target_pages(77);
    driver.service();
    assert_eq!((driver.interrupts, driver.read(reg::INTERRUPT_STATUS)), (1, 2));
    assert_eq!(u32::from_le_bytes(driver.config(0)), 77);
    driver.write(reg::CONFIG + 4, 40);
    assert_eq!(driver.transport.device().actual_pages(), 40);
    driver.write(reg::CONFIG, 0);
    assert_eq!(u32::from_le_bytes(driver.config(0)), 77, "the guest cannot set the target");

    let state = driver.transport.device().save();
    let balloon = Balloon::restore(state.clone(), Box::new(Host::default()));
    let transport = driver.transport.save_transport();
    let transport = Transport::restore(transport, balloon, &driver.mem).expect("its own state is good");
    assert_eq!(transport.device().save(), state);
}

fn fuzzed() -> Balloon {
    Balloon::new(Box::new(Host::default()))
}

#[test]
fn survives_a_hostile_guest() {
    fuzz::hostile_guest(fuzzed);
}

#[test]
fn survives_a_hostile_state() {
    fuzz::hostile_transport_state(fuzzed);
}
