//! The main process: its output and status are the vmm's.

use crate::harness::Config;

const SCRIPT: &str = "echo out; echo err >&2; exit 7";

fn runs_at(vcpus: u32) {
    let output = Config::new().arg(&format!("--vcpus={vcpus}")).run(&["sh", "-c", SCRIPT]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The choice of the back end may have said its line before.
    let own: Vec<_> = stderr.lines().filter(|line| !line.starts_with("supermachine-vmm: warn:")).collect();
    assert_eq!(own, ["err"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(output.status.code(), Some(7));
}

pub(crate) fn max_vcpus() -> u32 {
    let hypervisor = supermachine_vmm::choose::open(choice(), None).expect("a hypervisor");
    hypervisor.capabilities().max_vcpus
}

fn choice() -> supermachine_vmm::choose::Choice {
    let name = std::env::var(supermachine_vmm::choose::ENVIRONMENT).unwrap_or_else(|_| "auto".to_owned());
    name.parse().expect("a back end's name")
}

#[test]
fn output_and_status_with_1_vcpu() {
    runs_at(1);
}

/// Runs at `vcpus`, unless the back end cannot have so many.
fn runs_if_possible(vcpus: u32) {
    let most = max_vcpus();
    if most < vcpus {
        eprintln!("skipped: this back end has at most {most} vCPUs; `make testbed` runs this test on KVM");
        return;
    }
    runs_at(vcpus);
    let output = Config::new().arg(&format!("--vcpus={vcpus}")).run(&["nproc"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{vcpus}\n"));
}

#[test]
fn output_and_status_with_2_vcpus() {
    runs_if_possible(2);
}

#[test]
fn output_and_status_with_4_vcpus() {
    runs_if_possible(4);
}

#[test]
fn output_and_status_with_16_vcpus() {
    runs_if_possible(16);
}

#[test]
fn the_soft_cpu_models_differ_in_what_they_have() {
    for (model, has) in [("soft-v1", "0"), ("soft-v2", "1")] {
        let config = Config::new().arg("--hypervisor=soft").arg(&format!("--cpu-model={model}"));
        let output = config.run(&["sh", "-c", "grep -c sse4_2 /proc/cpuinfo"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), has, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_bzimage_boots_too() {
    let mut config = Config::new();
    let bzimage = crate::harness::kernel().with_file_name("bzImage");
    config.args[0] = format!("--kernel={}", bzimage.display());
    assert_eq!(config.run(&["sh", "-c", "exit 3"]).status.code(), Some(3));
}

#[test]
fn programs_that_do_not_start_have_the_shells_statuses() {
    for (argv, status, word) in [("/no/such", 127, "no/such"), ("/etc/not-executable", 126, "not-executable")] {
        let output = Config::new().run(&[argv]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn a_signal_counts_128() {
    assert_eq!(Config::new().run(&["sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
}

/// On soft an idle guest's decoded code is given back after two seconds; what runs afterwards is decoded again.
#[test]
fn work_after_a_rest_is_done_as_before() {
    let script = "for n in 1 2 3; do sha256sum /bin/busybox; sleep 3; done";
    let output = Config::new().run(&["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| *line == lines[0]), "{text}");
}
