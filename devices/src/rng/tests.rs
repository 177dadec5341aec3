use std::io;

use super::*;
use crate::fuzz;
use crate::virtio::testing::{COMMON_FEATURES, Driver};

/// Counts up, so that every byte given out can be told.
struct Counter(u8);

impl EntropySource for Counter {
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<()> {
        for byte in buf {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

struct Broken;

impl EntropySource for Broken {
    fn fill(&mut self, _buf: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Other.into())
    }
}

fn device() -> Rng {
    Rng::new(Box::new(Counter(0)))
}

#[test]
fn fills_buffers_up_to_the_limit() {
    let mut driver = Driver::new(device());
    assert_eq!(driver.features(), COMMON_FEATURES);
    let (small, large) = (driver.room(10), driver.room(10_000));
    driver.send(0, &[small]);
    driver.send(0, &[large]);
    assert_eq!(driver.used(0).map(|used| used.1), Some(10));
    assert_eq!(driver.used(0).map(|used| used.1), Some(4096));
    assert_eq!(driver.bytes(small.gpa, 10), (0..10).collect::<Vec<u8>>());
    assert_eq!(driver.bytes(large.gpa + 4096, 2), [0xaa, 0xaa], "nothing past the count");
    assert!(driver.interrupts >= 1);
}

#[test]
fn a_broken_source_stops_the_device_instead_of_giving_zeroes() {
    let mut driver = Driver::new(Rng::new(Box::new(Broken)));
    let room = driver.room(16);
    driver.send(0, &[room]);
    assert!(driver.failed());
    assert_eq!(driver.used(0), None);
}

#[test]
fn survives_a_hostile_guest() {
    fuzz::hostile_guest(device);
}

#[test]
fn survives_a_hostile_state() {
    fuzz::hostile_transport_state(device);
}
