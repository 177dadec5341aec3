//! How connections begin and end, and what a restore does to them.

use super::*;

#[test]
fn host_connects_and_the_guest_answers() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    pipe.say(b"early");
    let (id, host) = guest.established(1028, &pipe);
    let seen = guest.next().expect("data that waited for the answer");
    assert_eq!((seen.header.op, seen.data.as_slice()), (spec::OP_RW, &b"early"[..]));
    guest.send_data(host, 1028, b"hello host");
    assert_eq!(pipe.lock().from_guest, b"hello host");
    pipe.say(b"later");
    guest.ready(id);
    assert_eq!(guest.next().expect("data").data, b"later");
    assert_eq!(guest.next(), None);
}

#[test]
fn a_refusal_drops_the_stream() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    guest.connect(1028, &pipe);
    let request = guest.expect(spec::OP_REQUEST);
    assert!(!pipe.lock().dropped);
    guest.send(request.src_port, 1028, spec::OP_RST);
    assert!(pipe.lock().dropped);
    assert_eq!(guest.next(), None, "no reset answers a reset");
    assert_eq!(guest.device().connection_count(), 0);
}

#[test]
fn guest_connects_to_what_the_dialer_accepts() {
    let mut guest = Guest::new();
    let pipe = guest.listener.expect(1028);
    guest.send(1028, 5000, spec::OP_REQUEST);
    let response = guest.expect(spec::OP_RESPONSE);
    assert_eq!((response.src_port, response.dst_port, response.buf_alloc), (1028, 5000, spec::BUF_ALLOC));
    guest.send_data(1028, 5000, b"up");
    assert_eq!(pipe.lock().from_guest, b"up");
    let id = guest.listener.id(1028).expect("the dialer was asked");
    pipe.say(b"ok");
    guest.ready(id);
    assert_eq!(guest.next().expect("data").data, b"ok");

    guest.send(1029, 5001, spec::OP_REQUEST);
    let refused = guest.expect(spec::OP_RST);
    assert_eq!((refused.src_port, refused.dst_port), (1029, 5001));
}

#[test]
fn the_host_end_closing_is_eof_for_the_guest() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, host) = guest.established(1028, &pipe);
    pipe.say(b"last words");
    pipe.lock().to_guest_eof = true;
    guest.ready(id);
    assert_eq!(guest.next().expect("data comes before the end").data, b"last words");
    assert_eq!(guest.expect(spec::OP_SHUTDOWN).flags, spec::SHUTDOWN_SEND);
    assert_eq!(guest.next(), None, "told once");
    // The guest can still answer.
    guest.send_data(host, 1028, b"bye");
    assert_eq!(pipe.lock().from_guest, b"bye");
    guest.shutdown(host, 1028, 3);
    guest.expect(spec::OP_RST);
    assert!(pipe.lock().dropped);
    assert_eq!(guest.device().connection_count(), 0);
}

#[test]
fn the_guest_can_end_its_half_alone() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, host) = guest.established(1028, &pipe);
    guest.send_data(host, 1028, b"request");
    guest.shutdown(host, 1028, spec::SHUTDOWN_SEND);
    {
        let shared = pipe.lock();
        assert!(shared.from_guest_eof && !shared.dropped);
    }
    pipe.say(b"answer");
    guest.ready(id);
    assert_eq!(guest.next().expect("data").data, b"answer");
    pipe.lock().to_guest_eof = true;
    guest.ready(id);
    assert_eq!(guest.expect(spec::OP_SHUTDOWN).flags, 3, "both halves are over now");
    assert!(pipe.lock().dropped, "nothing more can be done with the stream");
    guest.send(host, 1028, spec::OP_RST);
    assert_eq!(guest.device().connection_count(), 0);
    assert_eq!(guest.next(), None);
}

#[test]
fn a_stream_with_both_halves_over_is_dropped_whoever_was_first() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    pipe.lock().to_guest_eof = true;
    let (_, host) = guest.established(1028, &pipe);
    assert_eq!(guest.expect(spec::OP_SHUTDOWN).flags, spec::SHUTDOWN_SEND);
    assert!(!pipe.lock().dropped);
    guest.shutdown(host, 1028, spec::SHUTDOWN_SEND);
    assert!(pipe.lock().dropped);
    assert_eq!(guest.device().connection_count(), 1, "the guest has yet to let go");
}

