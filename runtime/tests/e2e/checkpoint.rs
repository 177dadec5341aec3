//! Containers that are saved while they run, and go on: here, elsewhere, more than once.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::console::{listen, read_until};
use crate::harness::{Container, Place, text, wait_for, wait_pid};

/// Prints one number after the other.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";

fn numbers(output: &str) -> Vec<u64> {
    output.lines().map(|line| line.trim().parse().unwrap_or_else(|_| panic!("a number, not {line:?}"))).collect()
}

/// All numbers from the first on, each once.
#[track_caller]
fn assert_counts_on(numbers: &[u64], first: u64) {
    let expected: Vec<u64> = (first..).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
}

fn small(config: &mut Value) {
    config["annotations"] = json!({"dev.supermachine.memory-mib": "256"});
}

fn started<'a>(place: &'a Place, id: &str, script: &str) -> Container<'a> {
    let container = place.create_with(id, &["sh", "-c", script], small);
    place.good(&["start", id]);
    container
}

fn checkpoint(place: &Place, image: &Path, options: &[&str], id: &str) {
    place.good(&[&["checkpoint", "--image-path", text(image)], options, &[id]].concat());
}

#[test]
fn a_counting_process_counts_on_in_two_independent_containers() {
    let place = Place::new();
    let container = started(&place, "c", COUNT);
    container.wait_for_output("\n5\n");
    let image = place.path("image");
    checkpoint(&place, &image, &[], "c");
    assert!(place.bad(&["state", "c"]).contains("does not exist"), "as runc leaves it");
    assert_eq!(container.wait(), 137);
    let before = numbers(&container.output());
    assert_counts_on(&before, 1);
    let next = before.last().expect("numbers") + 1;
    let copies = ["one", "two"].map(|id| place.restore(id, &image));
    for copy in &copies {
        copy.wait_for_output(&format!("{}\n", next + 20));
        assert_eq!(place.status(&copy.id), "running");
        assert_eq!(copy.exec(&["cat", "/etc/data"]).stdout, "data\n");
    }
    let boots = copies.each_ref().map(|copy| copy.exec(&["head", "-c", "16", "/dev/urandom"]).stdout);
    assert_ne!(boots[0], boots[1]);
    for copy in &copies {
        assert_counts_on(&numbers(copy.output().rsplit_once('\n').expect("lines").0), next);
        place.good(&["kill", &copy.id, "KILL"]);
        assert_eq!(copy.wait(), 137);
        copy.delete();
    }
    fs::remove_dir_all(&image).expect("removed");
    place.assert_clean();
}

#[test]
fn a_container_that_is_left_running_goes_on_and_its_copy_starts_where_it_was() {
    let place = Place::new();
    let container = started(&place, "c", COUNT);
    container.wait_for_output("\n5\n");
    let image = place.path("image");
    checkpoint(&place, &image, &["--leave-running"], "c");
    let seen = numbers(container.output().rsplit_once('\n').expect("lines").0);
    let last = seen.last().expect("numbers");
    container.wait_for_output(&format!("\n{}\n", last + 30));
    let copy = place.restore("copy", &image);
    copy.wait_for_output("\n");
    let first = numbers(copy.output().split_once('\n').expect("a line").0)[0];
    assert!(first <= last + 30, "it went on at {first}, {last} was seen after the checkpoint");
    // A second one replaces the first.
    checkpoint(&place, &image, &["--leave-running"], "copy");
    for container in [&container, &copy] {
        assert_counts_on(
            &numbers(container.output().rsplit_once('\n').expect("lines").0),
            if container.id == "c" { 1 } else { first },
        );
        place.good(&["delete", "--force", &container.id]);
        container.wait();
    }
    place.assert_clean();
}

