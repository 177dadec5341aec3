//! Containers that start from a template with such a container in it: built, or serving already.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Container, Place, text, wait_for, with_input};

/// A service that says when it began, in its output and in a file.
const SERVE: &str = "echo begin; cat /proc/uptime >/tmp/begun; exec httpd -f -p 8080 -h /";
/// What is done to a configuration.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Value);
/// Clones of one template unless the environment says another number.
const CLONES: usize = 6;
/// Clones that are made at the same time.
const AT_ONCE: usize = 8;

fn from(point: &str) -> impl Fn(&mut Value) + '_ {
    move |config| {
        config["annotations"] = json!({"dev.supermachine.memory-mib": "256", "dev.supermachine.snapshot": point});
    }
}

fn service(place: &Place) -> PathBuf {
    place.bundle(&["sh", "-c", SERVE], from("listener"))
}

/// All templates of a kind.
fn kept(place: &Place, kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(&place.good(&["templates", "list", "--format=json"])).expect("JSON");
    all.into_iter().filter(|template| template["kind"] == kind).collect()
}

pub(crate) fn images(place: &Place) -> BTreeSet<String> {
    let key = |template: Value| template["key"].as_str().expect("a key").to_owned();
    kept(place, "image").into_iter().map(key).collect()
}

/// Key of the template that a container's machine came from.
pub(crate) fn origin(place: &Place, id: &str) -> Option<String> {
    let record = fs::read(place.path("root").join(id).join("state.json")).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    record["template"].as_str().map(str::to_owned)
}

/// What the vmm of a container wrote into its log.
fn machine_log(place: &Place, id: &str) -> String {
    fs::read_to_string(place.path("root").join(id).join("vmm.log")).unwrap_or_default()
}

fn ask(container: &Container<'_>) -> String {
    let done = container.exec(&["wget", "-qO-", "http://127.0.0.1:8080/etc/data"]);
    assert_eq!(done.status, 0, "{}: {}", container.id, done.stderr);
    done.stdout
}

fn end(place: &Place, container: &Container<'_>) {
    place.good(&["delete", "--force", &container.id]);
    container.wait();
}

/// Starts the first container of a bundle and waits for its template; gives the key.
fn bake(place: &Place, bundle: &Path) -> String {
    let before = images(place);
    let first = place.create_from("first", bundle);
    place.good(&["start", "first"]);
    wait_for(|| images(place).len() > before.len(), "an image template");
    assert_eq!(ask(&first), "data\n", "the one that was saved goes on");
    assert_eq!(first.output(), "begin\n");
    end(place, &first);
    let new: Vec<_> = images(place).difference(&before).cloned().collect();
    let [key] = &new[..] else { panic!("one new template expected: {new:?}") };
    key.clone()
}

#[test]
fn a_service_starts_serving() {
    let place = Place::alone();
    let bundle = service(&place);
    let key = bake(&place, &bundle);
    let base = kept(&place, "base").remove(0);
    assert_eq!(kept(&place, "image")[0]["base"], base["id"]);
    let table = place.good(&["templates", "list"]);
    let line = table.lines().find(|line| line.starts_with(&key[..12])).expect("a line");
    assert!(line.contains(&base["key"].as_str().expect("a key")[..12]) && line.contains("point=listener"), "{table}");
    let [one, two] = ["one", "two"].map(|id| place.create_from(id, &service(&place)));
    assert_eq!([origin(&place, "one"), origin(&place, "two")], [Some(key.clone()), Some(key.clone())]);
    assert_eq!(place.status("one"), "created");
    let begun = [&one, &two].map(|container| {
        place.good(&["start", &container.id]);
        assert_eq!(ask(container), "data\n", "at once");
        assert_eq!(place.status(&container.id), "running");
        container.exec(&["cat", "/tmp/begun"]).stdout
    });
    assert!(!begun[0].is_empty() && begun[0] == begun[1], "its process was not started anew");
    assert_eq!((one.output(), two.output()), (String::new(), String::new()), "that was said before");
    assert_eq!(one.exec(&["sh", "-c", "echo own >/etc/data; echo own >/tmp/new"]).status, 0);
    assert_eq!((ask(&one).as_str(), ask(&two).as_str()), ("own\n", "data\n"));
    assert_ne!(two.exec(&["cat", "/tmp/new"]).status, 0);
    // Neither goes while one of them is there.
    let pruned = place.good(&["templates", "prune"]);
    assert_eq!(pruned.matches(": kept, ").count(), 2, "{pruned}");
    assert_eq!(place.good(&["templates", "verify"]).matches(": whole\n").count(), 2);
    place.good(&["kill", "one", "KILL"]);
    assert_eq!(one.wait(), 137);
    one.delete();
    end(&place, &two);
    assert_eq!(place.good(&["templates", "prune"]).matches(": removed, ").count(), 2);
    place.assert_clean();
}

