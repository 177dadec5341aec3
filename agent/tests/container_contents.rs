//! What a container sees: mounts, devices, paths, names, parameters, ids.

mod common;

use common::container::{Builder, folder_of, mount};
use supermachine_agent_protocol::container::{
    Clock, ContainerMount, Device, DeviceKind, Extent, IdMapping, MountSource, Namespace, TimeOffset,
};
use supermachine_agent_protocol::{ErrorCode, ExitStatus};

/// A file of this machine with this content, mounted in the container.
fn bound(builder: &Builder, destination: &str, content: &str) -> ContainerMount {
    let path = folder_of(builder).join("bound");
    std::fs::write(&path, content).expect("a file");
    let path = path.to_str().expect("text").to_owned();
    ContainerMount {
        destination: destination.into(),
        source: MountSource::Bind { path },
        flags: vec![],
        data: "".into(),
    }
}

#[test]
fn mounts_come_in_order_with_their_flags() {
    let Some(builder) = Builder::start() else { return };
    let spec = builder.spec(
        "grep -v ' / / ' /proc/self/mountinfo | cut -d' ' -f5,6,9-; grep ' / / ' /proc/self/mountinfo | cut -d' ' -f9",
    );
    let output = builder.output(spec);
    let places: Vec<&str> = output.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "overlay"]);
    assert!(output.contains("/sys ro,nosuid,nodev,noexec,relatime sysfs rw"), "{output}");
    assert!(output.contains("/dev rw,nosuid tmpfs rw,size=65536k,mode=755"), "{output}");
}

#[test]
fn links_on_the_way_to_a_mount_stay_inside() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("cat /etc/sub/a /data/one; ls -l /data/link");
    spec.mounts.push(bound(&builder, "/data/link/../data/link/sub/a", "hello\n"));
    let output = builder.output(spec);
    assert!(output.starts_with("hello\n1\n"), "{output}");
}

#[test]
fn a_root_that_cannot_be_is_refused() {
    let Some(builder) = Builder::start() else { return };
    let part = |offset, length| Extent { offset, length };
    let cases = [
        (vec![], "there are no layers"),
        (vec![part(0, 4096); 256], "256 layers are too many, 255 are possible"),
        (vec![part(0, 4096), part(4095, 4096)], "whole pages"),
        (vec![part(4096, 0)], "whole pages"),
        (vec![part(u64::MAX - 4095, 8192)], "whole pages"),
    ];
    for (layers, why) in cases {
        let mut spec = builder.spec("true");
        spec.root.layers = layers;
        let error = builder.create_error(spec);
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains(why), "{error:?}");
    }
    for device in ["vdc", "/dev/../x", "/dev/", "/dev/.."] {
        let mut spec = builder.spec("true");
        let source = MountSource::Volume { device: device.into(), fstype: "ext4".into() };
        spec.mounts.push(ContainerMount { source, ..mount("", "/x", &[], "") });
        assert_eq!(builder.create_error(spec).code, ErrorCode::BadRequest, "{device}");
    }
}

#[test]
fn a_file_system_in_memory_can_start_with_what_it_hides() {
    let Some(builder) = Builder::start() else { return };
    let mut spec =
        builder.spec("cat /data/one; stat -c %F /data/sub /data/link; touch /data/x /var/empty/y; ls /var/empty");
    spec.mounts.push(mount("tmpfs", "/data", &["tmpcopyup", "nodev"], "size=1m"));
    spec.mounts.push(mount("tmpfs", "/var/empty", &[], ""));
    assert_eq!(builder.output(spec), "1\ndirectory\nsymbolic link\ny\n");
}

#[test]
fn a_file_system_in_memory_where_nothing_was_is_for_everybody() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("stat -c %a /var/empty /nothing/there /told");
    spec.mounts.push(mount("tmpfs", "/var/empty", &[], ""));
    spec.mounts.push(mount("tmpfs", "/nothing/there", &[], ""));
    spec.mounts.push(mount("tmpfs", "/told", &[], "mode=0750"));
    assert_eq!(builder.output(spec), "755\n1777\n750\n");
}

#[test]
fn a_mount_that_fails_is_named() {
    let Some(builder) = Builder::start() else { return };
    let with = |mount: ContainerMount| {
        let mut spec = builder.spec("true");
        spec.mounts.push(mount);
        builder.create_error(spec)
    };
    let error = with(mount("nosuchfs", "/x", &[], ""));
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Os, "mount \"nosuchfs\" to \"/x\": no such device"));
    let error = with(mount("tmpfs", "/x", &["sticky"], ""));
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::BadRequest, "mount: unknown flag \"sticky\""));
    assert_eq!(with(mount("tmpfs", "/x", &[], "nosuch=1")).code, ErrorCode::Os);
    assert_eq!(with(mount("tmpfs", "x", &[], "")).code, ErrorCode::BadRequest);
    assert_eq!(with(mount("tmpfs", "/../.", &[], "")).code, ErrorCode::BadRequest);
    assert_eq!(builder.output(builder.spec("echo still")), "still\n");
}

