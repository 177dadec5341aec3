use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use proptest::prelude::*;
use supermachine_agent_protocol::blocking::{FrameReader, FrameWriter};
use supermachine_agent_protocol::spec::MAX_PAYLOAD;

use super::*;

/// A relay between a kernel and agents, all of them played by the test.
struct Bed<D> {
    kernel: OwnedFd,
    relay: Relay<D>,
}

/// Gives the relay, and the ends of the agents that it will call; with no more of them, there is no container.
fn bed(agents: usize) -> (Bed<impl FnMut() -> Option<UnixStream>>, Vec<UnixStream>) {
    let flags = SockFlag::SOCK_NONBLOCK;
    let (kernel, device) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let pairs: Vec<_> = (0..agents).map(|_| UnixStream::pair().unwrap()).collect();
    let (relays, agents): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let mut left = relays.into_iter();
    (Bed { kernel, relay: Relay::new(device, move || left.next()) }, agents)
}

impl<D: FnMut() -> Option<UnixStream>> Bed<D> {
    fn ask(&mut self, opcode: u32, unique: u64, body: &[u8]) {
        let mut message = Vec::new();
        let len = u32::try_from(fuse_in_header::SIZE + body.len()).unwrap();
        fuse_in_header { len, opcode, unique, nodeid: 1, ..Default::default() }.put(&mut message);
        message.extend_from_slice(body);
        assert_eq!(nix::unistd::write(&self.kernel, &message), Ok(message.len()));
        self.relay.turn().unwrap();
    }

    /// The next reply: which request, error, body. None, if there is none.
    fn told(&self) -> Option<(u64, i32, Vec<u8>)> {
        let mut bytes = vec![0; 1 << 18];
        let len = nix::unistd::read(&self.kernel, &mut bytes).ok()?;
        let mut rest = bytes.get(..len).unwrap();
        let header = fuse_out_header::take(&mut rest).unwrap();
        assert_eq!(header.len as usize, len);
        Some((header.unique, -header.error, rest.to_vec()))
    }

    /// The same, without the body.
    fn error(&self) -> Option<(u64, i32)> {
        self.told().map(|(unique, error, _)| (unique, error))
    }

    /// Lets the relay call the agent and both agree.
    fn agree(&mut self, agent: &UnixStream) {
        let mut reader = FrameReader::new(agent, MAX_PAYLOAD);
        assert!(matches!(reader.frame().unwrap().parse_json().unwrap(), Control::Hello(_)));
        assert_eq!(reader.frame().unwrap().parse_json::<Request>().unwrap(), Request::ServeRoot {});
        let mut writer = FrameWriter::new(agent);
        writer.send_json(FrameKind::Control, &Control::Hello(Hello::new("test"))).unwrap();
        writer.send_json(FrameKind::Control, &Control::Ok {}).unwrap();
        self.relay.turn().unwrap();
    }
}

fn asked(agent: &UnixStream) -> (u32, u64) {
    let frame = FrameReader::new(agent, MAX_PAYLOAD).frame().unwrap().expect(FrameKind::Fuse).unwrap();
    let header = fuse_in_header::take(&mut frame.payload.as_slice()).unwrap();
    assert_eq!(header.len as usize, frame.payload.len());
    (header.opcode, header.unique)
}

fn answer(len: u32, error: i32, unique: u64, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    fuse_out_header { len, error, unique }.put(&mut message);
    message.extend_from_slice(body);
    message
}

fn send(agent: &UnixStream, kind: FrameKind, payload: &[u8]) {
    FrameWriter::new(agent).send(kind, payload).unwrap();
}

#[test]
fn the_beginning_is_answered_without_the_guest() {
    let (mut bed, _) = bed(0);
    let mut body = Vec::new();
    fuse_init_in { major: 7, minor: 38, max_readahead: 1 << 20, flags: u32::MAX }.put(&mut body);
    bed.ask(spec::FUSE_INIT, 2, &body);
    let (unique, error, reply) = bed.told().unwrap();
    assert_eq!((unique, error, reply.len()), (2, 0, fuse_init_out::SIZE));
    let out = fuse_init_out::take(&mut reply.as_slice()).unwrap();
    assert_eq!((out.major, out.max_write, out.max_readahead), (7, FUSE_DATA, FUSE_DATA));
    assert_eq!(u64::from(out.flags), FEATURES, "nothing that the relay does not know is agreed to");
    for (major, minor) in [(6, 40), (7, 8)] {
        let mut body = Vec::new();
        fuse_init_in { major, minor, ..Default::default() }.put(&mut body);
        bed.ask(spec::FUSE_INIT, 4, &body);
        assert_eq!(bed.error(), Some((4, errno::EPROTO)));
    }
}

