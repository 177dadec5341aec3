//! Requests that no kernel makes: wrong lengths, pieces, numbers and orders. The server comes back, keeps its limits,
//! never writes more than there is room for, and touches nothing outside.

mod client;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use client::{Client, Folders, body, names, parse, share};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use supermachine_share::spec::{self, Wire, errno, fuse_in_header, fuse_out_header};
use supermachine_share::{Limits, SymlinkPolicy};
use vm_memory::VolatileSlice;

/// Cases of one round.
const CASES: u32 = 100;

const LIMITS: Limits = Limits { nodes: 40, handles: 12, directories: 3, shares: 4, valid: Duration::from_millis(900) };

/// Runs `test` on cases of `strategy`: one round, then rounds with further seeds until `SUPERMACHINE_FUZZ_SECONDS` are over.
fn check<S: Strategy>(strategy: &S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let seconds = std::env::var("SUPERMACHINE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    for round in 0u64.. {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&round.to_le_bytes());
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let result = TestRunner::new_with_rng(config, rng).run(strategy, |case| {
            test(case);
            Ok(())
        });
        if let Err(error) = result {
            panic!("round {round}: {error}");
        }
        if Instant::now() >= end {
            break;
        }
    }
}

fn folders() -> Folders {
    let folders = Folders::new();
    fs::create_dir(folders.shared.join("d")).expect("mkdir");
    fs::write(folders.shared.join("a"), "content").expect("write");
    fs::write(folders.shared.join("d/b"), "more").expect("write");
    std::os::unix::fs::symlink("../outside", folders.shared.join("c")).expect("symlink");
    fs::write(folders.outside.join("secret"), "secret").expect("write");
    folders
}

/// Two shares of the same directory: a writable one, and a read-only one whose links are followed.
fn client(folders: &Folders) -> Client {
    let shares = vec![
        share(&folders.shared, false, SymlinkPolicy::Opaque),
        share(&folders.shared, true, SymlinkPolicy::Follow),
        share(&folders.shared.join("a"), false, SymlinkPolicy::Opaque),
    ];
    Client::with_limits(shares, LIMITS)
}

fn untouched(folders: &Folders) {
    assert_eq!(fs::read(folders.outside.join("secret")).expect("read"), b"secret");
    assert_eq!(fs::read_dir(&folders.outside).expect("readdir").count(), 1);
    assert_eq!(fs::read_dir(folders.shared.parent().expect("parent")).expect("readdir").count(), 2);
}

