//! An agent that can build containers on this machine: in a mount and control group namespace of its own, with
//! cgroup v2 where the guest has it, and a busybox image on a loop device as its layer.

use std::path::{Path, PathBuf};
use std::process::Command;

use supermachine_agent_protocol::container::{
    Container, ContainerMount, Device, DeviceKind, Extent, MountSource, Namespace, Resources, Root,
};
use supermachine_agent_protocol::{Control, ErrorCode, ErrorReply, Exec, FrameKind, Request};

use super::{Agent, Session, new_folder, spawn_listening};

/// What the agent's surroundings are made of; `$1` is its folder, the rest its command line. The group is entered
/// before the namespace is made, so that it is the namespace's root.
const SURROUNDINGS: &str = r#"
set -e
folder=$1; shift
mkdir -p "$folder/cgroup"
mount -t cgroup2 none "$folder/cgroup"
mkdir "$folder/cgroup/sm-test-$$"
echo $$ >"$folder/cgroup/sm-test-$$/cgroup.procs"
exec unshare --cgroup sh -ec '
    umount "$0/cgroup"
    mount -t cgroup2 none /sys/fs/cgroup
    mkdir /sys/fs/cgroup/agent
    echo $$ >/sys/fs/cgroup/agent/cgroup.procs
    mount -t tmpfs none /run
    exec "$@"' "$folder" "$@"
"#;

/// Programs of the image.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "ls", "sleep", "id", "mount", "grep", "hostname", "head", "dd", "true", "test", "stat",
    "touch", "env", "ulimit", "kill", "ps", "readlink", "mknod", "tty", "ip", "seq", "wc", "cut", "tr", "mkdir", "rm",
    "date", "setsid", "nice", "stty", "od", "sync", "umount", "rmdir", "cp", "chmod", "ln", "pwd", "find", "nc",
];

/// A loop device with the image; freed when it is dropped.
pub(crate) struct Layer {
    pub(crate) device: String,
}

/// Why containers cannot be built here, if they cannot.
fn obstacle() -> Option<&'static str> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("they need root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("they need loop devices");
    }
    None
}