#[test]
fn without_a_container_there_are_no_files() {
    let (mut bed, _) = bed(0);
    bed.ask(spec::FUSE_GETATTR, 2, &[0; 16]);
    assert_eq!(bed.error(), Some((2, errno::ENOTCONN)));
    bed.ask(spec::FUSE_FORGET, 4, &[0; 8]);
    assert_eq!(bed.told(), None);
}

#[test]
fn requests_wait_for_the_agent_and_are_answered_in_any_order() {
    let (mut bed, agents) = bed(1);
    bed.ask(spec::FUSE_LOOKUP, 2, b"one\0");
    bed.ask(spec::FUSE_LOOKUP, 4, b"two\0");
    bed.agree(&agents[0]);
    assert_eq!([asked(&agents[0]), asked(&agents[0])], [(spec::FUSE_LOOKUP, 2), (spec::FUSE_LOOKUP, 4)]);
    send(&agents[0], FrameKind::Fuse, &answer(20, 0, 4, b"four"));
    bed.relay.turn().unwrap();
    assert_eq!(bed.told(), Some((4, 0, b"four".to_vec())));
    send(&agents[0], FrameKind::Fuse, &answer(16, -2, 2, b""));
    bed.relay.turn().unwrap();
    assert_eq!(bed.error(), Some((2, errno::ENOENT)));
    bed.ask(spec::FUSE_FORGET, 6, &[0; 8]);
    assert_eq!(asked(&agents[0]), (spec::FUSE_FORGET, 6));
    assert!(bed.relay.pending.is_empty());
}

#[test]
fn what_is_the_kernels_own_affair_does_not_reach_the_guest() {
    let (mut bed, _agents) = bed(1);
    for opcode in [spec::FUSE_FLUSH, spec::FUSE_IOCTL, spec::FUSE_POLL, spec::FUSE_SETLK, spec::FUSE_SYNCFS, 4096] {
        bed.ask(opcode, 2, &[0; 64]);
        assert_eq!(bed.error(), Some((2, errno::ENOSYS)), "{opcode}");
    }
    assert!(bed.relay.link.is_none());
}

#[test]
fn a_guest_that_breaks_the_rules_loses_its_connection_and_no_more() {
    let two = |message: &[u8]| {
        let mut bytes = Vec::new();
        encode_frame(FrameKind::Fuse, message, &mut bytes).unwrap();
        bytes
    };
    let moves = [
        ("a reply to nobody", two(&answer(16, 0, 9, b""))),
        ("a notification", two(&answer(16, 3, 0, b""))),
        ("a reply twice", [two(&answer(16, 0, 4, b"")), two(&answer(16, 0, 4, b""))].concat()),
        ("an error that is none", two(&answer(16, 5, 2, b""))),
        ("an error of the kernel's own", two(&answer(16, -512, 2, b""))),
        ("a length that is too small", two(&answer(16, 0, 2, b"more"))),
        ("a length that is too large", two(&answer(u32::MAX, 0, 2, b""))),
        ("half a header", two(&[16, 0, 0, 0, 0])),
        ("nothing", two(&[])),
        ("a frame that is too long", vec![9, 0, 255, 255, 255]),
        ("a frame of another kind", vec![1, 0, 0, 0, 1, 65]),
        ("no frame", vec![77; 64]),
    ];
    for (name, bytes) in moves {
        let (mut bed, agents) = bed(2);
        bed.ask(spec::FUSE_GETATTR, 2, &[0; 16]);
        bed.ask(spec::FUSE_GETATTR, 4, &[0; 16]);
        bed.agree(&agents[0]);
        (&agents[0]).write_all(&bytes).unwrap();
        bed.relay.turn().unwrap();
        let mut told: Vec<_> = std::iter::from_fn(|| bed.error()).collect();
        told.sort_unstable();
        let first = (2, errno::EIO);
        let second = if name == "a reply twice" { (4, 0) } else { (4, errno::EIO) };
        assert_eq!(told, [first, second], "{name}");
        // The next who asks has another connection.
        bed.ask(spec::FUSE_STATFS, 6, &[]);
        bed.agree(&agents[1]);
        assert_eq!(asked(&agents[1]), (spec::FUSE_STATFS, 6), "{name}");
    }
}