/// A well-formed request of each kind that has a body, on nodes that exist.
fn well_formed(client: &Client) -> Vec<(u32, u64, Vec<u8>)> {
    let (root, a, d) = (2, client.walk("0/a").expect("a"), client.walk("0/d").expect("d"));
    let fh = client.open(a, spec::O_RDWR).expect("open");
    let dh = client.opendir(d).expect("opendir");
    let read = spec::fuse_read_in { fh: dh, size: 4096, ..Default::default() };
    let create = spec::fuse_create_in { flags: spec::O_RDWR, mode: 0o600, ..Default::default() };
    let init = spec::fuse_init_in { major: 7, minor: 41, max_readahead: 0, flags: u32::MAX };
    vec![
        (spec::FUSE_LOOKUP, root, names(&[b"a"])),
        (spec::FUSE_GETATTR, a, body(&spec::fuse_getattr_in::default(), &[])),
        (spec::FUSE_STATX, a, body(&spec::fuse_statx_in::default(), &[])),
        (spec::FUSE_SETATTR, a, body(&spec::fuse_setattr_in { valid: 8, size: 3, ..Default::default() }, &[])),
        (spec::FUSE_SYMLINK, d, names(&[b"s", b"target"])),
        (spec::FUSE_MKNOD, d, body(&spec::fuse_mknod_in { mode: spec::S_IFREG, ..Default::default() }, b"n\0")),
        (spec::FUSE_MKDIR, d, body(&spec::fuse_mkdir_in::default(), b"m\0")),
        (spec::FUSE_UNLINK, d, names(&[b"n"])),
        (spec::FUSE_RMDIR, d, names(&[b"m"])),
        (spec::FUSE_RENAME, d, body(&spec::fuse_rename_in { newdir: d }, &names(&[b"s", b"t"]))),
        (
            spec::FUSE_RENAME2,
            d,
            body(&spec::fuse_rename2_in { newdir: d, ..Default::default() }, &names(&[b"t", b"s"])),
        ),
        (spec::FUSE_LINK, d, body(&spec::fuse_link_in { oldnodeid: a }, b"l\0")),
        (spec::FUSE_OPEN, a, body(&spec::fuse_open_in::default(), &[])),
        (spec::FUSE_READ, a, body(&spec::fuse_read_in { fh, size: 100, ..Default::default() }, &[])),
        (spec::FUSE_WRITE, a, body(&spec::fuse_write_in { fh, size: 4, ..Default::default() }, b"data")),
        (spec::FUSE_STATFS, a, Vec::new()),
        (spec::FUSE_FSYNC, a, body(&spec::fuse_fsync_in { fh, ..Default::default() }, &[])),
        (spec::FUSE_SETXATTR, a, body(&spec::fuse_setxattr_in { size: 1, flags: 0 }, b"user.x\0v")),
        (spec::FUSE_GETXATTR, a, body(&spec::fuse_getxattr_in { size: 100, padding: 0 }, b"user.x\0")),
        (spec::FUSE_LISTXATTR, a, body(&spec::fuse_getxattr_in { size: 100, padding: 0 }, &[])),
        (spec::FUSE_REMOVEXATTR, a, names(&[b"user.x"])),
        (spec::FUSE_OPENDIR, d, body(&spec::fuse_open_in::default(), &[])),
        (spec::FUSE_READDIR, d, body(&read, &[])),
        (spec::FUSE_READDIRPLUS, d, body(&read, &[])),
        (spec::FUSE_FSYNCDIR, d, body(&spec::fuse_fsync_in { fh: dh, ..Default::default() }, &[])),
        (spec::FUSE_CREATE, d, body(&create, b"new\0")),
        (spec::FUSE_TMPFILE, d, body(&create, &[])),
        (spec::FUSE_FALLOCATE, a, body(&spec::fuse_fallocate_in { fh, length: 10, ..Default::default() }, &[])),
        (spec::FUSE_LSEEK, a, body(&spec::fuse_lseek_in { fh, whence: spec::SEEK_DATA, ..Default::default() }, &[])),
        (
            spec::FUSE_COPY_FILE_RANGE,
            a,
            body(
                &spec::fuse_copy_file_range_in {
                    fh_in: fh,
                    fh_out: fh,
                    nodeid_out: a,
                    off_out: 4,
                    len: 2,
                    ..Default::default()
                },
                &[],
            ),
        ),
        (spec::FUSE_FORGET, a, body(&spec::fuse_forget_in { nlookup: 1 }, &[])),
        (
            spec::FUSE_BATCH_FORGET,
            0,
            body(
                &spec::fuse_batch_forget_in { count: 1, dummy: 0 },
                &body(&spec::fuse_forget_one { nodeid: d, nlookup: 1 }, &[]),
            ),
        ),
        (spec::FUSE_INIT, 0, body(&init, &body(&spec::fuse_init_in_ext::default(), &[]))),
        (spec::FUSE_RELEASE, a, body(&spec::fuse_release_in { fh, ..Default::default() }, &[])),
        (spec::FUSE_RELEASEDIR, d, body(&spec::fuse_release_in { fh: dh, ..Default::default() }, &[])),
    ]
}

/// The error of a reply, positive; none if there was no reply.
fn error_of(reply: &[u8]) -> Option<i32> {
    (!reply.is_empty()).then(|| -parse::<fuse_out_header>(reply).error)
}

#[test]
fn a_request_cut_short_is_refused() {
    let folders = folders();
    let count = well_formed(&client(&folders)).len();
    for which in 0..count {
        let client = client(&folders);
        let (opcode, node, body) = well_formed(&client).swap_remove(which);
        for len in 0..body.len() {
            let header = client.header(opcode, node, len);
            let reply = client.raw(self::body(&header, &body[..len]), 8192);
            match error_of(&reply) {
                Some(error) => assert_eq!(error, errno::EINVAL, "opcode {opcode}, {len} of {} bytes", body.len()),
                None => assert!(matches!(opcode, spec::FUSE_FORGET | spec::FUSE_BATCH_FORGET)),
            }
        }
    }
    untouched(&folders);
}