impl Layer {
    fn new(folder: &Path) -> Self {
        let root = folder.join("image");
        for name in ["bin", "etc", "tmp", "var/empty", "proc", "sys", "dev", "hidden", "data/sub"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        for (name, text) in [("etc/passwd", "root:x:0:0::/:/bin/sh\n"), ("etc/plain", "x"), ("hidden/secret", "s")] {
            std::fs::write(root.join(name), text).unwrap();
        }
        std::fs::write(root.join("data/one"), "1\n").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("data/link")).unwrap();
        let image = folder.join("image.squashfs");
        let made =
            Command::new("mksquashfs").arg(&root).arg(&image).args(["-quiet", "-no-progress", "-all-root"]).output();
        let made = made.expect("squashfs-tools is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let found = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(&image).output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        Self { device: String::from_utf8(found.stdout).unwrap().trim().to_owned() }
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// An agent that builds containers, and a layer for them.
pub(crate) struct Builder {
    pub(crate) agent: Agent,
    pub(crate) layer: Layer,
    _group: TestGroup,
}

/// The control group of an agent's surroundings; removed after the agent, for it is dropped last.
struct TestGroup(u32);

impl Drop for TestGroup {
    fn drop(&mut self) {
        let script = "mount -t cgroup2 none /mnt; cd /mnt/sm-test-$0 2>/dev/null || exit 0
            echo 1 >cgroup.kill; while grep -q 'populated 1' cgroup.events; do :; done
            find . -depth -type d ! -name . -exec rmdir {} +; cd ..; rmdir sm-test-$0";
        let mut command = Command::new("unshare");
        let _ = command.args(["--mount", "sh", "-c", script, &self.0.to_string()]).status();
    }
}

impl Builder {
    /// Starts one; `None`, with the reason on standard error, where it cannot be.
    pub(crate) fn start() -> Option<Self> {
        if let Some(why) = obstacle() {
            eprintln!("skipped: no containers can be built here: {why}");
            return None;
        }
        let folder = new_folder();
        let layer = Layer::new(&folder);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SURROUNDINGS, "sh"]);
        command.arg(&folder).arg(env!("CARGO_BIN_EXE_supermachine-agent"));
        let child = spawn_listening(&mut command, &folder);
        let group = TestGroup(child.id());
        Some(Self { agent: Agent::adopt(child, folder), layer, _group: group })
    }

    /// A container with the usual namespaces and mounts.
    pub(crate) fn spec(&self, script: &str) -> Container {
        let namespaces =
            [Namespace::Pid, Namespace::Network, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup].to_vec();
        let process = Exec { env: vec!["PATH=/bin".into()], ..Exec::new(["sh", "-c", script]) };
        Container {
            id: "test".into(),
            root: Root {
                disk: self.layer.device.clone(),
                layers: vec![Extent { offset: 0, length: 4096 }],
                ..Root::default()
            },
            process,
            hostname: Some("box".into()),
            domainname: None,
            namespaces,
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
            time_offsets: Default::default(),
            mounts: usual_mounts(),
            devices: usual_devices(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            sysctl: Default::default(),
            resources: Resources::default(),
            create_hooks: Vec::new(),
            start_hooks: Vec::new(),
            hook_state: String::new(),
            template: None,
        }
    }

    /// Creates a container, which waits.
    pub(crate) fn create(&self, spec: Container) -> Session {
        let mut session = self.agent.session();
        session.writer.send_json(FrameKind::Request, &Request::Create(Box::new(spec))).unwrap();
        match reply(&mut session) {
            Ok(Control::Created { pid }) => assert!(pid > 1),
            other => panic!("not created: {other:?}"),
        }
        session
    }

    /// The same once nothing is left of the one before.
    pub(crate) fn create_next(&self, spec: &Container) -> Session {
        loop {
            let mut session = self.agent.session();
            session.writer.send_json(FrameKind::Request, &Request::Create(Box::new(spec.clone()))).unwrap();
            match reply(&mut session) {
                Ok(Control::Created { .. }) => return session,
                Err(error) if error.code == ErrorCode::Unavailable => {}
                other => panic!("not created: {other:?}"),
            }
        }
    }

    /// Starts one that waits.
    pub(crate) fn start_created(session: &mut Session) -> Result<(), ErrorReply> {
        session.writer.send_json(FrameKind::Request, &Request::Start {}).unwrap();
        reply(session).map(|control| assert!(matches!(control, Control::Started { .. }), "{control:?}"))
    }

    /// Why a container cannot be created.
    pub(crate) fn create_error(&self, spec: Container) -> ErrorReply {
        let mut session = self.agent.session();
        session.writer.send_json(FrameKind::Request, &Request::Create(Box::new(spec))).unwrap();
        reply(&mut session).expect_err("it is refused")
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, spec: Container) -> super::Outcome {
        let mut session = self.create(spec);
        Self::start_created(&mut session).unwrap();
        super::collect(&mut session)
    }

    /// What a container's script prints; it must end well.
    pub(crate) fn output(&self, spec: Container) -> String {
        let done = self.run(spec);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ended = Some(supermachine_agent_protocol::ExitStatus::Exited(0));
        assert_eq!((done.exit, text(&done.stderr)), (ended, String::new()), "{}", text(&done.stdout));
        text(&done.stdout)
    }

    /// Asks something about the container.
    pub(crate) fn ask(&self, request: &Request) -> Result<Control, ErrorReply> {
        let mut session = self.agent.session();
        session.writer.send_json(FrameKind::Request, request).unwrap();
        reply(&mut session)
    }
}

fn reply(session: &mut Session) -> Result<Control, ErrorReply> {
    let frame = session.reader.frame().unwrap();
    match frame.kind {
        FrameKind::Control => Ok(frame.parse_json().unwrap()),
        FrameKind::Error => Err(frame.parse_json().unwrap()),
        other => panic!("{other}: {}", String::from_utf8_lossy(&frame.payload)),
    }
}

/// A mount of a file system.
pub(crate) fn mount(fstype: &str, destination: &str, flags: &[&str], data: &str) -> ContainerMount {
    ContainerMount {
        destination: destination.into(),
        source: MountSource::Filesystem { fstype: fstype.into(), source: fstype.into() },
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        data: data.into(),
    }
}

fn usual_mounts() -> Vec<ContainerMount> {
    vec![
        mount("proc", "/proc", &[], ""),
        mount("tmpfs", "/dev", &["nosuid", "strictatime"], "mode=755,size=65536k"),
        mount("devpts", "/dev/pts", &["nosuid", "noexec"], "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev"], "mode=1777,size=65536k"),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"], ""),
        mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"], ""),
        ContainerMount {
            destination: "/sys/fs/cgroup".into(),
            source: MountSource::Cgroup {},
            flags: ["nosuid", "noexec", "nodev", "relatime", "ro"].map(str::to_owned).to_vec(),
            data: String::new(),
        },
    ]
}

fn usual_devices() -> Vec<Device> {
    let nodes = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let node = |(name, major, minor)| Device {
        path: format!("/dev/{name}"),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    nodes.into_iter().map(node).collect()
}

/// The path of the agent's folder, for files that a test shares with it.
pub(crate) fn folder_of(builder: &Builder) -> PathBuf {
    builder.agent.folder().clone()
}
