//! One connection: flow control both ways and the two halves of its end.

use std::collections::VecDeque;
use std::io;

use super::packet::Header;
use super::{HostStream, spec};

/// The two ports that name a connection to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// The guest's side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestSide {
    /// The host asked; the packet was not sent yet (`told: false`) or waits for its answer.
    Requested { told: bool },
    /// The guest asked and waits for the answer.
    Accepted,
    /// Data flows.
    Established,
    /// The guest has nothing more to do with it; what it sent still drains to the host.
    Gone,
}

/// What to send to the guest, besides what every packet says; `len` bytes of data are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) len: usize,
}

impl Outgoing {
    pub(super) fn control(op: u16, flags: u32) -> Self {
        Self { op, flags, len: 0 }
    }
}

/// The guest broke the protocol; the connection has to be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation;

pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) guest: GuestSide,
    /// Whether the connection is in the round-robin list.
    pub(super) queued: bool,
    /// `None` once both halves of it are over.
    stream: Option<Box<dyn HostStream>>,
    // Guest to host.
    pending: VecDeque<u8>,
    fwd_cnt: u32,
    told_fwd_cnt: u32,
    writable: bool,
    owes_credit: bool,
    guest_done_sending: bool,
    host_done_receiving: bool,
    // Host to guest.
    tx_cnt: u32,
    peer_buf_alloc: u32,
    peer_fwd_cnt: u32,
    readable: bool,
    asked_credit: bool,
    guest_done_receiving: bool,
    host_done_sending: bool,
    told_shutdown: u32,
}

impl Connection {
    pub(super) fn new(ports: Ports, guest: GuestSide, stream: Box<dyn HostStream>) -> Self {
        Self {
            ports,
            guest,
            queued: false,
            stream: Some(stream),
            pending: VecDeque::new(),
            fwd_cnt: 0,
            told_fwd_cnt: 0,
            writable: true,
            owes_credit: false,
            guest_done_sending: false,
            host_done_receiving: false,
            tx_cnt: 0,
            peer_buf_alloc: 0,
            peer_fwd_cnt: 0,
            readable: true,
            asked_credit: false,
            guest_done_receiving: false,
            host_done_sending: false,
            told_shutdown: 0,
        }
    }

    /// Takes the credit that every packet of the guest carries.
    pub(super) fn update_peer(&mut self, header: &Header) {
        self.peer_buf_alloc = header.buf_alloc;
        self.peer_fwd_cnt = header.fwd_cnt;
        if self.peer_credit() > 0 {
            self.asked_credit = false;
        }
    }

    /// Bytes the guest has room for. Nonsense counters give zero.
    fn peer_credit(&self) -> u32 {
        self.peer_buf_alloc.saturating_sub(self.tx_cnt.wrapping_sub(self.peer_fwd_cnt))
    }

    /// The host's end may have become readable or writable.
    pub(super) fn on_ready(&mut self) {
        self.readable = true;
        self.writable = true;
        self.flush();
    }

    /// Whether nothing is left to do for either side.
    pub(super) fn is_over(&self) -> bool {
        self.guest == GuestSide::Gone && (self.pending.is_empty() || self.stream.is_none())
    }

