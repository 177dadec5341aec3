//! Credit both ways, fairness, and whole streams.

use super::*;

#[test]
fn data_for_the_guest_stops_at_its_credit() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (_, host) = guest.established(1028, &pipe);
    guest.credit(host, 1028, 1000, 0);
    pipe.say(&[7; 2500]);
    let id = ConnId(1);
    guest.ready(id);
    assert_eq!(guest.next().expect("data").data.len(), 1000);
    guest.expect(spec::OP_CREDIT_REQUEST);
    guest.ready(id);
    assert_eq!(guest.next(), None, "asked once");
    guest.credit(host, 1028, 1000, 600);
    assert_eq!(guest.next().expect("data").data.len(), 600);
    guest.expect(spec::OP_CREDIT_REQUEST);
    guest.credit(host, 1028, 1000, 1600);
    assert_eq!(guest.next().expect("data").data.len(), 900);
    assert_eq!(guest.next(), None);
}

#[test]
fn nonsense_credit_is_no_credit() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (_, host) = guest.established(1028, &pipe);
    guest.credit(host, 1028, 1000, 5);
    pipe.say(b"x");
    guest.ready(ConnId(1));
    guest.expect(spec::OP_CREDIT_REQUEST);
    assert_eq!(guest.next(), None, "more was consumed than was ever sent");
}

#[test]
fn the_guest_hears_of_freed_space() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    pipe.lock().room = 0;
    let (id, host) = guest.established(1028, &pipe);
    (0..4).for_each(|_| guest.send_data(host, 1028, &[1; 64 * 1024]));
    assert_eq!(guest.next(), None, "nothing was freed");
    guest.send(host, 1028, spec::OP_CREDIT_REQUEST);
    let update = guest.expect(spec::OP_CREDIT_UPDATE);
    assert_eq!((update.buf_alloc, update.fwd_cnt), (spec::BUF_ALLOC, 0));
    pipe.lock().room = 100 * 1024;
    guest.ready(id);
    assert_eq!(guest.expect(spec::OP_CREDIT_UPDATE).fwd_cnt, 100 * 1024);
    // A guest that passes its credit is cut off; what it was allowed to send still arrives.
    guest.send_data(host, 1028, &[2; 60 * 1024]);
    guest.send_data(host, 1028, &[2; 60 * 1024]);
    guest.expect(spec::OP_RST);
    pipe.lock().room = usize::MAX;
    guest.ready(id);
    assert!(pipe.lock().dropped);
    assert_eq!(pipe.lock().from_guest.len(), 316 * 1024);
}

#[test]
fn connections_take_turns() {
    let mut guest = Guest::without_buffers();
    let pipes: Vec<Pipe> = (0..4).map(|_| Pipe::new()).collect();
    let ids: Vec<ConnId> = pipes.iter().map(|pipe| guest.connect(1028, pipe)).collect();
    guest.give_buffers();
    for _ in &ids {
        let request = guest.expect(spec::OP_REQUEST);
        guest.send(request.src_port, 1028, spec::OP_RESPONSE);
    }
    pipes.iter().for_each(|pipe| pipe.say(&[9; 100_000]));
    ids.iter().for_each(|id| guest.device().on_stream_ready(*id));
    guest.driver.service();
    let order: Vec<u32> = (0..40).map(|_| guest.expect(spec::OP_RW).src_port).collect();
    for round in order.chunks(4) {
        let mut ports = round.to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 4, "{order:?}");
    }
}

#[test]
fn a_blocked_host_end_does_not_hold_up_others() {
    let mut guest = Guest::new();
    let (stuck, free) = (Pipe::new(), Pipe::new());
    stuck.lock().room = 0;
    let (_, stuck_port) = guest.established(1028, &stuck);
    let (_, free_port) = guest.established(1028, &free);
    for _ in 0..4 {
        guest.send_data(stuck_port, 1028, &[1; 60_000]);
        guest.send_data(free_port, 1028, &[2; 60_000]);
    }
    assert_eq!(free.lock().from_guest.len(), 240_000);
    assert!(stuck.lock().from_guest.is_empty());
}

/// 20 MiB each way through buffers of Linux's size, with a host end that takes and gives in odd pieces.
#[test]
fn whole_streams_arrive_intact() {
    const TOTAL: usize = 20 << 20;
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, host) = guest.established(1028, &pipe);
    let pattern = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let (mut sent, mut got, mut fed, mut told, mut credit_base) = (0, 0usize, 0, 0, 0u32);
    let mut turn = 0usize;
    while sent < TOTAL || got < TOTAL || pipe.lock().from_guest.len() < TOTAL {
        turn += 1;
        assert!(turn < 20_000, "no progress: {sent} {got}");
        let in_flight = (sent as u32).wrapping_sub(credit_base);
        let chunk = (turn * 7919 % 65_536).min(TOTAL - sent).min((spec::BUF_ALLOC - in_flight) as usize);
        if chunk > 0 {
            let data: Vec<u8> = (sent..sent + chunk).map(pattern).collect();
            sent += chunk;
            let len = chunk as u32;
            let header = Header { len, fwd_cnt: got as u32, ..Guest::header(host, 1028, spec::OP_RW) };
            guest.send_raw(header, &data);
        }
        let feed = (turn * 104_729 % 200_000).min(TOTAL - fed);
        pipe.say(&(fed..fed + feed).map(pattern).collect::<Vec<u8>>());
        fed += feed;
        pipe.lock().room = turn * 31_337 % 150_000;
        guest.ready(id);
        while let Some(seen) = guest.next() {
            credit_base = seen.header.fwd_cnt;
            for byte in seen.data {
                assert_eq!(byte, pattern(got));
                got += 1;
            }
        }
        if got - told >= 64 * 1024 || chunk == 0 {
            told = got;
            guest.credit(host, 1028, GUEST_BUF, got as u32);
        }
    }
    assert!(pipe.lock().from_guest.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
}

/// Resets wait for buffers, not in an ever longer list: the device stops taking packets instead.
#[test]
fn a_guest_that_gives_no_receive_buffers_blocks_itself() {
    let mut guest = Guest::without_buffers();
    let (mut offered, mut taken) = (0, 0);
    for port in 0..spec::MAX_RESETS as u32 + 100 {
        let head = guest.driver.out(&Guest::header(1, port, spec::OP_RW).encode());
        guest.driver.send(TX, &[head]);
        offered += 1;
        while guest.driver.used(TX).is_some() {
            taken += 1;
        }
    }
    assert_eq!((taken, guest.device().resets.len()), (spec::MAX_RESETS, spec::MAX_RESETS));
    guest.give_buffers();
    let mut resets = 0;
    while let Some(seen) = guest.next() {
        assert_eq!(seen.header.op, spec::OP_RST);
        resets += 1;
    }
    assert_eq!(resets, offered, "none is lost");
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let mut guest = Guest::without_buffers();
    for port in 0..300 {
        guest.listener.expect(1028);
        guest.send(1028, port, spec::OP_REQUEST);
        guest.send(1028, port, spec::OP_RST);
    }
    assert_eq!((guest.device().connection_count(), guest.device().table.in_line()), (0, 0));
}
