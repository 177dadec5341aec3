//! Nothing grows: descriptors, threads, processes, files.

use std::fs;

use supermachine_agent_protocol::ExitStatus;

use crate::harness::{Config, Machine, wait_for};

fn count(pid: u32, what: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{what}")).expect("/proc of the vmm").count()
}

fn guest_processes(machine: &Machine) -> usize {
    machine.exec(&["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).text().parse().expect("a number")
}

#[test]
fn two_hundred_execs_leave_nothing() {
    let machine = Config::new().start();
    let pid = machine.pid();
    let before = (count(pid, "fd"), guest_processes(&machine));
    for _ in 0..200 {
        assert_eq!(machine.exec(&["true"]).status, ExitStatus::Exited(0));
    }
    let after = guest_processes(&machine);
    assert!(after <= before.1 + 2, "{} processes in the guest, then {after}", before.1);
    wait_for(|| count(pid, "fd") <= before.0, "the vmm's descriptors to go back");
    wait_for(|| count(pid, "task") <= 12, "the vmm's threads to end");
}

#[test]
fn five_boots_leave_nothing() {
    let config = Config::new();
    let (own_fds, files) = (count(std::process::id(), "fd"), fs::read_dir(config.dir()).expect("a directory").count());
    for _ in 0..5 {
        assert_eq!(config.run(&["true"]).status.code(), Some(0));
    }
    assert_eq!(fs::read_dir(config.dir()).expect("a directory").count(), files);
    // Other tests of this process open and close descriptors meanwhile; a leak of these five boots would be at least ten.
    wait_for(|| count(std::process::id(), "fd") < own_fds + 300, "our descriptors to go back");
}
