use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::packet::Header;
use super::*;
use crate::virtio::testing::{Driver, reg};
use crate::virtio::{MmioDevice, Transport};

mod flow;
mod hostile;
mod lifecycle;

const CID: u64 = 3;
const RX: usize = 0;
const TX: usize = 1;
const EVENT: usize = 2;
/// What Linux 6.12 gives a receive buffer: a page less the socket buffer's own needs.
const RX_BUFFER: u32 = 3776;
const RX_BUFFERS: usize = 64;
const GUEST_BUF: u32 = 256 * 1024;

/// What the test's end of a host stream sees and does.
#[derive(Default)]
struct Shared {
    to_guest: VecDeque<u8>,
    to_guest_eof: bool,
    from_guest: Vec<u8>,
    from_guest_eof: bool,
    /// Bytes the stream takes before it would block.
    room: usize,
    reads_broken: bool,
    writes_broken: bool,
    dropped: bool,
}

/// A host stream whose other end is the test.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Shared>>);

impl Pipe {
    fn new() -> Self {
        let pipe = Self::default();
        pipe.lock().room = usize::MAX;
        pipe
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("no test panics with the lock")
    }

    fn say(&self, bytes: &[u8]) {
        self.lock().to_guest.extend(bytes);
    }

    fn stream(&self) -> Box<dyn HostStream> {
        Box::new(PipeStream(self.clone()))
    }
}

/// The device's end.
struct PipeStream(Pipe);

