//! What a container's processes may do, and what they are limited to.

mod common;

use common::container::Builder;
use supermachine_agent_protocol::container::{
    Attributes, Capabilities, Container, DeviceKind, DeviceRule, Resources, Rlimit, Scheduler, Seccomp,
};
use supermachine_agent_protocol::{ErrorCode, ExitStatus, Request, User};

const STATUS: &str = "grep -E '^(Uid|Groups|Cap|NoNewPrivs|Seccomp:|Umask)' /proc/self/status | tr -s '\\t ' ' '";

fn with(builder: &Builder, script: &str, attributes: Attributes) -> Container {
    let mut spec = builder.spec(script);
    spec.process.attributes = attributes;
    spec
}

#[test]
fn capabilities_are_exactly_those_asked_for() {
    let Some(builder) = Builder::start() else { return };
    let (chown, net, kill) = (1, 1 << 10, 1 << 5);
    let capabilities = Capabilities {
        bounding: chown | net | kill,
        effective: net | kill,
        inheritable: net,
        permitted: net | kill,
        ambient: net,
    };
    let attributes = Attributes { capabilities: Some(capabilities), ..Attributes::default() };
    let mut spec = with(&builder, STATUS, attributes.clone());
    spec.process.user = User { uid: 10, gid: 11, additional_gids: vec![5, 6] };
    let output = builder.output(spec);
    // What execve leaves to a user that is not root: the ambient set.
    for line in ["Uid: 10 10 10 10", "Groups: 5 6 ", "CapInh: 0000000000000400", "CapPrm: 0000000000000400"] {
        assert!(output.lines().any(|found| found.trim_end() == line.trim_end()), "{line}: {output}");
    }
    for line in ["CapEff: 0000000000000400", "CapBnd: 0000000000000421", "CapAmb: 0000000000000400", "Umask: 0022"] {
        assert!(output.lines().any(|found| found == line), "{line}: {output}");
    }
    let root = builder.output(with(&builder, STATUS, attributes));
    assert!(root.contains("CapEff: 0000000000000421") && root.contains("CapBnd: 0000000000000421"), "{root}");
}

#[test]
fn limits_priorities_and_masks_are_set() {
    let Some(builder) = Builder::start() else { return };
    let script = "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj; cut -d' ' -f19 /proc/self/stat; grep NoNew /proc/self/status | cut -f2";
    let attributes = Attributes {
        rlimits: vec![Rlimit { resource: 7, soft: 100, hard: 200 }],
        umask: Some(0o027),
        oom_score_adj: Some(500),
        scheduler: Some(Scheduler { nice: 5, ..Scheduler::default() }),
        no_new_privileges: true,
        io_priority: Some(2 << 13 | 6),
        ..Attributes::default()
    };
    assert_eq!(builder.output(with(&builder, script, attributes)), "100\n200\n0027\n500\n5\n1\n");
    let odd = Attributes { rlimits: vec![Rlimit { resource: 16, soft: 0, hard: 0 }], ..Attributes::default() };
    assert_eq!(builder.create_error(with(&builder, "true", odd)).code, ErrorCode::BadRequest);
}

/// A filter that answers mkdir and mkdirat with EPERM: load the number, compare, return.
fn no_mkdir() -> Seccomp {
    let equal = |number: u32, skip| (0x15, 0, skip, number);
    let (mkdir, mkdirat) = (u32::try_from(libc_mkdir()).unwrap(), 258);
    let program = vec![
        (0x20, 0, 0, 0),
        equal(mkdir, 1),
        (0x06, 0, 0, 0x0005_0001),
        equal(mkdirat, 1),
        (0x06, 0, 0, 0x0005_0001),
        (0x06, 0, 0, 0x7fff_0000),
    ];
    Seccomp { program, flags: 0 }
}

/// mkdir on x86_64; other architectures have only mkdirat.
fn libc_mkdir() -> i64 {
    83
}

#[test]
fn a_seccomp_filter_counts_with_and_without_new_privileges() {
    let Some(builder) = Builder::start() else { return };
    for no_new_privileges in [false, true] {
        let capabilities = no_new_privileges.then(Capabilities::default);
        let attributes =
            Attributes { seccomp: Some(no_mkdir()), no_new_privileges, capabilities, ..Attributes::default() };
        let script = "mkdir /dev/shm/x 2>&1; grep Seccomp: /proc/self/status | cut -f2";
        let output = builder.output(with(&builder, script, attributes));
        assert_eq!(output, "mkdir: can't create directory '/dev/shm/x': Operation not permitted\n2\n");
    }
    let bad = Attributes { seccomp: Some(Seccomp { program: vec![(0, 0, 0, 0)], flags: 0 }), ..Attributes::default() };
    let mut session = builder.create(with(&builder, "true", bad));
    let error = Builder::start_created(&mut session).unwrap_err();
    assert_eq!(error.message, "cannot load the seccomp filter: invalid argument");
}

#[test]
fn the_last_device_rule_that_matches_counts() {
    let Some(builder) = Builder::start() else { return };
    let all = DeviceRule { allow: false, kind: None, major: None, minor: None, read: true, write: true, mknod: true };
    let character = |major, minor, read, write, mknod| DeviceRule {
        allow: true,
        kind: Some(DeviceKind::Character),
        major: Some(major),
        minor: Some(minor),
        read,
        write,
        mknod,
    };
    let script =
        "head -c 1 /dev/zero >/dev/null && echo read; echo x >/dev/zero || echo no; head -c1 /dev/full || echo no
        mknod /dev/shm/n c 1 3 && echo node; mknod /dev/shm/z c 1 5 || echo no";
    let mut spec = builder.spec(&format!("({script}) 2>/dev/null"));
    spec.resources.devices = vec![all, character(1, 3, true, true, true), character(1, 5, true, false, false)];
    let mut session = builder.create(spec.clone());
    Builder::start_created(&mut session).unwrap();
    let done = common::collect(&mut session);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "read\nno\nno\nnode\nno\n");
    // Rules can be replaced, and without any those in force stay.
    spec.process.argv =
        ["sh", "-c", "read x; (echo x >/dev/zero && echo yes || echo no) 2>/dev/null"].map(str::to_owned).to_vec();
    spec.process.stdin = true;
    for (rules, want) in [(vec![], "no\n"), (vec![DeviceRule { allow: true, ..all }], "yes\n")] {
        let mut session = builder.create(spec.clone());
        Builder::start_created(&mut session).unwrap();
        builder.ask(&Request::Update(Resources { devices: rules, ..Resources::default() })).unwrap();
        session.writer.send(supermachine_agent_protocol::FrameKind::Stdin, b"\n").unwrap();
        assert_eq!(String::from_utf8_lossy(&common::collect(&mut session).stdout), want);
    }
}

#[test]
fn files_of_the_control_group_are_written_all_or_none() {
    let Some(builder) = Builder::start() else { return };
    for name in ["cgroup.procs", "../x", "nosuch.max", "x"] {
        let mut spec = builder.spec("true");
        spec.resources.files = [(name.to_owned(), "1".to_owned())].into();
        let error = builder.create_error(spec);
        assert!(error.message.contains(name), "{error}");
    }
    let done = builder.run(builder.spec("cat /proc/self/cgroup"));
    assert_eq!(
        (String::from_utf8_lossy(&done.stdout).lines().last(), done.exit),
        (Some("0::/"), Some(ExitStatus::Exited(0)))
    );
}
