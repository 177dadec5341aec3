//! What users get wrong is named, with status 1 (2 for a command line that does not parse).

use crate::harness::{Config, kernel};
use std::fs;

fn refused(args: &[&str], word: &str) {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let mut config = Config::bare();
    config.args = args.iter().map(|arg| arg.replace("DIR", &dir.path().display().to_string())).collect();
    fs::write(dir.path().join("text"), "no kernel\n").expect("file");
    fs::write(dir.path().join("odd"), [0; 700]).expect("file");
    fs::write(dir.path().join("empty"), []).expect("file");
    let mut arm = vec![0u8; 4096];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    fs::write(dir.path().join("arm"), arm).expect("file");
    let output = config.run(&["true"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(word), "{args:?} gave {stderr}");
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {}", output.status);
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn each_mistake_is_named() {
    let kernel = format!("--kernel={}", kernel().display());
    let kernel = kernel.as_str();
    let long = format!("--control=/tmp/{}", "x".repeat(120));
    refused(&["--kernel=/no/such"], "kernel /no/such: No such file");
    refused(&["--kernel=DIR"], "kernel ");
    refused(&["--kernel=DIR/text"], "neither a vmlinux (ELF) nor a bzImage");
    refused(&["--kernel=DIR/arm"], "built for arm64");
    refused(&[kernel, "--initramfs=/no/such"], "initramfs /no/such: No such file");
    refused(&[kernel, "--disk=/no/such"], "disk /no/such: No such file");
    refused(&[kernel, "--disk=DIR"], "not a regular file");
    refused(&[kernel, "--disk=DIR/odd"], "700 bytes is not a positive multiple of 512");
    refused(&[kernel, "--disk=DIR/empty"], "0 bytes is not a positive multiple of 512");
    refused(&[kernel, "--memory=8M"], "memory: 8 MiB is too small");
    refused(&[kernel, "--memory=100000001"], "not a multiple of the page size");
    refused(&[kernel, "--memory=lots"], "is not a size");
    refused(&[kernel, "--vcpus=17"], "vcpus: 17 is not possible, a machine has 1 to 16 vCPUs");
    refused(&[kernel, "--vcpus=0"], "vcpus: 0");
    refused(&[kernel, &long], "a socket's path can have at most 102");
    refused(&[kernel, "--control=/no/such/dir/c.sock"], "control socket /no/such/dir/c.sock");
    refused(&[kernel, "--hypervisor=xen"], "use auto, kvm, hvf or soft");
    refused(&[kernel, "--hypervisor=hvf"], "hypervisor hvf is not usable here");
    refused(&[kernel, "--hypervisor=soft", "--cpu-model=z80"], "it has no CPU model \"z80\"");
    refused(&[kernel, "--root-disk=3"], "root-disk: there is no disk 3");
    refused(&[kernel, "--no-such-option"], "--no-such-option");
    refused(&[], "--kernel");
}
