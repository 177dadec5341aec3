//! The socket device: packets from the transmit queue, packets to the receive queue, the reset event.

use std::collections::VecDeque;

use super::connection::{GuestSide, Ports};
use super::pump::Stopped;
use super::table::Table;
use super::{ConnId, Dialer, HostStream, VsockState, spec};
use crate::virtio::spec::device_type;
use crate::virtio::{DeviceError, Progress, Queue, VirtioDevice, read_config_bytes};
use crate::{GuestMemory, RestoreError};

/// Why the host cannot connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The guest has no socket driver at work.
    #[error("the guest's vsock driver is not ready")]
    DriverNotReady,
    /// The table is full.
    #[error("{limit} vsock connections is the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// The way of a transport reset to the guest. While it is under way nothing is sent: the guest would drop a new
/// connection together with the old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResetEvent {
    Idle,
    ToSend,
    /// Sent; the driver is through with it when it gives an event buffer back, moving the index from here.
    Sent {
        avail_idx: u16,
    },
}

/// A virtio socket device.
pub struct Vsock {
    pub(super) guest_cid: u64,
    next_port: u32,
    pub(super) dialer: Box<dyn Dialer>,
    pub(super) table: Table,
    /// Connections to refuse or reset that the table does not (or no longer) hold.
    pub(super) resets: VecDeque<Ports>,
    reset_event: ResetEvent,
    active: bool,
    pub(super) scratch: Vec<u8>,
}

impl std::fmt::Debug for Vsock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vsock")
            .field("guest_cid", &self.guest_cid)
            .field("connections", &self.table.len())
            .field("reset_event", &self.reset_event)
            .finish_non_exhaustive()
    }
}

impl Vsock {
    /// A device for a guest with the given context id (3 or above).
    #[must_use]
    pub fn new(guest_cid: u32, dialer: Box<dyn Dialer>) -> Self {
        Self {
            guest_cid: u64::from(guest_cid),
            next_port: spec::FIRST_HOST_PORT,
            dialer,
            table: Table::default(),
            resets: VecDeque::new(),
            reset_event: ResetEvent::Idle,
            active: false,
            scratch: vec![0; spec::MAX_PAYLOAD],
        }
    }

    /// A device as it was saved, without the connections: a guest that may hold some hears of a transport reset first
    /// of all.
    ///
    /// # Errors
    /// A saved number is out of range.
    pub fn restore(state: VsockState, dialer: Box<dyn Dialer>) -> Result<Self, RestoreError> {
        let VsockState { guest_cid, next_port, active, connected } = state;
        if !(spec::MIN_GUEST_CID..=spec::MAX_GUEST_CID).contains(&guest_cid) {
            return Err(RestoreError::Field { field: "guest_cid", value: guest_cid });
        }
        if !(spec::FIRST_HOST_PORT..=spec::LAST_HOST_PORT).contains(&next_port) {
            return Err(RestoreError::Field { field: "next_port", value: u64::from(next_port) });
        }
        let reset_event = if active && connected { ResetEvent::ToSend } else { ResetEvent::Idle };
        Ok(Self { guest_cid, next_port, reset_event, ..Self::new(0, dialer) })
    }

    /// State to save. Connections are not part of it.
    #[must_use]
    pub fn save(&self) -> VsockState {
        let Self { guest_cid, next_port, dialer: _, table, resets, reset_event, active, scratch: _ } = self;
        // What the table does not hold, the guest was told the end of, or is about to read it in its queue.
        let connected = table.len() > 0 || !resets.is_empty() || *reset_event != ResetEvent::Idle;
        VsockState { guest_cid: *guest_cid, next_port: *next_port, active: *active, connected }
    }

    /// Connects to a listener in the guest. If the guest refuses, `stream` is dropped. Service the transport afterwards.
    ///
    /// # Errors
    /// No driver, or too many connections; `stream` is dropped.
    pub fn connect(&mut self, guest_port: u32, stream: Box<dyn HostStream>) -> Result<ConnId, ConnectError> {
        if !self.active {
            return Err(ConnectError::DriverNotReady);
        }
        if self.table.is_full() {
            return Err(ConnectError::TooMany { limit: spec::MAX_CONNECTIONS });
        }
        let ports = Ports { host: self.take_port(guest_port), guest: guest_port };
        let id = self.table.next_id();
        self.table.insert(id, ports, GuestSide::Requested { told: false }, stream);
        Ok(id)
    }

