//! Packets in and out: the transmit queue into connections, connections into the receive queue.

use super::connection::{GuestSide, Outgoing, Ports};
use super::device::Vsock;
use super::packet::Header;
use super::spec;
use crate::GuestMemory;
use crate::virtio::{Chain, DeviceError, Progress, Queue};

/// Why the device stopped taking packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Empty,
    Budget,
    TooManyResets,
}

impl Vsock {
    pub(super) fn take_packets(&mut self, mem: &GuestMemory, tx: &mut Queue) -> Result<Stopped, DeviceError> {
        for _ in 0..spec::CALL_BUDGET {
            if self.resets.len() >= spec::MAX_RESETS {
                return Ok(Stopped::TooManyResets);
            }
            let Some(chain) = tx.pop(mem)? else { return Ok(Stopped::Empty) };
            let head = chain.head;
            self.take_packet(mem, chain)?;
            tx.push_used(mem, head, 0)?;
        }
        Ok(Stopped::Budget)
    }

    /// One packet from the guest. Packets that are not from this guest to this host vanish.
    fn take_packet(&mut self, mem: &GuestMemory, mut chain: Chain) -> Result<(), DeviceError> {
        let mut header = [0; spec::HEADER_SIZE];
        if chain.readable.read(mem, &mut header)? != header.len() {
            return Ok(());
        }
        let header = Header::decode(&header);
        if header.src_cid != self.guest_cid || header.dst_cid != spec::HOST_CID {
            return Ok(());
        }
        let ports = Ports { host: header.dst_port, guest: header.src_port };
        let len = header.len as usize;
        if header.kind != spec::TYPE_STREAM || len > spec::MAX_PAYLOAD || u64::from(header.len) > chain.readable.len() {
            self.refuse(ports, header.op);
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let read = chain.readable.read(mem, scratch.get_mut(..len).unwrap_or_default());
        if read.is_ok() {
            self.dispatch(ports, &header, scratch.get(..len).unwrap_or_default());
        }
        self.scratch = scratch;
        Ok(read.map(|_| ())?)
    }

    fn dispatch(&mut self, ports: Ports, header: &Header, data: &[u8]) {
        let Some(id) = self.table.find(ports) else {
            match header.op {
                spec::OP_REQUEST => self.accept(ports, header),
                op => self.refuse(ports, op),
            }
            return;
        };
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.update_peer(header);
        let legal = match (connection.guest, header.op) {
            (_, spec::OP_RST) => {
                self.table.leave_guest(id);
                return;
            }
            (GuestSide::Requested { told: true }, spec::OP_RESPONSE) => {
                connection.guest = GuestSide::Established;
                true
            }
            (GuestSide::Accepted | GuestSide::Established, op) => match op {
                spec::OP_RW => connection.receive(data).is_ok(),
                spec::OP_CREDIT_UPDATE => true,
                spec::OP_CREDIT_REQUEST => {
                    connection.on_credit_request();
                    true
                }
                spec::OP_SHUTDOWN => {
                    connection.on_shutdown(header.flags);
                    !connection.guest_is_done()
                }
                _ => false,
            },
            _ => false,
        };
        if legal {
            self.table.schedule(id);
        } else {
            // Also the regular end: the answer to a full shutdown is a reset (virtio 1.2 §5.10.6.5).
            self.refuse(ports, header.op);
        }
    }

    fn accept(&mut self, ports: Ports, header: &Header) {
        let id = self.table.next_id();
        let stream = if self.table.is_full() { None } else { self.dialer.dial(id, ports.host) };
        let Some(stream) = stream else { return self.refuse(ports, header.op) };
        self.table.insert(id, ports, GuestSide::Accepted, stream);
        if let Some(connection) = self.table.get_mut(id) {
            connection.update_peer(header);
        }
    }

    /// Ends what the guest has under these ports and answers with a reset, except to a reset.
    fn refuse(&mut self, ports: Ports, op: u16) {
        if let Some(id) = self.table.find(ports) {
            self.table.leave_guest(id);
        }
        if op != spec::OP_RST {
            self.resets.push_back(ports);
        }
    }

    pub(super) fn give_packets(&mut self, mem: &GuestMemory, rx: &mut Queue) -> Result<Progress, DeviceError> {
        if self.reset_under_way() {
            return Ok(Progress::Done);
        }
        for _ in 0..spec::CALL_BUDGET {
            if self.resets.is_empty() && !self.table.has_turns() {
                return Ok(Progress::Done);
            }
            let Some(mut chain) = rx.pop(mem)? else { return Ok(Progress::Done) };
            let room = chain.writable.len();
            if room <= spec::HEADER_SIZE as u64 {
                return Err(DeviceError::Malformed { what: "a vsock receive buffer has no room for data" });
            }
            let room = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(spec::HEADER_SIZE);
            let Some(header) = self.next_packet(room) else {
                rx.undo_pop();
                return Ok(Progress::Done);
            };
            chain.writable.write(mem, &header.encode())?;
            chain.writable.write(mem, self.scratch.get(..header.len as usize).unwrap_or_default())?;
            rx.push_used(mem, chain.head, header.len.saturating_add(spec::HEADER_SIZE as u32))?;
        }
        Ok(Progress::More)
    }

    /// The next packet in turn; its data is in `scratch`.
    fn next_packet(&mut self, room: usize) -> Option<Header> {
        if let Some(ports) = self.resets.pop_front() {
            return Some(self.header(ports, Outgoing::control(spec::OP_RST, 0)));
        }
        while let Some(id) = self.table.take_turn() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            let room = room.min(self.scratch.len());
            let packet = connection.next_packet(self.scratch.get_mut(..room).unwrap_or_default());
            let ports = connection.ports;
            let header = packet.map(|packet| {
                let mut header = self.header(ports, packet);
                if let Some(connection) = self.table.get_mut(id) {
                    connection.stamp(&mut header);
                }
                header
            });
            self.table.schedule(id);
            if header.is_some() {
                return header;
            }
        }
        None
    }

    fn header(&self, ports: Ports, packet: Outgoing) -> Header {
        Header {
            src_cid: spec::HOST_CID,
            dst_cid: self.guest_cid,
            src_port: ports.host,
            dst_port: ports.guest,
            len: packet.len as u32,
            kind: spec::TYPE_STREAM,
            op: packet.op,
            flags: packet.flags,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }
}