#[test]
fn clones_share_no_identity() {
    let count = std::env::var("SUPERMACHINE_CLONES").ok().and_then(|text| text.parse().ok()).unwrap_or(CLONES);
    let place = Place::alone();
    bake(&place, &service(&place));
    let named = |name: &str| {
        place.bundle(&["sh", "-c", SERVE], |config| {
            from("listener")(config);
            config["hostname"] = json!(name);
        })
    };
    let bundles: Vec<_> = (0..count).map(|number| (format!("c{number}"), named(&format!("host{number}")))).collect();
    let mut clones = Vec::new();
    for some in bundles.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let make = |(id, bundle)| {
                let clone = place.create_from(id, bundle);
                place.good(&["start", id]);
                clone
            };
            let threads: Vec<_> =
                some.iter().map(|(id, bundle)| scope.spawn(move || make((id.as_str(), bundle.as_path())))).collect();
            clones.extend(threads.into_iter().map(|thread| thread.join().expect("a clone")));
        });
    }
    let image = images(&place).pop_first();
    let script = "cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | md5sum; hostname; date +%s; \
                  wget -qO- http://127.0.0.1:8080/etc/data";
    let (mut boots, mut randoms) = (BTreeSet::new(), BTreeSet::new());
    for (number, clone) in clones.iter().enumerate() {
        assert_eq!(origin(&place, &clone.id), image, "all are clones");
        let before = SystemTime::now();
        let done = clone.exec(&["sh", "-c", script]);
        let lines: Vec<_> = done.stdout.lines().map(str::to_owned).collect();
        let [boot, random, host, date, answer] = &lines[..] else { panic!("{done:?}") };
        assert_eq!((host.as_str(), answer.as_str()), (format!("host{number}").as_str(), "data"));
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let date: u64 = date.parse().expect("a number");
        assert!((seconds(before)..=seconds(SystemTime::now())).contains(&date), "{date}");
        boots.insert(boot.clone());
        randoms.insert(random.clone());
    }
    assert_eq!((boots.len(), randoms.len()), (count, count));
    for clone in &clones {
        end(&place, clone);
    }
    place.assert_clean();
}

#[test]
fn a_built_container_is_entered_by_each_clone() {
    let place = Place::alone();
    let script = "hostname; cat; ls /tmp; echo >/tmp/own; exit 5";
    let bundle = |name: &str| {
        place.bundle(&["sh", "-c", script], |config| {
            from("pre-exec")(config);
            config["hostname"] = json!(name);
        })
    };
    let mut keys = BTreeSet::new();
    for name in ["one", "two", "three"] {
        // Three times the same, and the first one is baked.
        let command = place.command(&["run", "--bundle", text(&bundle(name)), name]);
        let output = with_input(command, format!("for {name}\n").into_bytes());
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{name}\nfor {name}\n"));
        keys.extend(images(&place));
        assert_eq!(keys.len(), 1, "made before its create ended, and used");
    }
    let container = place.create_from("c", &bundle("c"));
    // Without input it is another kind: this one reads nothing.
    wait_for(|| images(&place).len() == 2, "a template of the other kind");
    place.good(&["delete", "--force", "c"]);
    container.wait();
    let clone = place.create_from("c", &bundle("c"));
    assert!(origin(&place, "c").is_some_and(|key| images(&place).contains(&key) && !keys.contains(&key)));
    assert_eq!(place.status("c"), "created");
    place.good(&["start", "c"]);
    assert_eq!((clone.wait(), clone.output().as_str()), (5, "c\n"));
    clone.delete();
    let killed = place.create_from("c", &bundle("c"));
    place.good(&["kill", "c", "TERM"]);
    assert_eq!(killed.wait(), 143);
    killed.delete();
    place.assert_clean();
}