#[test]
fn files_and_input_cross_the_cut() {
    let place = Place::new();
    let script = "exec 9>/tmp/kept; echo opened >&9; echo written >/root/file; sync
        echo ready; while read line; do echo got-$line; echo $line >&9; done; cat /tmp/kept /root/file; exit 9";
    let bundle = place.bundle(&["sh", "-c", script], small);
    let mut run = place.command(&["run", "--bundle", text(&bundle), "c"]);
    let output = place.path("run.out");
    run.stdin(Stdio::piped()).stdout(File::create(&output).expect("a file"));
    let mut child = run.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"first\n").expect("writes");
    let said = |path: &Path| fs::read_to_string(path).expect("a file");
    wait_for(|| said(&output).contains("got-first"), "the first line");
    let image = place.path("image");
    checkpoint(&place, &image, &[], "c");
    assert_eq!(child.wait().expect("ends").code(), Some(137));
    drop(stdin);
    let mut restore = place.command(&["restore", "--image-path", text(&image), "--bundle", text(&bundle), "c"]);
    let child = restore.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("starts");
    child.stdin.take().expect("a pipe").write_all(b"second\n").expect("writes");
    let done = child.wait_with_output().expect("ends");
    assert_eq!(done.status.code(), Some(9));
    let all = format!("{}{}", said(&output), String::from_utf8_lossy(&done.stdout));
    assert_eq!(all, "ready\ngot-first\ngot-second\nopened\nfirst\nsecond\nwritten\n");
    place.assert_clean();
}

#[test]
fn a_terminal_is_given_to_the_restored_container() {
    let place = Place::new();
    let bundle = place.bundle(&["sh"], |config| {
        small(config);
        config["process"]["terminal"] = json!(true);
    });
    let (socket, pid_file) = (place.path("console"), place.path("pid"));
    let pid = || fs::read_to_string(&pid_file).expect("a file").parse().expect("a number");
    let line = ["--bundle", text(&bundle), "--console-socket", text(&socket), "--pid-file", text(&pid_file), "c"];
    let master = listen(&socket);
    place.leave(&[&["create"], &line[..]].concat());
    let mut master = master.join().expect("a terminal");
    place.good(&["start", "c"]);
    master.write_all(b"word=kept; echo ready-$((40+2))\n").expect("writes");
    read_until(&mut master, "ready-42\r\n");
    let image = place.path("image");
    checkpoint(&place, &image, &[], "c");
    assert_eq!(wait_pid(pid()), 137);
    fs::remove_file(&socket).expect("removed");
    let plain = place.bundle(&["sh"], small);
    let refused = place.bad(&["restore", "-d", "--image-path", text(&image), "--bundle", text(&plain), "c"]);
    assert!(refused.contains("process.terminal: the container that was saved has a terminal"), "{refused}");
    let other = listen(&socket);
    place.leave(&[&["restore", "--detach", "--image-path", text(&image)], &line[..]].concat());
    let mut other = other.join().expect("a terminal");
    other.write_all(b"echo $word-$(tty >/dev/null && echo terminal)\n").expect("writes");
    read_until(&mut other, "kept-terminal\r\n");
    other.write_all(b"exit 8\n").expect("writes");
    assert_eq!(wait_pid(pid()), 8);
    place.good(&["delete", "c"]);
    place.assert_clean();
}

#[test]
fn a_writable_disk_goes_along_and_a_volume_stays() {
    let place = Place::new();
    let volume = place.path("volume.ext4");
    let mount = json!({"destination": "/vol", "type": "ext4", "source": volume, "options": ["rw"]});
    let bundle = |place: &Place| {
        place.bundle(
            &["sh", "-c", "echo on-disk >/root/file; echo in-volume >/vol/file; echo ready; sleep 1000"],
            |config| {
                small(config);
                config["annotations"]["dev.supermachine.root.disk-mib"] = json!("64");
                config["mounts"].as_array_mut().expect("mounts").push(mount.clone());
            },
        )
    };
    let first = bundle(&place);
    let container = place.create_from("c", &first);
    place.good(&["start", "c"]);
    container.wait_for_output("ready");
    let image = place.path("image");
    checkpoint(&place, &image, &[], "c");
    container.wait();
    let copy = place.restore_from("c", &image, &first);
    assert_eq!(copy.exec(&["cat", "/root/file", "/vol/file"]).stdout, "on-disk\nin-volume\n");
    assert_eq!(copy.exec(&["sh", "-c", "echo more >>/vol/file; sync; cat /vol/file"]).stdout, "in-volume\nmore\n");
    let refused = place.bad(&["restore", "-d", "--image-path", text(&image), "--bundle", text(&first), "d"]);
    assert!(refused.contains("changed since the checkpoint") || refused.contains("in use"), "{refused}");
    place.good(&["delete", "--force", "c"]);
    copy.wait();
    fs::remove_file(&volume).expect("removed");
    let refused = place.bad(&["restore", "-d", "--image-path", text(&image), "--bundle", text(&first), "d"]);
    assert!(refused.contains("cannot find volume") && refused.contains("volume.ext4"), "{refused}");
    assert!(!volume.exists(), "nothing is made in its place");
    place.assert_clean();
}

