//! Containers that start from a template, and everything that can be wrong with one.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Container, Place, text, wait_for};

/// Key of the template that a container's machine came from.
fn template_of(place: &Place, id: &str) -> Option<String> {
    let record = fs::read(place.path("root").join(id).join("state.json")).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    record["template"].as_str().map(str::to_owned)
}

/// All templates of a test.
fn templates(place: &Place) -> Vec<Value> {
    serde_json::from_str(&place.good(&["templates", "list", "--format=json"])).expect("JSON")
}

fn file(place: &Place, name: &str) -> PathBuf {
    let all = templates(place);
    let [template] = &all[..] else { panic!("one template expected: {all:?}") };
    place.path("data/templates").join(template["key"].as_str().expect("a key")).join("snapshot").join(name)
}

fn end(container: &Container<'_>, place: &Place) {
    place.good(&["delete", "--force", &container.id]);
    container.wait();
}

#[test]
fn the_first_create_bakes_and_the_next_uses_it_whatever_it_runs() {
    let place = Place::alone();
    let one = place.start("one", &["sleep", "1000"]);
    let first = template_of(&place, "one").expect("it came from a template");
    let listed = templates(&place);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0]["key"].as_str(), listed[0]["inUse"].as_bool()), (Some(first.as_str()), Some(true)));
    assert_eq!(listed[0]["parts"]["memory_mib"], "1024");
    assert!(place.good(&["templates", "prune"]).contains("kept, it is in use"));
    let done = place.run(&["sh", "-c", "echo out; exit 3"], |config| config["root"]["readonly"] = json!(true));
    assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (3, "out\n", ""));
    let created = listed[0]["created"].as_str().map(str::to_owned);
    assert_eq!(templates(&place)[0]["created"].as_str().map(str::to_owned), created, "it was baked once");
    end(&one, &place);
    assert!(place.good(&["templates", "verify"]).ends_with(": whole\n"));
    assert!(place.good(&["templates", "list"]).lines().nth(1).is_some_and(|line| line.contains("memory_mib=1024")));
    assert!(place.good(&["templates", "prune"]).contains("removed"));
    assert!(templates(&place).is_empty());
    place.assert_clean();
}

#[test]
fn containers_of_one_template_share_no_identity() {
    let place = Place::new();
    let script = "cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | md5sum; hostname; date +%s";
    let said: Vec<Vec<String>> = ["a", "b", "c"]
        .map(|name| {
            let done = place.run(&["sh", "-c", script], |config| config["hostname"] = json!(name));
            assert_eq!(done.status, 0, "{}", done.stderr);
            done.stdout.lines().map(str::to_owned).collect()
        })
        .into();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let [boot_id, random, host, date] = &said[index][..] else { panic!("{said:?}") };
        assert_eq!(host, name);
        assert!(date.parse::<u64>().is_ok_and(|date| date <= now && now - date < 240), "{date} is not {now}");
        for other in &said[..index] {
            assert!(boot_id != &other[0] && random != &other[1], "{said:?}");
        }
    }
    place.assert_clean();
}

#[test]
fn a_container_can_ask_for_a_boot() {
    let place = Place::alone();
    let off = |config: &mut Value| config["annotations"] = json!({"dev.supermachine.snapshot": "off"});
    let container = place.create_with("cold", &["sleep", "1000"], off);
    assert_eq!(template_of(&place, "cold"), None);
    assert!(templates(&place).is_empty());
    end(&container, &place);
    let wrong =
        place.run(&["true"], |config| config["annotations"] = json!({"dev.supermachine.snapshot": "sometimes"}));
    assert!(
        wrong.status == 1 && wrong.stderr.contains("none of auto, base, pre-exec, listener and off"),
        "{}",
        wrong.stderr
    );
    place.assert_clean();
}