/// The word in the environment is for containers without an annotation of their own; one that is no word is told of.
#[test]
fn a_host_may_choose_for_all_its_containers() {
    let place = Place::alone();
    let run = |word: &str, change: Change<'_>| {
        let bundle = place.bundle(&["echo", "fine"], |config| {
            config["annotations"] = json!({"dev.supermachine.memory-mib": "256"});
            change(config);
        });
        let log = place.path("log");
        let mut command = place.command(&["--log", text(&log), "run", "--bundle", text(&bundle), "c"]);
        command.env("SUPERMACHINE_SNAPSHOT", word);
        let output = with_input(command, Vec::new());
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"fine\n".as_slice()), "{output:?}");
        let said = fs::read_to_string(&log).expect("a log");
        fs::remove_file(&log).expect("a file");
        (images(&place).len(), said)
    };
    let (made, said) = run("sometimes", &|_| ());
    assert!(made == 0 && said.contains("is none of auto, base, pre-exec, listener and off; auto is meant"), "{said}");
    assert_eq!(run("pre-exec", &from("base")).0, 0, "the annotation counts");
    assert_eq!(run("pre-exec", &|_| ()).0, 1);
    let hook = |config: &mut Value| config["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]});
    let (made, said) = run("pre-exec", &hook);
    assert_eq!((made, said.contains("starts from the base")), (1, false), "those that cannot are no news: {said}");
    place.assert_clean();
}

#[test]
fn without_snapshots_the_machine_boots() {
    let place = Place::alone();
    let container = place.create_with("c", &["sleep", "1000"], from("off"));
    assert_eq!((origin(&place, "c"), kept(&place, "base").len()), (None, 0));
    end(&place, &container);
    place.assert_clean();
}

#[test]
fn what_cannot_be_in_a_template_starts_from_the_base() {
    let place = Place::alone();
    let dir = place.path("dir");
    fs::create_dir(&dir).expect("a directory");
    let log = place.path("log");
    let run = |change: Change<'_>| {
        let bundle = place.bundle(&["echo", "fine"], |config| {
            from("pre-exec")(config);
            change(config);
        });
        let done = place.call(&["--log", text(&log), "run", "--bundle", text(&bundle), "c"]);
        assert_eq!((done.status, done.stdout.as_str()), (0, "fine\n"), "{}", done.stderr);
        let said = fs::read_to_string(&log).expect("a log");
        fs::remove_file(&log).expect("a file");
        said
    };
    let hook = json!({"startContainer": [{"path": "/bin/true"}]});
    let mount = |config: &mut Value, kind: &str, source: &Path| {
        let options = if kind == "bind" { json!(["rbind", "rw"]) } else { json!(["rw"]) };
        let mount = json!({"destination": "/m", "type": kind, "source": source, "options": options});
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    };
    let cases: [(Change<'_>, &str); 5] = [
        (
            &|config| {
                from("listener")(config);
                mount(config, "bind", &dir);
            },
            "directories or files of the host are mounted in it",
        ),
        (
            &|config| {
                mount(config, "bind", &dir);
                let hidden = json!({"destination": "/m/own", "type": "tmpfs", "source": "tmpfs"});
                config["mounts"].as_array_mut().expect("mounts").push(hidden);
            },
            "other things elsewhere than in /dev, /proc and /sys",
        ),
        (&|config| mount(config, "ext4", &place.path("volume")), "it has volumes"),
        (&|config| config["annotations"]["dev.supermachine.root.disk-mib"] = json!("64"), "goes to a disk"),
        (&|config| config["hooks"] = hook.clone(), "it has hooks that run in its machine"),
    ];
    for (change, reason) in cases {
        let said = run(change);
        let lines: Vec<_> = said.lines().filter(|line| line.contains("starts from the base template")).collect();
        assert!(lines.len() == 1 && lines[0].contains(reason), "{said}");
        assert_eq!(images(&place).len(), 0);
    }
    assert!(!run(&|_| ()).contains("starts from the base template"));
    assert_eq!(images(&place).len(), 1);
    place.assert_clean();
}

#[test]
fn another_environment_is_another_kind() {
    let place = Place::alone();
    let bundle = |value: &str| {
        place.bundle(&["sh", "-c", "echo begin; exec httpd -f -p 8080 -h /"], |config| {
            from("listener")(config);
            config["process"]["env"].as_array_mut().expect("an environment").push(json!(format!("MODE={value}")));
        })
    };
    let keys = ["a", "b"].map(|value| bake(&place, &bundle(value)));
    assert_ne!(keys[0], keys[1]);
    let clone = place.create_from("c", &bundle("b"));
    assert_eq!(origin(&place, "c").as_deref(), Some(keys[1].as_str()));
    place.good(&["start", "c"]);
    let environment = clone.exec(&["cat", "/proc/1/environ"]).stdout;
    assert!(environment.contains("MODE=b"), "{environment}");
    end(&place, &clone);
    place.assert_clean();
}