    /// Takes data from the guest: straight to the host where it takes it, else into the buffer the guest was promised.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<(), Violation> {
        let held = self.pending.len().saturating_add(data.len());
        if self.guest_done_sending || held > spec::BUF_ALLOC as usize {
            return Err(Violation);
        }
        let mut rest = data;
        if self.pending.is_empty() {
            while !rest.is_empty() && self.writable {
                let count = self.write_some(WriteFrom::Slice(rest));
                rest = rest.get(count..).unwrap_or_default();
            }
        }
        if self.host_done_receiving {
            self.consumed(rest.len());
        } else {
            self.pending.extend(rest);
        }
        Ok(())
    }

    /// Writes what was held back, then ends the stream's write half if the guest is done.
    fn flush(&mut self) {
        while self.writable && !self.pending.is_empty() {
            let count = self.write_some(WriteFrom::Pending);
            self.pending.drain(..count.min(self.pending.len()));
        }
        if self.host_done_receiving {
            let lost = std::mem::take(&mut self.pending);
            self.consumed(lost.len());
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
            if self.guest_done_sending && !self.host_done_receiving {
                // An error means that the host has closed already, which a read will tell.
                let _ = self.stream.as_mut().map(|stream| stream.shutdown_write());
                self.host_done_receiving = true;
            }
        }
        self.drop_finished_stream();
    }

    /// One write. Gives the bytes written; clears `writable` or sets `host_done_receiving` when that ends.
    fn write_some(&mut self, from: WriteFrom<'_>) -> usize {
        let bytes = match from {
            WriteFrom::Slice(bytes) => bytes,
            WriteFrom::Pending => self.pending.as_slices().0,
        };
        let result = match self.stream.as_mut() {
            Some(stream) => stream.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match result {
            // A stream that claims more than it was given is not believed.
            Ok(count) if count > 0 => {
                let count = count.min(bytes.len());
                self.consumed(count);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                0
            }
            _ => {
                self.writable = false;
                self.host_done_receiving = true;
                0
            }
        }
    }

    fn consumed(&mut self, count: usize) {
        self.fwd_cnt = self.fwd_cnt.wrapping_add(count as u32);
        self.owes_credit |= self.fwd_cnt.wrapping_sub(self.told_fwd_cnt) >= spec::CREDIT_STEP;
    }

    /// The guest asked how much room there is.
    pub(super) fn on_credit_request(&mut self) {
        self.owes_credit = true;
    }

    /// The guest ends one half or both (virtio 1.2 §5.10.6.5). With both over, the caller resets the guest's side.
    pub(super) fn on_shutdown(&mut self, flags: u32) {
        self.guest_done_sending |= flags & spec::SHUTDOWN_SEND != 0;
        self.guest_done_receiving |= flags & spec::SHUTDOWN_RECEIVE != 0;
        self.flush();
    }

    /// Whether the guest neither sends nor receives any more.
    pub(super) fn guest_is_done(&self) -> bool {
        self.guest_done_sending && self.guest_done_receiving
    }

    /// The guest's side is over; what it sent is still written to the host.
    pub(super) fn leave_guest(&mut self) {
        self.guest = GuestSide::Gone;
        self.guest_done_sending = true;
        self.guest_done_receiving = true;
        self.flush();
    }

    /// The next packet for the guest, with its data (at most `buf.len()` bytes) in `buf`.
    pub(super) fn next_packet(&mut self, buf: &mut [u8]) -> Option<Outgoing> {
        match self.guest {
            GuestSide::Requested { told: false } => {
                self.guest = GuestSide::Requested { told: true };
                return Some(Outgoing::control(spec::OP_REQUEST, 0));
            }
            GuestSide::Accepted => {
                self.guest = GuestSide::Established;
                return Some(Outgoing::control(spec::OP_RESPONSE, 0));
            }
            GuestSide::Established => {}
            GuestSide::Requested { told: true } | GuestSide::Gone => return None,
        }
        if let Some(packet) = self.next_data(buf) {
            return Some(packet);
        }
        if self.owes_credit {
            return Some(Outgoing::control(spec::OP_CREDIT_UPDATE, 0));
        }
        self.next_shutdown()
    }

    fn next_data(&mut self, buf: &mut [u8]) -> Option<Outgoing> {
        if !self.readable || self.host_done_sending || self.guest_done_receiving {
            return None;
        }
        let credit = self.peer_credit() as usize;
        if credit == 0 {
            let ask = !std::mem::replace(&mut self.asked_credit, true);
            return ask.then(|| Outgoing::control(spec::OP_CREDIT_REQUEST, 0));
        }
        let room = buf.len().min(credit).min(spec::MAX_PAYLOAD);
        let buf = buf.get_mut(..room)?;
        let stream = self.stream.as_mut()?;
        match stream.read(buf) {
            Ok(count) if count > 0 => {
                let len = count.min(room);
                self.tx_cnt = self.tx_cnt.wrapping_add(len as u32);
                return Some(Outgoing { op: spec::OP_RW, flags: 0, len });
            }
            Ok(_) => self.host_done_sending = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            // Stays readable; the next turn tries again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                self.host_done_sending = true;
                self.host_done_receiving = true;
                self.flush();
            }
        }
        self.drop_finished_stream();
        None
    }

    /// Tells the guest, once, of each half that the host has ended.
    fn next_shutdown(&mut self) -> Option<Outgoing> {
        let mut flags = 0;
        if self.host_done_sending {
            flags |= spec::SHUTDOWN_SEND;
        }
        if self.host_done_receiving {
            flags |= spec::SHUTDOWN_RECEIVE;
        }
        // That the host takes no more is no news to a guest that sends no more.
        let news = flags & !self.told_shutdown;
        if news == 0 || (news == spec::SHUTDOWN_RECEIVE && self.guest_done_sending) {
            return None;
        }
        self.told_shutdown |= flags;
        Some(Outgoing::control(spec::OP_SHUTDOWN, flags))
    }

    /// Whether a turn in the round robin could give a packet.
    pub(super) fn wants_turn(&self) -> bool {
        match self.guest {
            GuestSide::Requested { told } => !told,
            GuestSide::Accepted => true,
            GuestSide::Gone => false,
            GuestSide::Established => {
                let data = self.readable
                    && !self.host_done_sending
                    && !self.guest_done_receiving
                    && (self.peer_credit() > 0 || !self.asked_credit);
                let ended = (self.host_done_sending && self.told_shutdown & spec::SHUTDOWN_SEND == 0)
                    || (self.host_done_receiving
                        && !self.guest_done_sending
                        && self.told_shutdown & spec::SHUTDOWN_RECEIVE == 0);
                data || self.owes_credit || ended
            }
        }
    }

    /// The counters that go into every packet to the guest; it knows of them from then on.
    pub(super) fn stamp(&mut self, header: &mut Header) {
        header.buf_alloc = spec::BUF_ALLOC;
        header.fwd_cnt = self.fwd_cnt;
        self.told_fwd_cnt = self.fwd_cnt;
        self.owes_credit = false;
    }

    fn drop_finished_stream(&mut self) {
        if self.host_done_sending && self.host_done_receiving {
            self.stream = None;
        }
    }
}

enum WriteFrom<'a> {
    Slice(&'a [u8]),
    Pending,
}
