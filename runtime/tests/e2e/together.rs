//! Several verbs at the same time.

use std::process::{Child, Stdio};

use crate::harness::{Place, text};

fn at_once(place: &Place, count: usize, args: &[&str]) -> Vec<(Option<i32>, String)> {
    let start = |_| place.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let children: Vec<Child> = (0..count).map(start).collect();
    let end = |child: Child| {
        let output = child.wait_with_output().expect("ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    children.into_iter().map(end).collect()
}

fn good(results: &[(Option<i32>, String)]) -> usize {
    results.iter().filter(|(status, _)| *status == Some(0)).count()
}

#[test]
fn of_each_change_one_wins_and_the_others_are_told() {
    let place = Place::new();
    let container = place.create("c", &["sleep", "1000"]);
    let starts = at_once(&place, 4, &["start", "c"]);
    assert_eq!(good(&starts), 1, "{starts:?}");
    assert!(starts.iter().all(|(status, error)| *status == Some(0) || error.contains("already running")), "{starts:?}");
    let states = at_once(&place, 6, &["state", "c"]);
    assert_eq!(good(&states), 6, "{states:?}");
    let updates = at_once(&place, 4, &["update", "--pids-limit", "30", "c"]);
    assert_eq!(good(&updates), 4, "{updates:?}");
    let execs = at_once(&place, 6, &["exec", "c", "true"]);
    assert_eq!(good(&execs), 6, "{execs:?}");
    let kills = at_once(&place, 4, &["kill", "c", "9"]);
    assert!(good(&kills) >= 1, "{kills:?}");
    assert_eq!(container.wait(), 137);
    let deletes = at_once(&place, 4, &["delete", "c"]);
    assert_eq!(good(&deletes), 1, "{deletes:?}");
    assert!(
        deletes.iter().all(|(status, error)| *status == Some(0) || error.contains("does not exist")),
        "{deletes:?}"
    );
    place.assert_clean();
}

#[test]
fn a_container_can_be_deleted_while_it_is_created() {
    let place = Place::new();
    let bundle = place.bundle(&["sleep", "1000"], |_| ());
    for pause_ms in [0, 50, 150, 400] {
        let mut create = place.command(&["create", "-b", text(&bundle), "c"]);
        let mut create = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        let deletes = at_once(&place, 3, &["delete", "--force", "c"]);
        assert_eq!(good(&deletes), 3, "{deletes:?}");
        create.wait().expect("ends");
        place.good(&["delete", "--force", "c"]);
        place.assert_clean();
    }
}