    /// The stream of `id` may have become readable or writable: edge-triggered readiness is enough, and names of
    /// connections that are over are ignored. Service the transport afterwards.
    pub fn on_stream_ready(&mut self, id: ConnId) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.on_ready();
            self.table.schedule(id);
        }
    }

    /// Ends a connection from the host's side at once: its stream is dropped and the guest gets a reset.
    /// Service the transport afterwards.
    pub fn close(&mut self, id: ConnId) {
        if let Some(ports) = self.table.remove(id) {
            self.resets.push_back(ports);
        }
    }

    /// Drops every connection and tells the guest to do the same; listeners survive. Service the transport afterwards.
    pub fn reset_transport(&mut self) {
        self.table.clear();
        self.resets.clear();
        if self.active {
            self.reset_event = ResetEvent::ToSend;
        }
    }

    /// Whether the guest has yet to handle a transport reset; until then connections wait.
    #[must_use]
    pub fn reset_under_way(&self) -> bool {
        self.reset_event != ResetEvent::Idle
    }

    /// Connections there are, those that still drain to the host included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.table.len()
    }

    /// Ports go up, so that one comes back only after all others.
    fn take_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = if host >= spec::LAST_HOST_PORT { spec::FIRST_HOST_PORT } else { host.saturating_add(1) };
            // Ends: the table holds far fewer connections than there are ports.
            if self.table.find(Ports { host, guest }).is_none() {
                return host;
            }
        }
    }

    fn run(&mut self, mem: &GuestMemory, queues: &mut [Queue]) -> Result<Progress, DeviceError> {
        let [rx, tx, event] = queues else { return Ok(Progress::Done) };
        self.drive_reset_event(mem, event)?;
        let stopped = self.take_packets(mem, tx)?;
        let given = self.give_packets(mem, rx)?;
        let resumable = stopped == Stopped::TooManyResets && self.resets.len() < spec::MAX_RESETS;
        let taken = if stopped == Stopped::Budget || resumable { Progress::More } else { Progress::Done };
        Ok(given.and(taken))
    }

    fn drive_reset_event(&mut self, mem: &GuestMemory, event: &mut Queue) -> Result<(), DeviceError> {
        if self.reset_event == ResetEvent::ToSend {
            if !event.is_ready() {
                self.reset_event = ResetEvent::Idle;
            } else if let Some(mut chain) = event.pop(mem)? {
                // In this order, so that a driver that is quick with the buffer is not missed.
                let avail_idx = event.avail_idx(mem)?;
                event.notify_at(mem, avail_idx)?;
                let written = chain.writable.write(mem, &spec::EVENT_TRANSPORT_RESET.to_le_bytes())?;
                event.push_used(mem, chain.head, written as u32)?;
                self.reset_event = ResetEvent::Sent { avail_idx };
            }
        }
        if let ResetEvent::Sent { avail_idx } = self.reset_event
            && event.avail_idx(mem)? != avail_idx
        {
            self.reset_event = ResetEvent::Idle;
        }
        Ok(())
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        device_type::SOCKET
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        spec::QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.guest_cid.to_le_bytes(), offset, data);
    }

    fn activate(&mut self, _features: u64) {
        self.active = true;
    }

    fn process_queue(
        &mut self,
        _index: usize,
        mem: &GuestMemory,
        queues: &mut [Queue],
    ) -> Result<Progress, DeviceError> {
        self.run(mem, queues)
    }

    fn service(&mut self, mem: &GuestMemory, queues: &mut [Queue]) -> Result<Progress, DeviceError> {
        self.run(mem, queues)
    }

    fn reset(&mut self) {
        let Self { guest_cid: _, next_port: _, dialer: _, table, resets, reset_event, active, scratch: _ } = self;
        table.clear();
        resets.clear();
        *reset_event = ResetEvent::Idle;
        *active = false;
    }
}
