//! The test bed's own promises. `make testbed` runs them; each boots it once.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn run_script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testbed/run")
}

/// Runs `script` in the bed with `options`.
fn run(options: &[&str], script: &str) -> Output {
    Command::new(run_script()).args(options).args(["--", "sh", "-c", script]).output().unwrap()
}

#[test]
#[ignore = "boots the test bed"]
fn status_and_both_streams_come_out_whole() {
    let output = run(&[], "echo to-err >&2; head -c 3000000 /dev/zero; test -c /dev/kvm && exit 7");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout.len(), 3_000_000);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "to-err\n");
}

#[test]
#[ignore = "boots the test bed"]
fn only_writable_folders_keep_what_is_written() {
    let kept = tempfile::tempdir().unwrap();
    let lost = tempfile::tempdir().unwrap();
    let folder = kept.path().to_str().unwrap();
    let script = format!("set -e; echo new >{folder}/file; echo new >{}/file", lost.path().display());
    let output = run(&["--writable", folder], &script);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(kept.path().join("file")).unwrap(), "new\n");
    assert!(!lost.path().join("file").exists());
}

#[test]
#[ignore = "boots the test bed"]
fn disks_are_read_and_not_written() {
    let disks = [b"one", b"two"].map(|word| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), word.repeat(4096)).unwrap();
        file
    });
    let [one, two] = disks.each_ref().map(|disk| disk.path().to_str().unwrap());
    let script = "head -c 3 /dev/vda; tail -c 3 /dev/vdb; ! dd if=/dev/zero of=/dev/vda bs=512 count=1 2>/dev/null";
    let output = run(&["--disk", one, "--disk", two], script);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"onetwo"[..]), "{output:?}");
    assert!(fs::read(one).unwrap().starts_with(b"one"));
}

#[test]
#[ignore = "boots the test bed"]
fn a_kernel_that_dies_is_told_from_a_command_that_fails() {
    let output = run(&[], "echo c >/proc/sysrq-trigger");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(told.contains("sysrq triggered crash"), "{told}");
}

#[test]
#[ignore = "boots the test bed"]
fn a_hang_ends_at_the_timeout() {
    let output = run(&["--timeout", "4"], "sleep 1000");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{told}");
    assert!(told.contains("testbed: ended after 4 s"), "{told}");
}

#[test]
#[ignore = "boots the test bed"]
fn nothing_outlives_a_killed_run() {
    // Every process of the run inherits descriptor 7, so the pipe ends when the last of them is gone.
    let mut child = Command::new("bash")
        .args(["-c", "exec 7>&1; exec \"$0\" -- sh -c 'echo up; sleep 1000'"])
        .arg(run_script())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "up\n");
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
}
