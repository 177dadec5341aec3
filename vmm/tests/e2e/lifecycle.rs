//! How machines end.

use std::process::Stdio;

use supermachine_vmm::ending::{STATUS_CPU_FAULT, STATUS_KILLED, STATUS_PANIC, STATUS_VANISHED};
use supermachine_vmm_api::{Reply, Request};

use crate::harness::{Config, finish};

fn ends(output: &std::process::Output, status: u8, word: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(status)), "{stderr}");
    assert!(stderr.contains(word), "{stderr}");
}

#[test]
fn a_shutdown_is_orderly_and_leaves_nothing() {
    let machine = Config::new().start();
    assert_eq!(machine.client().request(&Request::Shutdown {}).expect("a reply"), Reply::Ok {});
    let control = machine.config.control_path();
    let output = machine.finish();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!control.exists());
}

#[test]
fn kill_9_ends_the_machine_whatever_the_guest_does() {
    let machine = Config::new().start();
    machine.client().request(&Request::Pause {}).expect("a reply");
    machine.client().request(&Request::Kill { signal: 9 }).expect("a reply");
    ends(&machine.finish(), STATUS_KILLED, "");
}

#[test]
fn sigterm_reaches_the_main_process() {
    let config = Config::new();
    let mut child =
        config.spawn(&["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"], Stdio::null());
    let mut ready = [0u8; 6];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut ready).expect("output");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert_eq!(finish(child).status.code(), Some(9));
}

#[test]
fn what_the_main_process_wrote_is_on_its_disk_when_the_vmm_ends() {
    let config = Config::new();
    let image = config.dir().join("image");
    std::fs::write(&image, vec![0; 8 << 20]).expect("an image");
    let config = config.arg(&format!("--disk={}:rw", image.display()));
    // Nothing here waits for the disk: the bytes are in the guest's page cache when the process ends.
    let output = config.run(&["sh", "-c", "yes supermachine | dd of=/dev/vdb bs=4096 count=1000 2>/dev/null; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read(&image).expect("the image");
    let expected: Vec<u8> = b"supermachine\n".iter().copied().cycle().take(4_000_000).collect();
    assert!(written.starts_with(&expected));
}

#[test]
fn a_kernel_panic_is_named() {
    // Without an initramfs there is no init.
    let output = Config::bare().run(&["true"]);
    ends(&output, STATUS_PANIC, "the guest kernel panicked: ");
    assert!(String::from_utf8_lossy(&output.stderr).contains("console: "), "the last console lines");
}

#[test]
fn a_triple_fault_is_named() {
    let output = Config::bare().arg("--cmdline=reboot=t").run(&["true"]);
    ends(&output, STATUS_CPU_FAULT, "triple fault");
}

#[test]
fn a_vanished_agent_ends_the_machine() {
    let output = Config::new().run(&[
        "sh",
        "-c",
        "kill -9 $(grep -l supermachine-ag /proc/[0-9]*/comm | tr -dc '0-9\\n'); sleep 1000",
    ]);
    let status = output.status.code().and_then(|code| u8::try_from(code).ok());
    assert_eq!(status, Some(STATUS_VANISHED), "{}", String::from_utf8_lossy(&output.stderr));
}