#[test]
fn an_agent_that_refuses_or_goes_away_leaves_nobody_waiting() {
    let refusal = ErrorReply {
        code: supermachine_agent_protocol::ErrorCode::Unavailable,
        errno: None,
        message: "no\u{1b}[2J".into(),
    };
    for refuses in [true, false] {
        let (mut bed, mut agents) = bed(1);
        bed.ask(spec::FUSE_GETATTR, 2, &[0; 16]);
        if refuses {
            FrameWriter::new(&agents[0]).send_json(FrameKind::Error, &refusal).unwrap();
        } else {
            agents.clear();
        }
        bed.relay.turn().unwrap();
        assert_eq!(bed.error(), Some((2, errno::EIO)));
        assert!(bed.relay.link.is_none());
    }
}

#[test]
fn a_process_that_is_killed_does_not_wait_for_the_guest() {
    let (mut bed, agents) = bed(2);
    for unique in [2, 4, 6, 8, 10] {
        bed.ask(spec::FUSE_GETATTR, unique, &[0; 16]);
    }
    bed.agree(&agents[0]);
    bed.ask(spec::FUSE_INTERRUPT, 3, &2u64.to_le_bytes());
    // An interrupt of what is not there, and one that says nothing.
    bed.ask(spec::FUSE_INTERRUPT, 99, &98u64.to_le_bytes());
    bed.ask(spec::FUSE_INTERRUPT, 99, &[]);
    bed.relay.give_up_late(Instant::now());
    assert_eq!(bed.told(), None, "a guest that is only slow is given its time");
    let begin = Instant::now();
    bed.relay.turn().unwrap();
    assert_eq!(bed.error(), Some((2, errno::EINTR)));
    assert!(begin.elapsed() <= 2 * PATIENCE);
    // What the guest says too late is for nobody, and no offence.
    send(&agents[0], FrameKind::Fuse, &answer(16, 0, 2, b""));
    bed.relay.turn().unwrap();
    assert_eq!((bed.told(), bed.relay.link.is_some()), (None, true));
    for unique in [4, 6, 8, 10] {
        bed.ask(spec::FUSE_INTERRUPT, unique + 1, &u64::to_le_bytes(unique));
    }
    bed.relay.give_up_late(Instant::now() + PATIENCE);
    let mut told: Vec<_> = std::iter::from_fn(|| bed.error()).collect();
    told.sort_unstable();
    assert_eq!(told, [4, 6, 8, 10].map(|unique| (unique, errno::EINTR)));
    assert!(bed.relay.link.is_none(), "a server that does not answer at all is given up");
}

#[test]
fn a_guest_that_takes_nothing_fills_no_more_than_a_limit() {
    let (mut bed, agents) = bed(1);
    bed.ask(spec::FUSE_GETATTR, 1, &[0; 16]);
    bed.agree(&agents[0]);
    for unique in 2..=PENDING_MAX as u64 {
        bed.ask(spec::FUSE_WRITE, unique, &[0; 4096]);
    }
    assert_eq!(bed.told(), None);
    bed.ask(spec::FUSE_WRITE, 5000, &[0; 4096]);
    assert_eq!(bed.error(), Some((5000, errno::EBUSY)));
    // Somebody who is killed is still heard.
    bed.ask(spec::FUSE_INTERRUPT, 7, &1u64.to_le_bytes());
    bed.relay.give_up_late(Instant::now() + PATIENCE);
    assert_eq!(bed.error(), Some((1, errno::EINTR)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_guest_says_everybody_is_answered(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        agreed in any::<bool>(),
        framed in any::<bool>(),
    ) {
        let (mut bed, agents) = bed(1);
        for unique in 2..6 {
            bed.ask(spec::FUSE_LOOKUP, unique, b"name\0");
        }
        if agreed {
            bed.agree(&agents[0]);
        }
        if framed {
            send(&agents[0], FrameKind::Fuse, &bytes);
        } else {
            (&agents[0]).write_all(&bytes).unwrap();
        }
        drop(agents);
        while bed.relay.link.is_some() {
            bed.relay.turn().unwrap();
        }
        let mut told: Vec<_> = std::iter::from_fn(|| bed.error().map(|(unique, _)| unique)).collect();
        told.sort_unstable();
        prop_assert_eq!(told, [2, 3, 4, 5]);
    }
}
