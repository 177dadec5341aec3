//! Every byte arrives.

use std::fs;

use crate::harness::{Place, noise, text, wait_pid, with_input};

#[test]
fn twenty_mib_go_through_the_container_unharmed() {
    let place = Place::new();
    let bundle = place.bundle(&["cat"], |_| ());
    let input = noise(20 << 20);
    let output = with_input(place.command(&["run", "-b", text(&bundle), "c"]), input.clone());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == input, "{} of {} bytes came", output.stdout.len(), input.len());
    place.assert_clean();
}

#[test]
fn a_burst_right_before_the_end_arrives_though_it_is_deleted_at_once() {
    let place = Place::new();
    let container =
        place.create("burst", &["sh", "-c", "dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' x; exit 5"]);
    place.good(&["start", "burst"]);
    assert_eq!(container.wait(), 5);
    container.delete();
    let output = container.output();
    assert_eq!(output.len(), 8 << 20);
    assert!(output.bytes().all(|byte| byte == b'x'));
    place.assert_clean();
}

#[test]
fn an_exec_s_streams_are_as_whole_as_the_container_s() {
    let place = Place::new();
    let container = place.start("c", &["sleep", "1000"]);
    let input = noise(4 << 20);
    let output = with_input(place.command(&["exec", "c", "cat"]), input.clone());
    assert!(output.status.success() && output.stdout == input, "{} bytes came", output.stdout.len());
    let (file, pid_file) = (place.path("burst"), place.path("pid"));
    let script = "dd if=/dev/zero bs=1M count=4 2>/dev/null; exit 8";
    let mut command = place.command(&["exec", "-d", "--pid-file", text(&pid_file), "c", "sh", "-c", script]);
    assert!(command.stdout(fs::File::create(&file).expect("a file")).status().expect("runs").success());
    let pid = fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    assert_eq!(wait_pid(pid), 8);
    assert_eq!(fs::metadata(&file).expect("a file").len(), 4 << 20);
    place.good(&["delete", "--force", "c"]);
    container.wait();
    place.assert_clean();
}