impl HostStream for PipeStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut shared = self.0.lock();
        assert!(!buf.is_empty(), "an empty read looks like the end");
        if shared.reads_broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if shared.to_guest.is_empty() {
            return if shared.to_guest_eof { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = buf.len().min(shared.to_guest.len());
        for (to, from) in buf.iter_mut().zip(shared.to_guest.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut shared = self.0.lock();
        assert!(!shared.from_guest_eof, "a write after the end");
        if shared.writes_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = buf.len().min(shared.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        shared.room -= count;
        shared.from_guest.extend(&buf[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.lock().from_guest_eof = true;
        Ok(())
    }
}

impl Drop for PipeStream {
    fn drop(&mut self) {
        self.0.lock().dropped = true;
    }
}

/// A port, who answers there, and the connection that took it.
type Answer = (u32, Pipe, Option<ConnId>);

/// Accepts what was prepared, port by port.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<Answer>>>);

impl Listener {
    fn expect(&self, port: u32) -> Pipe {
        let pipe = Pipe::new();
        self.0.lock().expect("no test panics with the lock").push((port, pipe.clone(), None));
        pipe
    }

    fn id(&self, port: u32) -> Option<ConnId> {
        let all = self.0.lock().expect("no test panics with the lock");
        all.iter().find(|entry| entry.0 == port).and_then(|entry| entry.2)
    }
}

impl Dialer for Listener {
    fn dial(&mut self, id: ConnId, port: u32) -> Option<Box<dyn HostStream>> {
        let mut all = self.0.lock().expect("no test panics with the lock");
        let entry = all.iter_mut().find(|entry| entry.0 == port && entry.2.is_none())?;
        entry.2 = Some(id);
        Some(entry.1.stream())
    }
}

/// The guest: a driver whose receive ring is full of Linux-sized buffers, and eight event buffers.
struct Guest {
    driver: Driver<Vsock>,
    listener: Listener,
    rx_buffers: Vec<(u16, u64)>,
}

/// A packet as the guest sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    header: Header,
    data: Vec<u8>,
}

impl Guest {
    fn new() -> Self {
        let mut guest = Self::without_buffers();
        guest.give_buffers();
        guest
    }

    fn without_buffers() -> Self {
        let listener = Listener::default();
        let driver = Driver::new(Vsock::new(CID as u32, Box::new(listener.clone())));
        Self { driver, listener, rx_buffers: Vec::new() }
    }

    fn give_buffers(&mut self) {
        for _ in 0..RX_BUFFERS {
            let room = self.driver.room(RX_BUFFER);
            let head = self.driver.offer(RX, &[room]);
            self.rx_buffers.push((head, room.gpa));
        }
        self.driver.kick(RX);
        for _ in 0..8 {
            let room = self.driver.room(4);
            self.driver.offer(EVENT, &[room]);
        }
        self.driver.kick(EVENT);
    }

    fn device(&mut self) -> &mut Vsock {
        self.driver.transport.device_mut()
    }

    fn connect(&mut self, port: u32, pipe: &Pipe) -> ConnId {
        let id = self.device().connect(port, pipe.stream()).expect("the device takes connections");
        self.driver.service();
        id
    }

    fn ready(&mut self, id: ConnId) {
        self.device().on_stream_ready(id);
        self.driver.service();
    }

    fn header(host: u32, guest: u32, op: u16) -> Header {
        Header {
            src_cid: CID,
            dst_cid: spec::HOST_CID,
            src_port: guest,
            dst_port: host,
            len: 0,
            kind: spec::TYPE_STREAM,
            op,
            flags: 0,
            buf_alloc: GUEST_BUF,
            fwd_cnt: 0,
        }
    }

    fn send_raw(&mut self, header: Header, data: &[u8]) {
        let head = self.driver.out(&header.encode());
        if data.is_empty() {
            self.driver.send(TX, &[head]);
        } else {
            let data = self.driver.out(data);
            self.driver.send(TX, &[head, data]);
        }
        while self.driver.used(TX).is_some() {}
    }

    fn send(&mut self, host: u32, guest: u32, op: u16) {
        self.send_raw(Self::header(host, guest, op), &[]);
    }

    fn send_data(&mut self, host: u32, guest: u32, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..Self::header(host, guest, spec::OP_RW) };
        self.send_raw(header, data);
    }

    fn shutdown(&mut self, host: u32, guest: u32, flags: u32) {
        self.send_raw(Header { flags, ..Self::header(host, guest, spec::OP_SHUTDOWN) }, &[]);
    }

    /// Tells how much the guest has consumed of a connection.
    fn credit(&mut self, host: u32, guest: u32, buf_alloc: u32, fwd_cnt: u32) {
        self.send_raw(Header { buf_alloc, fwd_cnt, ..Self::header(host, guest, spec::OP_CREDIT_UPDATE) }, &[]);
    }

    /// Takes the next packet and gives its buffer back.
    fn next(&mut self) -> Option<Seen> {
        let (head, len) = self.driver.used(RX)?;
        let at = self.rx_buffers.iter().position(|buffer| buffer.0 == head).expect("one of ours");
        let (_, gpa) = self.rx_buffers.swap_remove(at);
        let bytes = self.driver.bytes(gpa, len as usize);
        let header = Header::decode(bytes.first_chunk().expect("a packet has a header"));
        assert_eq!((header.src_cid, header.dst_cid, header.kind), (spec::HOST_CID, CID, spec::TYPE_STREAM));
        assert_eq!(header.len as usize, bytes.len() - spec::HEADER_SIZE);
        let room = self.driver.room(RX_BUFFER);
        let head = self.driver.offer(RX, &[room]);
        self.rx_buffers.push((head, room.gpa));
        self.driver.kick(RX);
        Some(Seen { header, data: bytes[spec::HEADER_SIZE..].to_vec() })
    }

    fn expect(&mut self, op: u16) -> Header {
        let seen = self.next().expect("a packet");
        assert_eq!(seen.header.op, op, "{seen:?}");
        seen.header
    }

    /// A connection from the host, established. Gives its name and host port.
    fn established(&mut self, port: u32, pipe: &Pipe) -> (ConnId, u32) {
        let id = self.connect(port, pipe);
        let request = self.expect(spec::OP_REQUEST);
        assert_eq!(request.dst_port, port);
        self.send(request.src_port, port, spec::OP_RESPONSE);
        (id, request.src_port)
    }

    fn restored(self) -> Self {
        let Self { driver, listener, rx_buffers } = self;
        let (vsock, transport) = (driver.transport.device().save(), driver.transport.save_transport());
        let text = serde_json::to_string(&vsock).expect("state serialises");
        let vsock = serde_json::from_str(&text).expect("state parses");
        let vsock = Vsock::restore(vsock, Box::new(listener.clone())).expect("its own state is good");
        let transport = Transport::restore(transport, vsock, &driver.mem).expect("its own state is good");
        let mut driver = driver.with_transport(transport);
        driver.service();
        Self { driver, listener, rx_buffers }
    }
}

#[test]
fn headers_encode_and_decode() {
    let header = Header {
        src_cid: 1,
        dst_cid: 2,
        src_port: 3,
        dst_port: 4,
        len: 5,
        kind: 6,
        op: 7,
        flags: 8,
        buf_alloc: 9,
        fwd_cnt: 10,
    };
    let bytes = header.encode();
    let at: Vec<(usize, u8)> = bytes.iter().copied().enumerate().filter(|(_, byte)| *byte != 0).collect();
    let expected = [(0, 1), (8, 2), (16, 3), (20, 4), (24, 5), (28, 6), (30, 7), (32, 8), (36, 9), (40, 10)];
    assert_eq!(at, expected);
    assert_eq!(Header::decode(&bytes), header);
}

#[test]
fn tells_the_guest_its_cid() {
    let mut guest = Guest::new();
    assert_eq!(guest.driver.config::<8>(0), CID.to_le_bytes());
    assert_eq!(guest.driver.config::<4>(4), [0; 4]);
    guest.driver.write(reg::CONFIG, 99);
    assert_eq!(guest.driver.config::<8>(0), CID.to_le_bytes());
}
