//! What a machine gets of the host once it is up: layers, the disk for what is written, volumes.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use supermachine_agent_protocol::ErrorCode;
use supermachine_vmm_api::{Client, ClientError, ContainerFiles, Create, Reply, Request, Share, Symlinks, Volume};

use crate::harness::{Config, finish, rootfs};

/// A container on the files of a directory.
struct Case {
    config: Config,
    files: Vec<File>,
    wanted: ContainerFiles,
    container: Value,
}

impl Case {
    /// The busybox image is its only layer.
    fn new(script: &str) -> Self {
        let container = json!({
            "id": "test",
            "root": {},
            "process": {"argv": ["sh", "-c", script], "env": ["PATH=/bin"]},
            "namespaces": ["pid", "mount"],
            "mounts": [{"destination": "/proc", "source": {"filesystem": {"fstype": "proc", "source": "proc"}}}],
        });
        let (files, wanted) = (Vec::new(), ContainerFiles::default());
        let mut case = Self { config: Config::for_container(), files, wanted, container };
        case.layer(rootfs());
        case
    }

    fn add(&mut self, file: File) -> u32 {
        self.files.push(file);
        u32::try_from(self.files.len() - 1).expect("a number")
    }

    fn layer(&mut self, image: &Path) {
        let number = self.add(File::open(image).expect("an image"));
        self.wanted.layers.push(number);
    }

    /// An empty ext4 of this size.
    fn ext4(&self, name: &str, mib: u64) -> PathBuf {
        let path = self.config.dir().join(name);
        File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("a file");
        let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).output();
        assert!(made.expect("mke2fs is missing: install e2fsprogs").status.success());
        path
    }

    fn volume(&mut self, image: &Path, destination: &str, read_only: bool) {
        let file = File::options().read(true).write(!read_only).open(image).expect("an image");
        let file = self.add(file);
        let letter = char::from(b'c' + u8::try_from(self.wanted.volumes.len()).expect("few"));
        self.wanted.volumes.push(Volume { file, read_only });
        let flags: &[&str] = if read_only { &["ro"] } else { &[] };
        let source = json!({"volume": {"device": format!("/dev/vd{letter}"), "fstype": "ext4"}});
        let mount = json!({"destination": destination, "source": source, "flags": flags});
        self.container["mounts"].as_array_mut().expect("mounts").push(mount);
    }

    fn share(&mut self, path: &Path, destination: &str, read_only: bool) {
        let file = self.add(File::open(path).expect("opens"));
        let number = self.wanted.shares.len();
        self.wanted.shares.push(Share { file, read_only, symlinks: Symlinks::Opaque });
        let mount = json!({"destination": destination, "source": {"share": {"number": number}}});
        self.container["mounts"].as_array_mut().expect("mounts").push(mount);
    }

    fn create(&self) -> (Client, std::process::Child, Result<Reply, ClientError>) {
        let (stream, child) = self.config.start_inherited(Stdio::null());
        let mut client = Client::from_stream(stream, "e2e tests").expect("hellos");
        let files: Vec<_> = self.files.iter().map(AsFd::as_fd).collect();
        client.files(&files).expect("files are taken");
        let container = serde_json::from_value(self.container.clone()).expect("a container");
        let created = client.request(&Request::Create(Box::new(Create {
            container,
            files: self.wanted.clone(),
            template: None,
        })));
        (client, child, created)
    }

    fn start(&self) -> (Client, std::process::Child) {
        let (mut client, child, created) = self.create();
        created.unwrap_or_else(|error| panic!("{error}: {}", self.config.stderr()));
        client.request(&Request::Start {}).unwrap_or_else(|error| panic!("{error}: {}", self.config.stderr()));
        (client, child)
    }

    fn run(&self) -> Output {
        let (client, child) = self.start();
        let output = finish(child);
        drop(client);
        output
    }

    /// What it prints; it must end well.
    fn output(&self) -> String {
        let output = self.run();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}{}", self.config.stderr());
        text
    }

    fn refusal(&self) -> String {
        let (client, child, created) = self.create();
        let Err(ClientError::Refused(reply)) = created else { panic!("{created:?} instead of a refusal") };
        assert_eq!(reply.code, ErrorCode::BadRequest);
        drop(client);
        finish(child);
        reply.message
    }
}

/// A layer with a file of its own and the same one in all, that hides the layer's below.
fn small_layer(dir: &Path, number: usize) -> PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join(format!("{number}.squashfs")));
    std::fs::create_dir_all(tree.join("l")).expect("a directory");
    for (name, content) in [(format!("own-{number}"), "x"), ("same".to_owned(), "")] {
        std::fs::write(tree.join("l").join(name), format!("{number}{content}\n")).expect("a file");
    }
    let hidden = format!("l/own-{} c 0 0 0 0 0", number.wrapping_sub(1));
    let mut pack = Command::new("mksquashfs");
    pack.arg(&tree).arg(&image).args(["-quiet", "-no-progress", "-all-root", "-noappend"]);
    let made = if number > 1 { pack.args(["-p", &hidden]).output() } else { pack.output() };
    let made = made.expect("mksquashfs is missing: install squashfs-tools (make setup)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::remove_dir_all(tree).expect("removed");
    image
}

