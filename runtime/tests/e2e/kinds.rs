//! Containers of a kind: from the third on they start from a template that the second one made.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::console::{listen, read_until};
use crate::harness::{Place, text};
use crate::images::{Change, images, origin};

fn of_kind() -> Value {
    json!({"dev.supermachine.memory-mib": "256", "dev.supermachine.snapshot": "auto"})
}

/// Starts a container that nobody asked a template for; gives the template that its machine came from, and its output.
pub(crate) fn automatic(place: &Place, args: &[&str], change: Change<'_>) -> (Option<String>, String) {
    let bundle = place.bundle(args, |config| {
        config["annotations"] = of_kind();
        change(config);
    });
    let container = place.create_from("c", &bundle);
    let origin = origin(place, "c");
    place.good(&["start", "c"]);
    assert_eq!(container.wait(), 0, "{}", container.output());
    container.delete();
    (origin, container.output())
}

#[test]
fn the_second_of_a_kind_makes_a_template_and_the_third_starts_from_it() {
    let place = Place::alone();
    let run = |args: &[&str]| automatic(&place, args, &|_| ());
    assert_eq!((run(&["echo", "one"]).1.as_str(), images(&place).len()), ("one\n", 0));
    assert_eq!((run(&["echo", "two"]).1.as_str(), images(&place).len()), ("two\n", 1), "made on the way");
    let key = images(&place).pop_first();
    // Another program and environment are no other kind; another user is.
    let (from, said) = automatic(&place, &["sh", "-c", "echo $OWN; hostname"], &|config| {
        config["process"]["env"].as_array_mut().expect("an environment").push(json!("OWN=mine"));
        config["hostname"] = json!("other");
    });
    assert_eq!((from, said.as_str()), (key.clone(), "mine\nother\n"));
    let (from, _) = automatic(&place, &["true"], &|config| config["process"]["user"]["uid"] = json!(7));
    assert!(from.is_some() && from != key);
    assert_eq!(images(&place).len(), 1);
    // What cannot be run is told as by any other.
    for (args, word) in [(["nothing-like-it"], "executable file not found"), (["/etc/passwd"], "permission denied")] {
        let done = place.run(&args, |config| {
            config["annotations"] = of_kind();
        });
        assert!(done.status != 0 && done.stderr.contains(word), "{done:?}");
        assert!(!done.stderr.contains("template"), "{}", done.stderr);
    }
    place.assert_clean();
}

#[test]
fn a_kind_can_be_made_ahead() {
    let place = Place::alone();
    let hook = place.path("hook-ran");
    let bundle = place.bundle(&["echo", "made ahead"], |config| {
        config["annotations"] = of_kind();
        config["hooks"] = json!({"prestart": [{"path": "/bin/touch", "args": ["touch", hook]}]});
    });
    let said = place.good(&["templates", "bake", "--bundle", text(&bundle)]);
    let [base, key] = said.lines().collect::<Vec<_>>()[..] else { panic!("two keys expected: {said}") };
    assert_eq!(images(&place), BTreeSet::from([key.to_owned()]));
    assert!(!hook.exists(), "no hook is run for it");
    assert_eq!(place.good(&["templates", "bake", "--bundle", text(&bundle)]), format!("{base}\n"), "it is there");
    place.assert_clean();
    let (from, said) = automatic(&place, &["echo", "first"], &|_| ());
    assert_eq!((from.as_deref(), said.as_str()), (Some(key), "first\n"));
    place.assert_clean();
}

#[test]
fn environments_are_not_kept() {
    let place = Place::alone();
    let secret = format!("{}-{}", "aVeryLong", "secretWord");
    let with = |config: &mut Value| {
        config["process"]["env"].as_array_mut().expect("an environment").push(json!(format!("TOKEN={secret}")));
    };
    for _ in 0..3 {
        let (_, said) = automatic(&place, &["sh", "-c", "echo $TOKEN"], &with);
        assert_eq!(said, format!("{secret}\n"));
    }
    let key = images(&place).pop_first().expect("a template");
    let holds = |name: &str, word: &str| {
        let bytes = fs::read(place.path("data/templates").join(&key).join("snapshot").join(name)).expect("a file");
        bytes.windows(word.len()).any(|part| part == word.as_bytes())
    };
    assert!(holds("memory", "PATH=/usr/sbin"), "what it was built with is found");
    assert!(!holds("memory", &secret) && !holds("state", &secret));
    place.assert_clean();
}

