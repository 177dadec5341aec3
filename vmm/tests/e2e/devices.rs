//! Devices as the guest's own drivers find them.

use std::time::{SystemTime, UNIX_EPOCH};

use supermachine_agent_protocol::ExitStatus;
use supermachine_vmm_api::{Reply, Request};

use crate::harness::{Config, wait_for};

#[test]
fn freed_memory_goes_back_to_the_host() {
    let machine = Config::new().start();
    // The buffer is 64 MiB, touched once, and free again when dd ends; the guest reports it some seconds later.
    let filled = machine.exec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    assert_eq!(filled.status, ExitStatus::Exited(0));
    let mut client = machine.client();
    let mut reclaimed = || match client.request(&Request::Stats {}) {
        Ok(Reply::Stats(stats)) => stats.memory_reclaimed_bytes,
        other => panic!("{other:?}"),
    };
    wait_for(|| reclaimed() >= 48 << 20, "48 of 64 MiB to be reported");
}

#[test]
fn random_numbers_come_from_the_host() {
    let machine = Config::new().start();
    let read = || machine.exec(&["dd", "if=/dev/hwrng", "bs=32", "count=1"]);
    let (first, second) = (read(), read());
    assert_eq!((first.stdout.len(), second.stdout.len()), (32, 32), "{}", String::from_utf8_lossy(&first.stderr));
    assert_ne!(first.stdout, second.stdout);
}

#[test]
fn the_clock_is_the_hosts() {
    let machine = Config::new().start();
    let host = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let before = host();
    let guest: u64 = machine.exec(&["date", "+%s"]).text().parse().expect("seconds");
    let after = host();
    assert!((before.saturating_sub(2)..=after + 2).contains(&guest), "{guest} in the guest, {before} to {after} here");
}
