//! Random packets, random host ends, random guests.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fuzz;

/// One thing that happens to the device.
#[derive(Debug, Clone)]
enum Event {
    Packet { header: Header, data: usize },
    Connect { port: u32 },
    Ready { id: u64 },
    Close { id: u64 },
    HostSays { pipe: usize, len: usize, eof: bool },
    HostTakes { pipe: usize, room: usize, broken: bool },
    TakePackets { count: usize },
    Reset,
    AcknowledgeReset,
}

fn header() -> impl Strategy<Value = Header> {
    let cid = |good: u64| prop_oneof![30 => Just(good), 1 => any::<u64>()];
    let host_port = prop_oneof![4 => 1u32..4, 8 => spec::FIRST_HOST_PORT..spec::FIRST_HOST_PORT + 6, 1 => any::<u32>()];
    let guest_port = prop_oneof![8 => 1u32..4, 1 => any::<u32>()];
    let op = prop_oneof![
        2 => Just(spec::OP_REQUEST),
        4 => Just(spec::OP_RESPONSE),
        4 => Just(spec::OP_RW),
        1 => any::<u16>(),
        3 => 0u16..9
    ];
    let counter = || prop_oneof![0u32..5000, Just(GUEST_BUF), any::<u32>()];
    let len = prop_oneof![8 => Just(None), 1 => any::<u32>().prop_map(Some)];
    (cid(CID), cid(spec::HOST_CID), host_port, guest_port, op, (counter(), counter(), 0u32..5, len)).prop_map(
        |(src_cid, dst_cid, dst_port, src_port, op, (buf_alloc, fwd_cnt, flags, len))| Header {
            src_cid,
            dst_cid,
            src_port,
            dst_port,
            len: len.unwrap_or(0x5555_5555),
            kind: if flags == 4 { 2 } else { 1 },
            op,
            flags,
            buf_alloc,
            fwd_cnt,
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        12 => (header(), prop_oneof![Just(0usize), 0usize..70_000]).prop_map(|(header, data)| Event::Packet { header, data }),
        4 => (1u32..4).prop_map(|port| Event::Connect { port }),
        6 => (0u64..12).prop_map(|id| Event::Ready { id }),
        1 => (0u64..12).prop_map(|id| Event::Close { id }),
        4 => (0usize..8, 0usize..300_000, proptest::bool::weighted(0.2))
            .prop_map(|(pipe, len, eof)| Event::HostSays { pipe, len, eof }),
        4 => (0usize..8, 0usize..300_000, proptest::bool::weighted(0.1))
            .prop_map(|(pipe, room, broken)| Event::HostTakes { pipe, room, broken }),
        6 => (0usize..40).prop_map(|count| Event::TakePackets { count }),
        1 => Just(Event::Reset),
        2 => Just(Event::AcknowledgeReset),
    ];
    vec(one, 1..60)
}

fn happen(guest: &mut Guest, pipes: &mut Vec<Pipe>, event: Event) {
    match event {
        Event::Packet { mut header, data } => {
            if header.len == 0x5555_5555 {
                header.len = data as u32;
            }
            guest.send_raw(header, &vec![0x42; data]);
        }
        Event::Connect { port } => {
            let pipe = Pipe::new();
            pipe.lock().room = 1000;
            guest.connect(port, &pipe);
            pipes.push(pipe);
        }
        Event::Ready { id } => guest.ready(ConnId(id)),
        Event::Close { id } => {
            guest.device().close(ConnId(id));
            guest.driver.service();
        }
        Event::HostSays { pipe, len, eof } => {
            let Some(pipe) = pipes.get(pipe) else { return };
            pipe.say(&vec![0x24; len]);
            pipe.lock().to_guest_eof |= eof;
        }
        Event::HostTakes { pipe, room, broken } => {
            let Some(pipe) = pipes.get(pipe) else { return };
            pipe.lock().room = room;
            pipe.lock().writes_broken |= broken;
        }
        Event::TakePackets { count } => (0..count).for_each(|_| {
            guest.next();
        }),
        Event::Reset => {
            guest.device().reset_transport();
            guest.driver.service();
        }
        Event::AcknowledgeReset => {
            if let Some((head, _)) = guest.driver.used(EVENT) {
                guest.driver.offer_head(EVENT, head);
                guest.driver.kick(EVENT);
            }
        }
    }
}

/// Whatever is said in whatever order: the device runs on, and no stream outlives its connection.
#[test]
fn survives_any_order_of_events() {
    fuzz::check(&events(), |events| {
        let mut guest = Guest::new();
        let mut pipes: Vec<Pipe> = (1..4).map(|port| guest.listener.expect(port)).collect();
        for event in events {
            happen(&mut guest, &mut pipes, event);
            assert!(guest.driver.transport.is_running());
        }
        let streams = pipes.iter().filter(|pipe| Arc::strong_count(&pipe.0) > 1).count();
        assert!(guest.device().connection_count() <= streams + 60);
        guest.driver.write(reg::STATUS, 0);
        let dialled = (1..4).filter(|port| guest.listener.id(*port).is_some()).count();
        let dropped = pipes.iter().filter(|pipe| pipe.lock().dropped).count();
        assert_eq!(dropped, dialled + pipes.len() - 3, "every stream is dropped, none is leaked");
    });
}

fn fuzzed() -> Vsock {
    let listener = Listener::default();
    (0..8).for_each(|_| {
        listener.expect(0);
    });
    Vsock::new(CID as u32, Box::new(listener))
}

#[test]
fn survives_a_hostile_guest() {
    fuzz::hostile_guest(fuzzed);
}

#[test]
fn survives_a_hostile_state() {
    fuzz::hostile_transport_state(fuzzed);
}