#[test]
fn what_is_shared_with_the_host_comes_to_each_clone_by_itself() {
    let place = Place::alone();
    let script = "cat /etc/hosts /data/name; ls /new; mount | grep -c ' on /data '; touch /data/ro 2>/dev/null || echo read-only; \
                  echo own >/work/own; pwd; touch /root-is 2>/dev/null || echo sealed";
    let mut origins = Vec::new();
    for name in ["one", "two", "three"] {
        let dir = place.path(name);
        fs::create_dir_all(dir.join("work")).expect("a directory");
        fs::create_dir(dir.join("data")).expect("a directory");
        fs::write(dir.join("data/name"), format!("{name}\n")).expect("a file");
        fs::write(dir.join("hosts"), format!("127.0.0.1 {name}\n")).expect("a file");
        let mount = |source: &str, destination: &str, option: &str| json!({"destination": destination, "type": "bind", "source": dir.join(source), "options": ["rbind", option]});
        let (from, said) = automatic(&place, &["sh", "-c", script], &|config| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.push(mount("hosts", "/etc/hosts", "rw"));
            mounts.push(mount("data", "/data", "ro"));
            mounts.push(mount("data", "/new/below/it", "rw"));
            mounts.push(mount("work", "/work", "rw"));
            config["process"]["cwd"] = json!("/work/deep");
            config["root"]["readonly"] = json!(true);
        });
        assert_eq!(said, format!("127.0.0.1 {name}\n{name}\nbelow\n1\nread-only\n/work/deep\nsealed\n"));
        assert_eq!(fs::read_to_string(dir.join("work/own")).expect("written by the container"), "own\n");
        assert!(dir.join("work/deep").is_dir(), "made where it is shared");
        origins.push(from);
    }
    assert_eq!(images(&place).len(), 1);
    assert_eq!(origins[2], images(&place).pop_first(), "with shares of its own");
    assert_ne!(origins[1], origins[2]);
    // A template with nothing shared, of which this is another kind in no way.
    let (from, _) = automatic(&place, &["true"], &|config| {
        config["process"]["cwd"] = json!("/work/deep");
        config["root"]["readonly"] = json!(true);
    });
    assert_eq!(from, origins[2]);
    place.assert_clean();
}

#[test]
fn a_program_may_be_the_hosts() {
    let place = Place::alone();
    let dir = place.path("app");
    fs::create_dir(&dir).expect("a directory");
    fs::copy("/bin/busybox", dir.join("echo")).expect("busybox-static is installed (make setup)");
    let mut origins = Vec::new();
    for args in [["/app/echo", "one"], ["echo", "two"], ["./echo", "three"]] {
        let (from, said) = automatic(&place, &args, &|config| {
            let mount = json!({"destination": "/app", "type": "bind", "source": dir, "options": ["rbind", "ro"]});
            config["mounts"].as_array_mut().expect("mounts").push(mount);
            config["process"]["cwd"] = json!("/app");
            config["process"]["env"] = json!(["PATH=/app"]);
        });
        assert_eq!(said, format!("{}\n", args[1]));
        origins.push(from);
    }
    assert!(images(&place).len() == 1 && origins[2] == images(&place).pop_first(), "{origins:?}");
    place.assert_clean();
}

#[test]
fn one_with_a_terminal_is_a_clone_too() {
    let place = Place::alone();
    let bundle = place.bundle(&["sh", "-c", "stty size; tty; echo $OWN; exit 3"], |config| {
        config["annotations"] = of_kind();
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"height": 31, "width": 77});
        config["process"]["env"].as_array_mut().expect("an environment").push(json!("OWN=mine"));
    });
    for id in ["one", "two", "three"] {
        let socket = place.path(&format!("{id}.sock"));
        let master = listen(&socket);
        place.leave(&["create", "-b", text(&bundle), "--console-socket", text(&socket), id]);
        let mut master = master.join().expect("a terminal");
        assert_eq!(origin(&place, id) == images(&place).pop_first(), id == "three");
        place.good(&["start", id]);
        assert_eq!(read_until(&mut master, "mine\r\n"), "31 77\r\n/dev/pts/0\r\nmine\r\n", "{id}");
        place.good(&["delete", "--force", id]);
    }
    assert_eq!(images(&place).len(), 1);
    place.assert_clean();
}