#[test]
fn a_checkpoint_that_fails_leaves_the_container_running_and_nothing_else() {
    let place = Place::new();
    let container = started(&place, "c", COUNT);
    container.wait_for_output("\n5\n");
    let full = place.path("full");
    fs::create_dir(&full).expect("a directory");
    let _mount = Tmpfs::on(&full);
    for image in [full.join("image"), full.clone(), "/proc/self/image".into()] {
        let refused = place.bad(&["checkpoint", "--image-path", text(&image), "c"]);
        assert_eq!(refused.trim().lines().count(), 1, "{refused}");
        assert_eq!(fs::read_dir(&full).expect("a directory").count(), 0, "something is left");
        assert_eq!(place.status("c"), "running");
        let seen = container.output().lines().count();
        wait_for(|| container.output().lines().count() > seen + 5, "further numbers");
    }
    assert_counts_on(&numbers(container.output().rsplit_once('\n').expect("lines").0), 1);
    place.good(&["delete", "--force", "c"]);
    container.wait();
    place.assert_clean();
}

/// A file system of 4 MiB; it ends with this.
struct Tmpfs(String);

impl Tmpfs {
    fn on(path: &Path) -> Self {
        let path = text(path).to_owned();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4M", "none", &path]).status();
        assert!(done.expect("mount runs").success());
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn what_cannot_be_saved_or_restored_is_told_in_a_line() {
    let place = Place::new();
    let container = place.create_with("c", &["sleep", "1000"], small);
    assert!(place.bad(&["checkpoint", "c"]).contains("cannot be checkpointed in created state"));
    place.good(&["start", "c"]);
    for option in ["--pre-dump", "--lazy-pages", "--parent-path=/x", "--page-server=a:1"] {
        assert!(place.bad(&["checkpoint", option, "c"]).contains(option.split('=').next().expect("a name")));
    }
    let image = place.path("image");
    let bundle = place.bundle(&["sh"], small);
    let refused = |word: &str| {
        let told = place.bad(&["restore", "-d", "--image-path", text(&image), "--bundle", text(&bundle), "d"]);
        assert!(told.contains(word) && told.trim().lines().count() == 1, "{told:?} without {word:?}");
    };
    refused("no checkpoint of supermachine-runtime is there");
    checkpoint(&place, &image, &["--leave-running", "--work-path", "/tmp", "--tcp-established", "--file-locks"], "c");
    let told = place.bad(&["restore", "-d", "--image-path", text(&image), "--bundle", text(&bundle), "c"]);
    assert!(told.contains("already exists"), "{told}");
    let manifest = image.join("checkpoint.json");
    let good = fs::read_to_string(&manifest).expect("a file");
    fs::write(&manifest, good.replace("\"version\":1", "\"version\":7")).expect("written");
    refused("made by another version");
    fs::write(&manifest, &good).expect("written");
    another_back_end(&place, &image, &bundle);
    let parsed: Value = serde_json::from_str(&good).expect("JSON");
    let data = image.join(parsed["data"].as_str().expect("a name"));
    for (name, word) in [("snapshot/state", "state"), ("snapshot/memory", "memory"), ("layers/0", "damaged")] {
        let file = File::options().read(true).write(true).open(data.join(name)).expect("opens");
        let mut byte = [0];
        let place_of_byte = middle_of_data(&file);
        file.read_exact_at(&mut byte, place_of_byte).expect("read");
        file.write_all_at(&[!byte[0]], place_of_byte).expect("written");
        refused(word);
        file.write_all_at(&byte, place_of_byte).expect("written");
        let end = file.metadata().expect("a file").len() - 1;
        file.read_exact_at(&mut byte, end).expect("read");
        file.set_len(end).expect("cut");
        refused(name.rsplit('/').next().expect("a name"));
        file.write_all_at(&byte, end).expect("written");
    }
    // All is as it was.
    let copy = place.restore("d", &image);
    for container in [&container, &copy] {
        place.good(&["delete", "--force", &container.id]);
        container.wait();
    }
    place.assert_clean();
}

/// The snapshot goes back to the back end that it came from, or nowhere.
fn another_back_end(place: &Place, image: &Path, bundle: &Path) {
    let line = ["restore", "-d", "--image-path", text(image), "--bundle", text(bundle), "d"];
    let mut restore = place.command(&line);
    let here = std::env::var("SUPERMACHINE_HYPERVISOR").unwrap_or_default();
    let output = restore.env("SUPERMACHINE_HYPERVISOR", if here == "kvm" { "soft" } else { "kvm" }).output();
    let output = output.expect("runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("kvm") && told.trim().lines().count() == 1, "{told}");
    assert!(place.bad(&["state", "d"]).contains("does not exist"));
}

/// Somewhere in the file's first piece of data.
fn middle_of_data(file: &File) -> u64 {
    let start = nix::unistd::lseek(file, 0, nix::unistd::Whence::SeekData).expect("data");
    u64::try_from(start).expect("a place") + 100
}

#[test]
fn a_container_with_a_mount_of_the_host_is_refused() {
    let place = Place::new();
    let host = place.path("host");
    fs::create_dir(&host).expect("a directory");
    let container = place.create_with("c", &["sleep", "1000"], |config| {
        small(config);
        let mount = json!({"destination": "/h", "type": "bind", "source": host, "options": ["bind"]});
        config["mounts"].as_array_mut().expect("mounts").push(mount);
    });
    place.good(&["start", "c"]);
    let told = place.bad(&["checkpoint", "--image-path", text(&place.path("image")), "c"]);
    assert!(told.contains("directories or files of the host mounted"), "{told}");
    assert_eq!(place.status("c"), "running");
    assert!(!place.path("image").exists());
    place.good(&["delete", "--force", "c"]);
    container.wait();
    place.assert_clean();
}

#[test]
fn a_paused_container_can_be_saved_and_stays_paused() {
    let place = Place::new();
    let container = started(&place, "c", COUNT);
    container.wait_for_output("\n5\n");
    place.good(&["pause", "c"]);
    let image = place.path("image");
    checkpoint(&place, &image, &["--leave-running"], "c");
    assert_eq!(place.status("c"), "paused");
    place.good(&["resume", "c"]);
    let seen = container.output().lines().count();
    wait_for(|| container.output().lines().count() > seen + 5, "further numbers");
    assert_counts_on(&numbers(container.output().rsplit_once('\n').expect("lines").0), 1);
    let copy = place.restore("copy", &image);
    copy.wait_for_output("\n");
    for container in [&container, &copy] {
        place.good(&["delete", "--force", &container.id]);
        container.wait();
    }
    place.assert_clean();
}

#[test]
fn what_was_written_before_arrives_though_its_reader_is_late() {
    let place = Place::new();
    // More than the host's pipe holds waits in the machine.
    let bundle = place.bundle(&["sh", "-c", "seq 1 100000; echo end; sleep 1000"], small);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut create = place.command(&["create", "--bundle", text(&bundle), "c"]);
    assert!(create.stdout(writer).status().expect("runs").success());
    drop(create);
    place.good(&["start", "c"]);
    let image = place.path("image");
    let checkpoint = place.command(&["checkpoint", "--image-path", text(&image), "c"]);
    let mut checkpoint = { checkpoint }.spawn().expect("starts");
    wait_for(|| image.join("checkpoint.json").exists(), "the image");
    let late = std::thread::spawn(move || {
        let mut all = String::new();
        std::io::Read::read_to_string(&mut reader, &mut all).expect("text");
        all
    });
    assert!(checkpoint.wait().expect("ends").success());
    let before = late.join().expect("no panic");
    let copy = place.restore_from("c", &image, &bundle);
    copy.wait_for_output("end\n");
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect::<String>() + "end\n";
    assert!(before.len() < expected.len(), "the cut was too late: {} bytes", before.len());
    assert!(before + &copy.output() == expected);
    place.good(&["delete", "--force", "c"]);
    copy.wait();
    place.assert_clean();
}