#[test]
fn a_damaged_one_is_told_of_and_made_anew() {
    let place = Place::alone();
    let bundle = service(&place);
    let key = bake(&place, &bundle);
    let file = |key: &str, name: &str| place.path("data/templates").join(key).join("snapshot").join(name);
    let flip = |path: PathBuf, at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 1], at).expect("a byte");
    };
    let cut = || {
        let file = OpenOptions::new().write(true).open(file(&key, "memory")).expect("a file");
        file.set_len(file.metadata().expect("a file").len() / 2).expect("shorter");
    };
    let damages: [&dyn Fn(); 3] = [&|| flip(file(&key, "state"), 9000), &|| flip(file(&key, "memory"), 17 << 20), &cut];
    let log = place.path("log");
    for damage in damages {
        damage();
        let mut create = place.command(&["--log", text(&log), "create", "--bundle", text(&bundle), "c"]);
        let created = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(created.expect("runs").success());
        let said = fs::read_to_string(&log).expect("a log");
        assert_eq!(said.matches("is not usable and is made anew: ").count(), 1, "{said}");
        fs::remove_file(&log).expect("a file");
        assert_ne!(origin(&place, "c").as_deref(), Some(key.as_str()));
        place.good(&["start", "c"]);
        wait_for(|| images(&place).contains(&key), "the template, made anew");
        place.good(&["delete", "--force", "c"]);
        assert!(place.good(&["templates", "verify", &key]).ends_with(": whole\n"));
    }
    // With another base it lies on none any more, and goes.
    let base = kept(&place, "base").remove(0);
    fs::write(file(base["key"].as_str().expect("a key"), "state"), "nonsense").expect("a file");
    let first = place.create_from("c", &bundle);
    assert_eq!(origin(&place, "c").as_deref(), base["key"].as_str());
    assert!(!images(&place).contains(&key));
    end(&place, &first);
    place.assert_clean();
}

#[test]
fn one_that_ends_or_was_changed_before_it_listens_makes_no_template() {
    let place = Place::alone();
    let done = place.run(&["sh", "-c", "exit 3"], from("listener"));
    assert_eq!(done.status, 3, "{}", done.stderr);
    let script = "while ! test -e /tmp/go; do sleep 0.01; done; httpd -f -p 8080 -h /";
    let container = place.create_with("c", &["sh", "-c", script], from("listener"));
    place.good(&["start", "c"]);
    assert_eq!(container.exec(&["touch", "/tmp/go"]).status, 0);
    wait_for(|| machine_log(&place, "c").contains("no template is made of this container: "), "a line in the log");
    assert!(
        machine_log(&place, "c").contains("processes, signals or limits came to it"),
        "{}",
        machine_log(&place, "c")
    );
    assert_eq!(ask(&container), "data\n");
    end(&place, &container);
    let script = "read line; echo got-$line; httpd -f -p 8080 -h /";
    let bundle = place.bundle(&["sh", "-c", script], from("listener"));
    let mut run = place.command(&["run", "--bundle", text(&bundle), "c"]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, b"word\n").expect("writes");
    wait_for(|| machine_log(&place, "c").contains("it was given input"), "a line in the log");
    place.good(&["kill", "c", "KILL"]);
    assert_eq!(child.wait().expect("ends").code(), Some(137));
    assert_eq!(images(&place).len(), 0);
    place.assert_clean();
}

#[test]
fn a_save_that_fails_leaves_the_container_serving() {
    let place = Place::alone();
    let container = place.create_from("c", &service(&place));
    // With a file in the store's place no template can be made.
    let (store, away) = (place.path("data/templates"), place.path("data/away"));
    fs::rename(&store, &away).expect("moves");
    fs::write(&store, "").expect("writes");
    place.good(&["start", "c"]);
    wait_for(|| machine_log(&place, "c").contains("no template is made of this container: "), "a line in the log");
    fs::remove_file(&store).expect("removes");
    fs::rename(&away, &store).expect("moves");
    let names = fs::read_dir(&store).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".work.")).collect();
    assert_eq!(left, [""; 0], "something is left");
    assert_eq!(ask(&container), "data\n");
    assert_eq!(images(&place).len(), 0);
    end(&place, &container);
    place.assert_clean();
}