#[test]
fn devices_and_links_are_there() {
    let Some(builder) = Builder::start() else { return };
    let script =
        "cd /dev; stat -c %n:%t:%T:%a null zero full random urandom tty b p; for l in fd stdin stdout stderr ptmx core
        do readlink $l; done; head -c 3 /dev/zero | od -c | head -1; stat -c %u:%g b";
    let mut spec = builder.spec(script);
    let device =
        |path: &str, kind, major, minor, mode| Device { path: path.into(), kind, major, minor, mode, uid: 3, gid: 4 };
    spec.devices.push(device("/dev/b", DeviceKind::Block, 8, 300, 0o660));
    spec.devices.push(device("/dev/p", DeviceKind::Fifo, 0, 0, 0o600));
    let output = builder.output(spec);
    for line in ["null:1:3:666", "tty:5:0:666", "b:8:12c:660", "p:0:0:600", "/proc/self/fd/1", "pts/ptmx", "3:4"] {
        assert!(output.lines().any(|found| found == line), "{line} is missing: {output}");
    }
}

#[test]
fn masked_paths_show_nothing_and_read_only_ones_take_nothing() {
    let Some(builder) = Builder::start() else { return };
    let script = "ls -A /hidden; cat /etc/plain; cat /data/one; for f in /data/new /data/sub/new /etc/new /dev/shm/new
        do touch $f 2>/dev/null && echo $f; done; ls /hidden/x 2>&1";
    let mut spec = builder.spec(&format!("{script}; true"));
    spec.masked_paths = ["/hidden", "/etc/plain", "/no/such", "/hidden/secret"].map(str::to_owned).to_vec();
    spec.readonly_paths = ["/data", "/no/such"].map(str::to_owned).to_vec();
    assert_eq!(builder.output(spec), "1\n/etc/new\n/dev/shm/new\nls: /hidden/x: No such file or directory\n");
    let mut spec = builder.spec("true");
    spec.masked_paths = vec!["etc".into()];
    assert_eq!(builder.create_error(spec).code, ErrorCode::BadRequest);
}

#[test]
fn a_read_only_root_leaves_its_mounts_writable() {
    let Some(builder) = Builder::start() else { return };
    let script =
        "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo rw; touch /t/x 2>/dev/null || echo ro; ls /t; pwd";
    let mut spec = builder.spec(script);
    spec.root.read_only = true;
    spec.process.cwd = "/made/for/it".into();
    spec.mounts.push(mount("tmpfs", "/t", &["ro"], ""));
    spec.mounts.push(mount("tmpfs", "/t/below", &[], ""));
    assert_eq!(builder.output(spec), "ro\nrw\nro\nbelow\n/made/for/it\n");
}

#[test]
fn a_root_can_be_shared_private_or_unbindable() {
    let Some(builder) = Builder::start() else { return };
    for (name, want) in [("shared", "shared:"), ("rprivate", ""), ("unbindable", "unbindable")] {
        let mut spec = builder.spec("grep ' / / ' /proc/self/mountinfo | cut -d' ' -f7");
        spec.root.propagation = Some(name.into());
        let output = builder.output(spec);
        let found = output.trim().trim_start_matches('-');
        assert!(found.starts_with(want) && found.is_empty() == want.is_empty(), "{name}: {output}");
    }
    let mut spec = builder.spec("grep ' /t[12] ' /proc/self/mountinfo | cut -d' ' -f7 | cut -d: -f1");
    spec.root.propagation = Some("rshared".into());
    spec.mounts.push(mount("tmpfs", "/t1", &["private"], ""));
    spec.mounts.push(mount("tmpfs", "/t2", &[], ""));
    assert_eq!(builder.output(spec), "-\nshared\n");
}

#[test]
fn parameters_are_set_in_the_containers_namespaces() {
    let Some(builder) = Builder::start() else { return };
    let mut spec =
        builder.spec("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; ip addr show lo | grep -c UP");
    spec.sysctl = [("net.ipv4.ip_forward", "1"), ("kernel/msgmax", "4242")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(builder.output(spec), "1\n4242\n1\n");
    let mut spec = builder.spec("true");
    spec.sysctl = [("net.ipv4.nope".to_owned(), "1".to_owned())].into();
    let error = builder.create_error(spec);
    assert!(error.message.starts_with("sysctl \"net.ipv4.nope\": write \"1\": "), "{error}");
}

#[test]
fn clocks_can_be_shifted() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("cut -d. -f1 /proc/uptime; echo exec >/dev/null");
    spec.namespaces.push(Namespace::Time);
    spec.time_offsets = [(Clock::Boottime, TimeOffset { secs: 1_000_000, nanosecs: 0 })].into();
    let shifted: u64 = builder.output(spec).trim().parse().unwrap();
    assert!(shifted >= 1_000_000, "{shifted}");
}

#[test]
fn ids_are_mapped_in_a_user_namespace() {
    let Some(builder) = Builder::start() else { return };
    let script =
        "tr -s ' ' </proc/self/uid_map; id -u; stat -c %u:%t:%T /dev/null; touch /dev/shm/x; stat -c %u /dev/shm/x
        echo x >/dev/null; touch /tmp/file && stat -c %u /tmp/file";
    let mut spec = builder.spec(script);
    spec.namespaces.extend([Namespace::User, Namespace::Time]);
    spec.time_offsets = [(Clock::Monotonic, TimeOffset { secs: 5, nanosecs: 0 })].into();
    spec.uid_mappings = vec![IdMapping { container: 0, guest: 1000, size: 2000 }];
    spec.gid_mappings = vec![IdMapping { container: 0, guest: 1000, size: 3000 }];
    spec.mounts.push(mount("tmpfs", "/tmp", &[], ""));
    let done = builder.run(spec);
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(stdout, " 0 1000 2000\n0\n65534:1:3\n0\n0\n", "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.exit, Some(ExitStatus::Exited(0)));
}