#[test]
fn a_length_that_is_a_lie_is_refused() {
    let folders = folders();
    let client = client(&folders);
    for (opcode, node, body) in well_formed(&client) {
        let silent = matches!(opcode, spec::FUSE_FORGET | spec::FUSE_BATCH_FORGET);
        for len in [0, 1, 39, body.len() as u32 + 41, u32::MAX] {
            let header = fuse_in_header { len, ..client.header(opcode, node, body.len()) };
            let reply = client.raw(self::body(&header, &body), 8192);
            assert_eq!(error_of(&reply), (!silent).then_some(errno::EINVAL), "opcode {opcode}, length {len}");
        }
        // Without a whole header there is nobody to answer.
        let header = self::body(&client.header(opcode, node, body.len()), &[]);
        for len in 0..fuse_in_header::SIZE {
            assert!(client.raw(header[..len].to_vec(), 8192).is_empty());
        }
    }
    untouched(&folders);
}

#[test]
fn a_reply_without_room_does_nothing() {
    let folders = folders();
    let client = client(&folders);
    let all = well_formed(&client);
    // Not from the third but last on: those forget what the others need.
    for (opcode, node, body) in all
        .into_iter()
        .filter(|(opcode, ..)| !matches!(*opcode, spec::FUSE_INIT | spec::FUSE_RELEASE | spec::FUSE_RELEASEDIR))
    {
        for room in 0..160 {
            let header = client.header(opcode, node, body.len());
            let reply = client.raw(self::body(&header, &body), room);
            assert!(reply.len() <= room);
            assert!(room >= 16 || reply.is_empty());
        }
    }
    untouched(&folders);
    assert!(client.server.usage().handles <= LIMITS.handles);
}

#[test]
fn pieces_of_memory_are_one_message() {
    let folders = folders();
    for cut in [1, 2, 3, 7, 40, 41, 64] {
        let client = client(&folders);
        let node = client.walk("0/a").expect("a");
        let fh = client.open(node, spec::O_RDWR).expect("open");
        let data: Vec<u8> = (0..200).collect();
        let write = body(&spec::fuse_write_in { fh, size: 200, ..Default::default() }, &data);
        let mut request = body(&client.header(spec::FUSE_WRITE, node, write.len()), &write);
        let mut reply = [0; 24];
        let request: Vec<_> = request.chunks_mut(cut).map(VolatileSlice::from).collect();
        let replies: Vec<_> = reply.chunks_mut(cut).map(VolatileSlice::from).collect();
        assert_eq!(client.server.handle(&request, &replies), 24);
        assert_eq!(parse::<spec::fuse_write_out>(&reply[16..]).size, 200);

        let read = body(&spec::fuse_read_in { fh, size: 500, ..Default::default() }, &[]);
        let mut request = body(&client.header(spec::FUSE_READ, node, read.len()), &read);
        let mut reply = [0; 600];
        let request: Vec<_> = request.chunks_mut(cut).map(VolatileSlice::from).collect();
        let replies: Vec<_> = reply.chunks_mut(cut).map(VolatileSlice::from).collect();
        assert_eq!(client.server.handle(&request, &replies), 216);
        assert_eq!(reply[16..216], data);
        fs::write(folders.shared.join("a"), "content").expect("write");
    }
}

#[test]
fn unknown_opcodes_say_so() {
    let folders = folders();
    let client = client(&folders);
    for opcode in (53..300).chain([0, 7, 19, 4096, 1_048_576, 436_207_616, u32::MAX]) {
        assert_eq!(client.call(opcode, 2, &[0; 64]), Err(errno::ENOSYS), "opcode {opcode}");
    }
}

#[test]
fn an_old_or_strange_guest_is_told() {
    let client = client(&folders());
    let start = |major, minor| {
        let init = spec::fuse_init_in { major, minor, max_readahead: 0, flags: 0 };
        client.call(spec::FUSE_INIT, 0, &body(&init, &[])).map(|reply| parse::<spec::fuse_init_out>(&reply).minor)
    };
    assert_eq!(start(7, 41), Ok(41));
    assert_eq!(start(7, 9999), Ok(41));
    assert_eq!(start(8, 0), Ok(41));
    assert_eq!(start(7, 27), Err(errno::EPROTO));
    assert_eq!(start(6, 41), Err(errno::EPROTO));
}