#[test]
fn what_the_guest_sent_before_closing_arrives_though_the_host_was_slow() {
    for last in [spec::OP_SHUTDOWN, spec::OP_RST] {
        let mut guest = Guest::new();
        let pipe = Pipe::new();
        pipe.lock().room = 10;
        let (id, host) = guest.established(1028, &pipe);
        let data: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        data.chunks(60_000).for_each(|chunk| guest.send_data(host, 1028, chunk));
        guest.send_raw(Header { flags: 3, ..Guest::header(host, 1028, last) }, &[]);
        if last == spec::OP_SHUTDOWN {
            guest.expect(spec::OP_RST);
        }
        assert!(!pipe.lock().dropped, "190 kB still wait");
        // The guest may use the port again at once.
        let again = Pipe::new();
        guest.established(1028, &again);
        while !pipe.lock().dropped {
            pipe.lock().room = 30_000;
            guest.ready(id);
        }
        let shared = pipe.lock();
        assert_eq!(shared.from_guest, data);
        assert!(shared.from_guest_eof);
        assert!(!again.lock().dropped);
    }
}

#[test]
fn a_host_that_stops_reading_is_a_shutdown_of_that_half() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, host) = guest.established(1028, &pipe);
    pipe.lock().writes_broken = true;
    guest.send_data(host, 1028, b"nobody hears");
    assert_eq!(guest.expect(spec::OP_SHUTDOWN).flags, spec::SHUTDOWN_RECEIVE);
    pipe.say(b"still talking");
    guest.ready(id);
    assert_eq!(guest.next().expect("data").data, b"still talking");
    // The guest is not held up by what nobody reads.
    (0..20).for_each(|_| guest.send_data(host, 1028, &[0; 60_000]));
    assert_eq!(guest.device().connection_count(), 1);
}

#[test]
fn a_broken_stream_ends_both_halves() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, _) = guest.established(1028, &pipe);
    pipe.lock().reads_broken = true;
    guest.ready(id);
    assert_eq!(guest.expect(spec::OP_SHUTDOWN).flags, 3);
    assert!(pipe.lock().dropped);
}

#[test]
fn the_host_can_close_at_once() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, host) = guest.established(1028, &pipe);
    guest.device().close(id);
    guest.driver.service();
    assert!(pipe.lock().dropped);
    assert_eq!(guest.expect(spec::OP_RST).src_port, host);
    guest.device().close(id);
    guest.ready(id);
    assert_eq!(guest.next(), None);
}

#[test]
fn packets_for_no_connection_are_reset() {
    let mut guest = Guest::new();
    for op in
        [spec::OP_RESPONSE, spec::OP_SHUTDOWN, spec::OP_RW, spec::OP_CREDIT_UPDATE, spec::OP_CREDIT_REQUEST, 0, 99]
    {
        guest.send(7, 8, op);
        let reset = guest.expect(spec::OP_RST);
        assert_eq!((reset.src_port, reset.dst_port), (7, 8));
    }
    guest.send(7, 8, spec::OP_RST);
    assert_eq!(guest.next(), None);
}

#[test]
fn foreign_cids_get_no_answer_at_all() {
    let mut guest = Guest::new();
    let pipe = guest.listener.expect(1028);
    let request = Guest::header(1028, 5000, spec::OP_REQUEST);
    for (src_cid, dst_cid) in
        [(4, 2), (2, 2), (3, 3), (3, 1), (3, 0), (0, 2), (3 | 1 << 32, 2), (3, 2 | 1 << 32), (3, u64::MAX)]
    {
        guest.send_raw(Header { src_cid, dst_cid, ..request }, &[]);
        assert_eq!(guest.next(), None);
    }
    assert_eq!(guest.listener.id(1028), None);
    assert!(!pipe.lock().dropped);
}

#[test]
fn datagrams_and_oversized_packets_are_reset() {
    let mut guest = Guest::new();
    guest.send_raw(Header { kind: 3, ..Guest::header(1, 2, spec::OP_REQUEST) }, &[]);
    guest.expect(spec::OP_RST);
    let pipe = Pipe::new();
    let (_, host) = guest.established(1028, &pipe);
    guest.send_raw(Header { len: 100, ..Guest::header(host, 1028, spec::OP_RW) }, &[1; 99]);
    guest.expect(spec::OP_RST);
    assert!(pipe.lock().dropped);
    assert!(pipe.lock().from_guest.is_empty());
}

#[test]
fn a_second_request_on_the_same_ports_ends_the_connection() {
    let mut guest = Guest::new();
    let pipe = guest.listener.expect(1028);
    guest.send(1028, 5000, spec::OP_REQUEST);
    guest.expect(spec::OP_RESPONSE);
    guest.send(1028, 5000, spec::OP_REQUEST);
    guest.expect(spec::OP_RST);
    assert!(pipe.lock().dropped);
}