fn layered(count: usize) {
    let mut case = Case::new("cd /l; ls; cat same own-*; rm same; echo new >same; cat same; ls /bin/sh");
    let dir = case.config.dir().to_owned();
    for number in 1..=count {
        case.layer(&small_layer(&dir, number));
    }
    let expected = format!("own-{count}\nsame\n{count}\n{count}x\nnew\n/bin/sh\n");
    assert_eq!(case.output(), expected);
}

#[test]
fn two_layers_and_what_the_upper_hides() {
    layered(2);
}

#[test]
fn a_hundred_and_twenty_eight_layers_each_hiding_a_file_below() {
    layered(127);
}

#[test]
fn as_many_layers_as_a_disk_can_hold_and_no_more() {
    let mut case = Case::new("cat /l/same; ls /l");
    let image = small_layer(case.config.dir(), 1);
    (0..254).for_each(|_| case.layer(&image));
    assert_eq!(case.output(), "1\nown-1\nsame\n");
    case.layer(&image);
    assert!(case.refusal().contains("256 layers are too many, 255 are possible"));
}

#[test]
fn what_is_written_to_the_root_can_live_on_a_disk() {
    let script = "df -k / | tail -n 1 | tr -s ' ' | cut -d' ' -f2
        dd if=/dev/zero of=/big bs=1M count=40 2>/dev/null; sync; rm /big; sync
        dd if=/dev/zero of=/more bs=1M count=100 2>/dev/null || echo full; sync; rm /more; sync; ls -a /";
    let mut case = Case::new(script);
    case.container["devices"] =
        json!([{"path": "/dev/zero", "kind": "character", "major": 1, "minor": 5, "mode": 0o666, "uid": 0, "gid": 0}]);
    let image = case.ext4("upper", 80);
    let before = std::fs::metadata(&image).expect("the image").blocks();
    let file = File::options().read(true).write(true).open(&image).expect("the image");
    case.wanted.upper = Some(case.add(file));
    let text = case.output();
    let mut lines = text.lines();
    let size: u64 = lines.next().and_then(|line| line.parse().ok()).expect("a size");
    assert!((60 << 10..80 << 10).contains(&size), "{text}");
    assert_eq!(lines.next(), Some("full"), "{text}");
    assert!(!text.contains("lost+found") && text.contains("bin"), "{text}");
    let after = std::fs::metadata(&image).expect("the image").blocks();
    assert!(after < before + (20 << 11), "what was removed takes no space: {before} blocks before, {after} after");
}

#[test]
fn a_volume_keeps_what_was_written_whatever_ends_the_container() {
    let mut case = Case::new("echo one >/data/a; ls /data; echo ready; exec sleep 1000");
    let image = case.ext4("volume", 32);
    case.volume(&image, "/data", false);
    let (mut client, mut child) = case.start();
    let mut ready = [0; 19];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut ready).expect("output");
    assert_eq!(&ready, b"a\nlost+found\nready\n");
    client.request(&Request::Kill { signal: 9 }).expect("killed");
    assert_eq!(finish(child).status.code(), Some(137));
    let checked = Command::new("e2fsck").args(["-fn"]).arg(&image).output().expect("e2fsprogs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    let script = "cat /data/a; echo two >/data/b || echo refused; mkdir /data/c || true; grep /data /proc/mounts";
    let mut case = Case::new(script);
    case.volume(&image, "/data", true);
    let text = case.output();
    assert!(text.starts_with("one\nrefused\n/dev/vdc /data ext4 ro,"), "{text}");
}

#[test]
fn directories_and_single_files_of_the_host_are_shared() {
    let script = "cat /d/a /f; echo new >/d/b; mkdir /d/sub; echo more >>/f; (echo x >/r/a) 2>/dev/null || echo refused
        grep -c virtiofs /proc/mounts; grep ' /f ' /proc/mounts; ls /r; df /d | tail -n 1 | cut -d' ' -f1";
    let mut case = Case::new(script);
    let dir = case.config.dir().join("shared");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("a"), "in a directory\n").expect("a file");
    let file = case.config.dir().join("single");
    std::fs::write(&file, "single\n").expect("a file");
    case.share(&dir, "/d", false);
    case.share(&file, "/f", false);
    case.share(&dir, "/r", true);
    let text = case.output();
    assert!(text.starts_with("in a directory\nsingle\nrefused\n3\nshares /f virtiofs rw"), "{text}");
    assert!(text.ends_with("a\nb\nsub\nshares\n"), "{text}");
    assert_eq!(std::fs::read_to_string(dir.join("b")).expect("made in the guest"), "new\n");
    assert!(dir.join("sub").is_dir());
    assert_eq!(std::fs::read_to_string(&file).expect("changed in the guest"), "single\nmore\n");
}

#[test]
fn files_that_cannot_be_are_refused() {
    let mut case = Case::new("true");
    case.wanted.layers = vec![5];
    assert!(case.refusal().contains("there is no file 5"));
    case.wanted.layers = vec![0, 0];
    assert!(case.refusal().contains("there is no file 0, or it is used twice"));
    let mut case = Case::new("true");
    let number = case.add(File::open("/dev/null").expect("opens"));
    case.wanted.layers.push(number);
    assert!(case.refusal().contains("layer 1: not a regular file"));
    let mut case = Case::new("true");
    let image = case.ext4("volume", 8);
    (0..7).for_each(|number| case.volume(&image, &format!("/{number}"), true));
    assert!(case.refusal().contains("7 volumes are too many, 6 are possible"));
}