#[test]
fn two_first_creates_at_once_bake_once() {
    let place = Place::alone();
    let keys: Vec<_> = thread::scope(|scope| {
        let creates: Vec<_> = ["one", "two", "three"]
            .map(|id| scope.spawn(|| place.create(id, &["sleep", "1000"])))
            .into_iter()
            .map(|created| created.join().expect("no panic"))
            .collect();
        creates.iter().map(|container| template_of(&place, &container.id)).collect()
    });
    assert!(keys[0].is_some() && keys.iter().all(|key| key == &keys[0]), "{keys:?}");
    let log = place.good(&["templates", "list", "--format=json"]);
    assert_eq!(templates(&place).len(), 1, "{log}");
    for id in ["one", "two", "three"] {
        place.good(&["delete", "--force", id]);
    }
    wait_for(|| place.processes().is_empty(), "the end of all machines");
}

#[test]
fn damaged_templates_are_told_of_and_baked_anew() {
    let place = Place::alone();
    place.good(&["templates", "bake"]);
    let flip = |name: &str, at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(file(&place, name)).expect("a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 1], at).expect("a byte");
    };
    let cut = |name: &str| {
        let file = OpenOptions::new().write(true).open(file(&place, name)).expect("a file");
        file.set_len(file.metadata().expect("a file").len() / 2).expect("shorter");
    };
    let damages: [&dyn Fn(); 4] =
        [&|| flip("state", 70), &|| flip("state", 9000), &|| flip("memory", 17 << 20), &|| cut("memory")];
    for damage in damages {
        damage();
        let log = place.path("log");
        let bundle = place.bundle(&["echo", "fine"], |_| ());
        let done = place.call(&["--log", text(&log), "run", "--bundle", text(&bundle), "c"]);
        assert_eq!((done.status, done.stdout.as_str()), (0, "fine\n"), "{}", done.stderr);
        let said = fs::read_to_string(&log).expect("a log");
        let lines: Vec<_> = said.lines().filter(|line| line.contains("is not usable and is baked anew")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        fs::remove_file(&log).expect("a file");
        assert!(place.good(&["templates", "verify"]).ends_with(": whole\n"));
    }
    place.assert_clean();
}

/// Runs `true` and gives how many operations of its machine's code were kept from an earlier one, and how many it had to
/// decode, as its vmm's log has them.
fn kept_and_decoded(place: &Place, id: &str) -> (u64, u64) {
    let bundle = place.bundle(&["true"], |_| ());
    let mut create = place.command(&["create", "--bundle", text(&bundle), id]);
    create.env("SUPERMACHINE_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().expect("runs").success());
    place.good(&["start", id]);
    wait_for(|| place.status(id) == "stopped", "its end");
    let log = fs::read_to_string(place.path("root").join(id).join("vmm.log")).expect("a log");
    place.good(&["delete", id]);
    let line = log.lines().find(|line| line.contains("ops were kept")).unwrap_or_else(|| panic!("{log}"));
    let number = |word: &str| {
        let before = line.split(word).next().unwrap_or_default().trim_end();
        before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    (number("ops were kept"), number("decoded"))
}

#[test]
fn code_that_one_machine_decoded_is_kept_for_the_next() {
    let place = Place::alone();
    place.good(&["templates", "bake"]);
    if templates(&place)[0]["parts"]["hypervisor"] != "soft" {
        return eprintln!("skipped: a real CPU decodes for itself; SUPERMACHINE_HYPERVISOR=soft runs this");
    }
    let kept = file(&place, "kept-0");
    let (none, all) = kept_and_decoded(&place, "first");
    assert_eq!((none, kept.exists()), (0, true));
    let (most, few) = kept_and_decoded(&place, "second");
    assert!(most > all / 2 && few < all / 4, "{all} were decoded first, then {few} with {most} kept");
    // Damaged, cut or none of ours: it is no use, and nothing else.
    let whole = fs::read(&kept).expect("a file");
    let flipped = |at: usize| whole.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == at)).collect::<Vec<_>>();
    for bytes in [flipped(70), whole[..whole.len() / 2].to_vec(), b"something".to_vec(), Vec::new()] {
        fs::write(&kept, &bytes).expect("written");
        let done = place.run(&["sh", "-c", "echo fine; seq 1 100 | wc -l"], |_| ());
        assert_eq!((done.status, done.stdout.as_str()), (0, "fine\n100\n"), "{} bytes: {}", bytes.len(), done.stderr);
    }
    // Who comes after makes it anew.
    let (most, few) = kept_and_decoded(&place, "last");
    assert!(most > all / 2 && few < all / 4, "{few} were decoded with {most} kept");
    place.assert_clean();
}

#[test]
fn a_killed_baker_is_in_nobodys_way() {
    let place = Place::alone();
    let bakers = || {
        let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let bakes = |pid: &u32| String::from_utf8_lossy(&line(pid)).contains("--bake");
        place.processes().into_iter().filter(bakes).collect::<Vec<_>>()
    };
    // The vmm that bakes: the create goes on without a template.
    let bundle = place.bundle(&["sleep", "1000"], |_| ());
    let create = |id: &str| {
        let mut command = place.command(&["--log", text(&place.path("log")), "create", "--bundle", text(&bundle), id]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("starts")
    };
    let mut first = create("first");
    wait_for(|| !bakers().is_empty(), "a baker");
    for pid in bakers() {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("it runs");
    }
    assert!(first.wait().expect("ends").success());
    assert_eq!(template_of(&place, "first"), None);
    let said = fs::read_to_string(place.path("log")).expect("a log");
    assert_eq!(said.matches("the vmm that boots it failed: it was killed by SIGKILL").count(), 1, "{said}");
    place.good(&["delete", "--force", "first"]);
    // The runtime that waits for it: its baker ends too, and the next create bakes.
    let mut second = create("second");
    wait_for(|| !bakers().is_empty(), "a baker");
    second.kill().expect("it runs");
    second.wait().expect("ends");
    wait_for(|| bakers().is_empty(), "the end of the baker");
    place.good(&["delete", "--force", "second"]);
    assert!(create("third").wait().expect("ends").success());
    assert!(template_of(&place, "third").is_some());
    assert_eq!(templates(&place).len(), 1);
    place.good(&["delete", "--force", "third"]);
    place.assert_clean();
}

#[test]
fn a_vmm_that_refuses_a_template_boots_instead() {
    // It goes on from nothing, and boots like the real one.
    let said = with_vmm(
        "for arg; do shift; test \"$last\" = --restore && arg=/no/such/template; last=$arg; set -- \"$@\" \"$arg\"; done",
    );
    assert!(said.contains("cannot go on from its template and boots: "), "{said}");
}

#[test]
fn a_vmm_that_cannot_read_a_templates_memory_boots_instead() {
    // What a page does that is not there, as on a full tmpfs.
    let said = with_vmm("for arg; do test \"$arg\" = --restore && kill -BUS $$; done");
    assert!(said.contains("cannot go on from its template and boots: a page of its memory cannot be read"), "{said}");
}

/// Runs a container whose vmm does something first; gives the log.
fn with_vmm(first: &str) -> String {
    let place = Place::new();
    let vmm = place.path("vmm");
    let real = std::path::Path::new(env!("CARGO_BIN_EXE_supermachine-runtime")).with_file_name("supermachine-vmm");
    fs::write(&vmm, format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", real.display())).expect("a file");
    fs::set_permissions(&vmm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    // The first process of a pid namespace does not end by a signal that it sends itself.
    let without_pid = |config: &mut Value| config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "uts"}]);
    let (log, bundle) = (place.path("log"), place.bundle(&["echo", "booted"], without_pid));
    let mut command: Command = place.command(&["--log", text(&log), "run", "--bundle", text(&bundle), "c"]);
    let output = command.env("SUPERMACHINE_VMM", &vmm).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "booted\n", "{output:?}");
    place.assert_clean();
    fs::read_to_string(&log).expect("a log")
}

#[test]
fn a_data_directory_may_be_named_from_where_one_is() {
    let place = Place::alone();
    let bundle = place.bundle(&["sleep", "1000"], |_| ());
    fs::create_dir(place.path("here")).expect("a directory");
    let mut create = place.command(&["create", "--bundle", text(&bundle), "c"]);
    create.current_dir(place.path("here")).env("SUPERMACHINE_DATA", "../data");
    create.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(create.status().expect("runs").success());
    assert_eq!(template_of(&place, "c").as_deref(), templates(&place)[0]["key"].as_str());
    place.good(&["delete", "--force", "c"]);
    place.assert_clean();
}