#[test]
fn connections_are_bounded_and_host_ports_not_reused() {
    let mut guest = Guest::new();
    let mut pipes = Vec::new();
    for _ in 0..spec::MAX_CONNECTIONS {
        let pipe = Pipe::new();
        guest.connect(1028, &pipe);
        pipes.push((pipe, guest.expect(spec::OP_REQUEST).src_port));
    }
    let refused = guest.device().connect(1028, Pipe::new().stream());
    assert_eq!(refused.err(), Some(ConnectError::TooMany { limit: spec::MAX_CONNECTIONS }));
    guest.listener.expect(1028);
    guest.send(1028, 5000, spec::OP_REQUEST);
    guest.expect(spec::OP_RST);

    let ports: std::collections::HashSet<u32> = pipes.iter().map(|entry| entry.1).collect();
    assert_eq!(ports.len(), pipes.len());
    guest.send(pipes[0].1, 1028, spec::OP_RST);
    assert!(pipes[0].0.lock().dropped);
    guest.connect(1028, &Pipe::new());
    assert!(!ports.contains(&guest.expect(spec::OP_REQUEST).src_port));
}

#[test]
fn connecting_needs_a_driver() {
    let mut vsock = Vsock::new(CID as u32, Box::new(Listener::default()));
    let pipe = Pipe::new();
    assert_eq!(vsock.connect(1, pipe.stream()).err(), Some(ConnectError::DriverNotReady));
    assert!(pipe.lock().dropped);
}

#[test]
fn a_driver_reset_drops_every_stream() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    guest.established(1028, &pipe);
    guest.driver.write(reg::STATUS, 0);
    assert!(pipe.lock().dropped);
    assert!(guest.device().connect(1028, Pipe::new().stream()).is_err());
}

/// The guest drops every connection it has when it handles the event, so nothing new may reach it before.
#[test]
fn after_a_restore_connections_wait_for_the_guest_to_handle_the_reset() {
    let mut guest = Guest::new();
    let old = Pipe::new();
    let (_, old_port) = guest.established(1028, &old);
    let mut guest = guest.restored();
    assert!(old.lock().dropped, "the old device is gone");
    let (head, len) = guest.driver.used(EVENT).expect("the event");
    assert_eq!(len, 4);

    let pipe = Pipe::new();
    let id = guest.connect(1028, &pipe);
    guest.ready(id);
    // A packet of the old connection that was on its way.
    guest.send_data(old_port, 1028, b"stale");
    assert_eq!(guest.next(), None, "all of it waits");
    assert!(guest.device().reset_under_way());

    let kicks = guest.driver.kicks;
    guest.driver.offer_head(EVENT, head);
    guest.driver.kick(EVENT);
    assert_eq!(guest.driver.kicks, kicks + 1, "the device asked to hear of this one buffer");
    assert_eq!(guest.expect(spec::OP_RST).src_port, old_port);
    let request = guest.expect(spec::OP_REQUEST);
    assert!(request.src_port > old_port, "the guest may still hold the old port");
    guest.send(request.src_port, 1028, spec::OP_RESPONSE);
    guest.send_data(request.src_port, 1028, b"fresh");
    assert_eq!(pipe.lock().from_guest, b"fresh");
    assert!(guest.driver.used(EVENT).is_none());
}

#[test]
fn a_reset_while_running_is_the_same() {
    let mut guest = Guest::new();
    let pipe = Pipe::new();
    let (id, _) = guest.established(1028, &pipe);
    guest.device().reset_transport();
    guest.driver.service();
    assert!(pipe.lock().dropped);
    guest.ready(id);
    let event = guest.driver.used(EVENT).expect("the event");
    assert_eq!(event.1, 4);
    guest.driver.offer_head(EVENT, event.0);
    guest.driver.kick(EVENT);
    assert!(!guest.device().reset_under_way());
}

#[test]
fn bad_saved_numbers_are_refused() {
    let good = VsockState { guest_cid: 3, next_port: spec::FIRST_HOST_PORT, active: true, connected: true };
    let restore = |state| Vsock::restore(state, Box::new(Listener::default()));
    assert!(restore(good.clone()).is_ok());
    for guest_cid in [0, 2, u64::from(u32::MAX), u64::MAX] {
        assert!(restore(VsockState { guest_cid, ..good.clone() }).is_err());
    }
    for next_port in [0, 1028, u32::MAX] {
        assert!(restore(VsockState { next_port, ..good.clone() }).is_err());
    }
}
