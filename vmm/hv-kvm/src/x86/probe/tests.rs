//! The probe's words, without a device, and its verdict on whatever this host has.

use super::*;

#[test]
fn group_is_found_by_number() {
    let groups = "root:x:0:\nkvm:x:104:alice\nusers:x:100:\n";
    assert_eq!(group_name(groups, 104).as_deref(), Some("kvm"));
    assert_eq!(group_name(groups, 4), None);
    assert_eq!(group_name("broken\n::\n", 0), None);
}

#[test]
fn missing_device_says_what_to_do() {
    let reason = cannot_open(io::ErrorKind::NotFound.into());
    assert!(reason.contains("there is no /dev/kvm") && reason.contains("kvm_amd"), "{reason}");
    assert!(!reason.contains('\n'));
}

#[test]
fn denied_device_names_the_group() {
    let reason = cannot_open(io::ErrorKind::PermissionDenied.into());
    assert!(reason.contains("group"), "{reason}");
}

#[test]
fn emulation_is_named_with_its_speed() {
    let reason = too_slow(Duration::from_millis(20));
    assert!(reason.contains("1.0 M instructions/s"), "{reason}");
}

#[test]
fn a_thread_that_never_answers_is_given_up() {
    let times = (0..5).map(|_| {
        let (sender, reports) = channel();
        let start = Instant::now();
        let result = wait(&reports, start, LIMIT);
        drop(sender);
        assert!(matches!(result, Err(HvError::Unavailable { .. })));
        start.elapsed()
    });
    // One of five, for a busy machine adds its own.
    let mut all = Vec::new();
    let in_time = times.inspect(|time| all.push(*time)).any(|time| time < Duration::from_millis(300));
    assert!(in_time, "{all:?}");
}

#[test]
fn a_guest_at_the_deadline_is_kicked() {
    struct Flag(Sender<Report>);
    impl Kick for Flag {
        fn kick(&self) {
            let _ = self.0.send(Report::Done(Ok(Duration::from_millis(7))));
        }
    }
    let (sender, reports) = channel();
    sender.send(Report::Started(Arc::new(Flag(sender.clone())))).unwrap();
    let result = wait(&reports, Instant::now(), Duration::from_millis(50)).unwrap().unwrap();
    assert_eq!(result, Duration::from_millis(7));
}