#[test]
fn limits_are_kept_and_come_back() {
    let folders = folders();
    let client = client(&folders);
    let before = client.server.usage();
    for number in 0..100 {
        fs::write(folders.shared.join(format!("file-{number}")), "x").expect("write");
        fs::create_dir_all(folders.shared.join(format!("dir-{number}/below"))).expect("mkdir");
    }
    let mut known = Vec::new();
    let failure = (0..100).find_map(|number| match client.lookup(2, format!("file-{number}").as_bytes()) {
        Ok(entry) => {
            known.push(entry.nodeid);
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!((failure, client.server.usage().nodes), (Some(errno::ENFILE), LIMITS.nodes));
    let listed = client.list(2, spec::FUSE_READDIRPLUS).expect("entries without nodes");
    assert!(listed.len() > 200);
    let handles: Vec<_> = (0..20).map_while(|_| client.open(known[0], spec::O_RDONLY).ok()).collect();
    assert_eq!(handles.len(), LIMITS.handles);
    assert_eq!(client.opendir(2), Err(errno::ENFILE));
    assert_eq!(client.create(2, b"one-more", spec::O_RDWR, 0o600), Err(errno::ENFILE));
    assert!(!folders.shared.join("one-more").exists());
    for node in known {
        let forget = body(&spec::fuse_forget_in { nlookup: 2 }, &[]);
        let header = client.header(spec::FUSE_FORGET, node, forget.len());
        assert!(client.raw(body(&header, &forget), 8192).is_empty());
    }
    assert!(client.server.usage().nodes <= before.nodes + 1, "only what is open may be known still");
    client.server.reset();
    assert_eq!(client.server.usage(), before);
    for number in 0..30 {
        client.walk(&format!("0/dir-{number}/below")).map(|_| ()).unwrap_or(());
    }
    assert!(client.server.usage().directories <= LIMITS.directories);
}

/// What a hostile guest does: any opcode, any node of those it knows, mostly sensible bodies.
#[derive(Debug, Clone)]
struct Move {
    opcode: u32,
    node: u64,
    other: u64,
    name: Vec<u8>,
    new: Vec<u8>,
    words: [u64; 4],
    cut: Option<usize>,
    room: usize,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::sample::select(vec![&b"a"[..], b"b", b"c", b"d", b"e", b"0", b"1"]).prop_map(<[u8]>::to_vec),
        1 => proptest::sample::select(vec![&b".."[..], b".", b"", b"../outside", b"c/secret", b"/"]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..300),
    ]
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..12, 2 => 0u64..5000, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(i64::MAX as u64)]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let node = || prop_oneof![8 => 0u64..8, 4 => (0u64..12).prop_map(|at| (1 << 32) + at), 1 => any::<u64>()];
    let opcode = prop_oneof![12 => 1u32..53, 1 => any::<u32>()];
    let cut = prop_oneof![9 => Just(None), 1 => (0usize..200).prop_map(Some)];
    let room = prop_oneof![6 => Just(8192usize), 1 => 0usize..300];
    let one = (opcode, node(), node(), name(), name(), [word(), word(), word(), word()], cut, room).prop_map(
        |(opcode, node, other, name, new, words, cut, room)| Move { opcode, node, other, name, new, words, cut, room },
    );
    vec(one, 1..120)
}

/// The body that belongs to the opcode, made of the move's numbers and names.
fn body_of(of: &Move) -> Vec<u8> {
    let [_, two, three, _] = of.words;
    let small = two as u32;
    let (name, both) = (names(&[&of.name]), names(&[&of.name, &of.new]));
    match of.opcode {
        spec::FUSE_LOOKUP | spec::FUSE_UNLINK | spec::FUSE_RMDIR | spec::FUSE_REMOVEXATTR => name,
        spec::FUSE_SYMLINK => both,
        spec::FUSE_MKNOD => {
            body(&spec::fuse_mknod_in { mode: (three as u32) << 12 | 0o600, rdev: small, ..Default::default() }, &name)
        }
        spec::FUSE_MKDIR => body(&spec::fuse_mkdir_in { mode: 0o700 | small, umask: 0 }, &name),
        spec::FUSE_RENAME => body(&spec::fuse_rename_in { newdir: of.other }, &both),
        spec::FUSE_RENAME2 => body(
            &spec::fuse_rename2_in { newdir: of.other, flags: if small < 12 { small % 4 } else { small }, padding: 0 },
            &both,
        ),
        spec::FUSE_LINK => body(&spec::fuse_link_in { oldnodeid: of.other }, &name),
        spec::FUSE_OPEN | spec::FUSE_OPENDIR => body(&spec::fuse_open_in { flags: small, open_flags: 1 }, &[]),
        spec::FUSE_CREATE | spec::FUSE_TMPFILE => {
            body(&spec::fuse_create_in { flags: small, mode: 0o600, ..Default::default() }, &name)
        }
        _ => data_body_of(of),
    }
}

/// As [`body_of`], of requests on open files and attributes.
fn data_body_of(of: &Move) -> Vec<u8> {
    let [one, two, three, four] = of.words;
    let (fh, small) = (one, two as u32);
    match of.opcode {
        spec::FUSE_READ | spec::FUSE_READDIR | spec::FUSE_READDIRPLUS => {
            body(&spec::fuse_read_in { fh, offset: three, size: small, ..Default::default() }, &[])
        }
        spec::FUSE_WRITE => {
            let asked = spec::fuse_write_in {
                fh,
                offset: two % 100_000,
                size: three as u32,
                write_flags: four as u32,
                ..Default::default()
            };
            body(&asked, &of.new)
        }
        spec::FUSE_SETATTR => {
            // Sizes stay small: the disk is not what is tested.
            let asked = spec::fuse_setattr_in {
                valid: small,
                fh,
                size: three % 100_000,
                mode: 0o700,
                uid: 0,
                gid: 0,
                mtime: four,
                ..Default::default()
            };
            body(&asked, &[])
        }
        spec::FUSE_FALLOCATE => {
            let asked = spec::fuse_fallocate_in {
                fh,
                offset: two % 10_000,
                length: three % 10_000,
                mode: four as u32,
                padding: 0,
            };
            body(&asked, &[])
        }
        spec::FUSE_COPY_FILE_RANGE => {
            let asked = spec::fuse_copy_file_range_in {
                fh_in: fh,
                nodeid_out: of.other,
                fh_out: two,
                off_out: three % 10_000,
                len: four,
                ..Default::default()
            };
            body(&asked, &[])
        }
        spec::FUSE_INIT => {
            let start = spec::fuse_init_in { major: 7, minor: 28 + small % 20, max_readahead: 0, flags: three as u32 };
            body(&start, &body(&spec::fuse_init_in_ext::default(), &[]))
        }
        spec::FUSE_RELEASE | spec::FUSE_RELEASEDIR => body(&spec::fuse_release_in { fh, ..Default::default() }, &[]),
        spec::FUSE_SETXATTR => body(&spec::fuse_setxattr_in { size: small, flags: 0 }, &names(&[b"user.x", &of.new])),
        spec::FUSE_GETXATTR => body(&spec::fuse_getxattr_in { size: small, padding: 0 }, b"user.x\0"),
        // The whole disk would be synchronised, again and again.
        spec::FUSE_SYNCFS => Vec::new(),
        _ => of.words.iter().flat_map(|word| word.to_le_bytes()).chain(of.new.iter().copied()).collect(),
    }
}

/// Numbers that the server has given: a file and a handle of it, and a handle of the share's root.
struct Given {
    node: u64,
    fh: u64,
    dh: u64,
}

/// Small numbers of moves become numbers that the server may have given; half of them those that belong together.
fn placed(step: &Move, given: &Given) -> Move {
    let placed = |at: u64| if (1 << 32..1 << 33).contains(&at) { at - (1 << 32) + given.node } else { at };
    let handle = |word: u64| if word < 12 { given.fh + word } else { word };
    let [one, two, three, four] = step.words;
    let mut step = Move { node: placed(step.node), other: placed(step.other), ..step.clone() };
    step.words = match step.opcode {
        spec::FUSE_COPY_FILE_RANGE => [handle(one), handle(two), three, four],
        _ => [handle(one), two, three, four],
    };
    match step.opcode {
        _ if four % 2 == 1 => {}
        spec::FUSE_READDIR | spec::FUSE_READDIRPLUS | spec::FUSE_FSYNCDIR => {
            (step.node, step.words[0]) = (2, given.dh);
        }
        spec::FUSE_COPY_FILE_RANGE => {
            (step.node, step.other) = (given.node, given.node);
            (step.words[0], step.words[1]) = (given.fh, given.fh);
        }
        spec::FUSE_READ
        | spec::FUSE_WRITE
        | spec::FUSE_FSYNC
        | spec::FUSE_FALLOCATE
        | spec::FUSE_LSEEK
        | spec::FUSE_SETATTR => (step.node, step.words[0]) = (given.node, given.fh),
        spec::FUSE_CREATE | spec::FUSE_TMPFILE | spec::FUSE_MKNOD => step.node = 2,
        spec::FUSE_RENAME | spec::FUSE_RENAME2 | spec::FUSE_LINK | spec::FUSE_SYMLINK | spec::FUSE_MKDIR => {
            step.other = if step.opcode == spec::FUSE_LINK { given.node } else { 2 };
            step.node = 2;
        }
        _ => {}
    }
    step
}

/// Opcodes that must have worked at least once, or the random requests were too wild to test anything.
const MUST_WORK: [u32; 24] = [
    spec::FUSE_LOOKUP,
    spec::FUSE_GETATTR,
    spec::FUSE_SETATTR,
    spec::FUSE_SYMLINK,
    spec::FUSE_MKDIR,
    spec::FUSE_UNLINK,
    spec::FUSE_RENAME,
    spec::FUSE_RENAME2,
    spec::FUSE_LINK,
    spec::FUSE_OPEN,
    spec::FUSE_READ,
    spec::FUSE_WRITE,
    spec::FUSE_STATFS,
    spec::FUSE_RELEASE,
    spec::FUSE_FSYNC,
    spec::FUSE_SETXATTR,
    spec::FUSE_LISTXATTR,
    spec::FUSE_OPENDIR,
    spec::FUSE_READDIR,
    spec::FUSE_READDIRPLUS,
    spec::FUSE_FSYNCDIR,
    spec::FUSE_CREATE,
    spec::FUSE_INIT,
    spec::FUSE_DESTROY,
];

/// Plays the moves; notes in `worked` which opcodes were answered with success.
fn play(client: &Client, moves: &[Move], worked: &Mutex<BTreeSet<u32>>) {
    let node = client.walk("0/a").unwrap_or(1 << 32);
    let given = Given { node, fh: client.open(node, spec::O_RDWR).unwrap_or(1), dh: client.opendir(2).unwrap_or(1) };
    for step in moves.iter().filter(|step| step.opcode != spec::FUSE_SYNCFS) {
        // After these nothing is known any more: rarely.
        if matches!(step.opcode, spec::FUSE_INIT | spec::FUSE_DESTROY) && step.words[0] != 3 {
            continue;
        }
        let step = &placed(step, &given);
        let mut body = body_of(step);
        body.truncate(step.cut.unwrap_or(usize::MAX));
        let header = client.header(step.opcode, step.node, body.len());
        let reply = client.raw(self::body(&header, &body), step.room);
        if !reply.is_empty() {
            let out: fuse_out_header = parse(&reply);
            assert_eq!((out.len as usize, out.unique), (reply.len(), header.unique));
            assert!((-4095..=0).contains(&out.error));
            if out.error == 0 {
                worked.lock().expect("lock").insert(step.opcode);
            }
        }
        let usage = client.server.usage();
        assert!(usage.nodes <= LIMITS.nodes + 3 && usage.handles <= LIMITS.handles);
        assert!(usage.directories <= LIMITS.directories);
    }
}

/// Random requests: nothing gets out, nothing breaks, and a guest that behaves is served afterwards.
#[test]
fn random_requests() {
    let worked = Mutex::default();
    check(&moves(), |moves| {
        let folders = folders();
        let client = client(&folders);
        play(&client, &moves, &worked);
        untouched(&folders);
        client.init();
        fs::write(folders.shared.join("fresh"), "fresh").expect("write");
        let node = client.walk("0/fresh").expect("fresh");
        assert_eq!(client.content(node), Ok(b"fresh".to_vec()));
    });
    let worked = worked.into_inner().expect("lock");
    let never: Vec<_> = MUST_WORK.iter().filter(|opcode| !worked.contains(opcode)).collect();
    assert!(never.is_empty(), "opcodes that never worked: {never:?}");
}

/// Several threads at once.
#[test]
fn random_requests_from_two_threads() {
    let worked = Mutex::default();
    check(&(moves(), moves()), |(one, two)| {
        let folders = folders();
        let client = client(&folders);
        std::thread::scope(|scope| {
            scope.spawn(|| play(&client, &one, &worked));
            scope.spawn(|| play(&client, &two, &worked));
        });
        untouched(&folders);
    });
}
