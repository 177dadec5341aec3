//! Plays the guest's driver: sets a device up, fills rings, takes used buffers, counts interrupts.

use vm_memory::{Bytes, GuestAddress};

use super::spec::{feature, status};
use super::{MmioDevice, Transport, VirtioDevice};
use crate::{Effects, GuestMemory};

/// RAM of the test guest: two pieces with a hole between them.
pub(crate) const RAM: [(u64, usize); 2] = [(0, 4 << 20), (8 << 20, 4 << 20)];
const RINGS: u64 = 0x1_0000;
const DATA: u64 = 1 << 20;
const DATA_END: u64 = 4 << 20;

pub(crate) const DESC_NEXT: u16 = 1;
pub(crate) const DESC_WRITE: u16 = 2;
pub(crate) const DESC_INDIRECT: u16 = 4;

/// Registers the tests name (virtio 1.2 §4.2.2).
pub(crate) mod reg {
    pub(crate) const DEVICE_FEATURES: u64 = 0x10;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub(crate) const DRIVER_FEATURES: u64 = 0x20;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(crate) const QUEUE_SEL: u64 = 0x30;
    pub(crate) const QUEUE_NUM_MAX: u64 = 0x34;
    pub(crate) const QUEUE_NUM: u64 = 0x38;
    pub(crate) const QUEUE_READY: u64 = 0x44;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x50;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x60;
    pub(crate) const INTERRUPT_ACK: u64 = 0x64;
    pub(crate) const STATUS: u64 = 0x70;
    pub(crate) const DESC_LOW: u64 = 0x80;
    pub(crate) const AVAIL_LOW: u64 = 0x90;
    pub(crate) const USED_LOW: u64 = 0xa0;
    pub(crate) const CONFIG_GENERATION: u64 = 0xfc;
    pub(crate) const CONFIG: u64 = 0x100;
}

pub(crate) fn guest_memory() -> GuestMemory {
    let ranges = RAM.map(|(start, len)| (GuestAddress(start), len));
    GuestMemory::from_ranges(&ranges).expect("test memory maps")
}

/// One descriptor of a chain to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) gpa: u64,
    pub(crate) len: u32,
    pub(crate) write: bool,
}

/// The driver's view of one ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriverRing {
    pub(crate) size: u16,
    pub(crate) desc: u64,
    pub(crate) avail: u64,
    pub(crate) used: u64,
    next_desc: u16,
    avail_idx: u16,
    kicked_idx: u16,
    used_idx: u16,
}

pub(crate) struct Driver<D> {
    pub(crate) transport: Transport<D>,
    pub(crate) mem: GuestMemory,
    pub(crate) rings: Vec<DriverRing>,
    pub(crate) interrupts: u32,
    pub(crate) kicks: u32,
    next_data: u64,
}

impl<D: VirtioDevice> Driver<D> {
    /// A device brought up to DRIVER_OK with every feature it offers.
    pub(crate) fn new(device: D) -> Self {
        let mut driver = Self::cold(device);
        driver.start();
        driver
    }

    /// A device after reset.
    pub(crate) fn cold(device: D) -> Self {
        Self {
            transport: Transport::new(device),
            mem: guest_memory(),
            rings: Vec::new(),
            interrupts: 0,
            kicks: 0,
            next_data: DATA,
        }
    }

    /// The same guest with another transport: a restore.
    pub(crate) fn with_transport<E: VirtioDevice>(self, transport: Transport<E>) -> Driver<E> {
        let Self { transport: _, mem, rings, interrupts, kicks, next_data } = self;
        Driver { transport, mem, rings, interrupts, kicks, next_data }
    }

    pub(crate) fn start(&mut self) {
        assert_eq!((self.read(0), self.read(4)), (0x7472_6976, 2));
        self.write(reg::STATUS, 0);
        self.write(reg::STATUS, status::ACKNOWLEDGE);
        self.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        for select in 0..2 {
            self.write(reg::DEVICE_FEATURES_SEL, select);
            self.write(reg::DRIVER_FEATURES_SEL, select);
            let offered = self.read(reg::DEVICE_FEATURES);
            self.write(reg::DRIVER_FEATURES, offered);
        }
        let negotiated = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.write(reg::STATUS, negotiated);
        assert_eq!(self.read(reg::STATUS), negotiated);
        self.set_up_queues();
        self.write(reg::STATUS, negotiated | status::DRIVER_OK);
        assert_eq!(self.read(reg::STATUS), negotiated | status::DRIVER_OK);
    }

    fn set_up_queues(&mut self) {
        self.rings.clear();
        for index in 0.. {
            self.write(reg::QUEUE_SEL, index);
            let size = self.read(reg::QUEUE_NUM_MAX);
            if size == 0 {
                break;
            }
            let base = RINGS * (u64::from(index) + 1);
            let (desc, avail, used) = (base, base + 0x8000, base + 0xc000);
            self.mem.write_slice(&[0; RINGS as usize], GuestAddress(base)).expect("rings are in memory");
            self.write(reg::QUEUE_NUM, size);
            self.write(reg::DESC_LOW, desc as u32);
            self.write(reg::AVAIL_LOW, avail as u32);
            self.write(reg::USED_LOW, used as u32);
            self.write(reg::QUEUE_READY, 1);
            assert_eq!(self.read(reg::QUEUE_READY), 1);
            let size = u16::try_from(size).expect("a queue size has 16 bits");
            let ring = DriverRing { size, desc, avail, used, next_desc: 0, avail_idx: 0, kicked_idx: 0, used_idx: 0 };
            self.rings.push(ring);
        }
    }

    pub(crate) fn read(&mut self, offset: u64) -> u32 {
        let mut bytes = [0xee; 4];
        self.transport.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        let effects = self.transport.write(offset, &value.to_le_bytes(), &self.mem);
        self.carry_out(effects);
    }

    pub(crate) fn service(&mut self) {
        let effects = self.transport.service(&self.mem);
        self.carry_out(effects);
    }

    /// Counts interrupts, acknowledges nothing, and services until there is no more.
    fn carry_out(&mut self, mut effects: Effects) {
        for _ in 0..10_000 {
            self.interrupts += u32::from(effects.interrupt);
            if !effects.again {
                return;
            }
            effects = self.transport.service(&self.mem);
        }
        panic!("the device always wants more service");
    }

    pub(crate) fn failed(&mut self) -> bool {
        self.read(reg::STATUS) & status::DEVICE_NEEDS_RESET != 0
    }

    /// Room for data, contents left over from before.
    pub(crate) fn alloc(&mut self, len: u32) -> u64 {
        if self.next_data + u64::from(len) > DATA_END {
            self.next_data = DATA;
        }
        let gpa = self.next_data;
        self.next_data += u64::from(len);
        assert!(self.next_data <= DATA_END, "{len} bytes do not fit");
        gpa
    }

    /// A readable piece with contents.
    pub(crate) fn out(&mut self, data: &[u8]) -> Piece {
        let len = u32::try_from(data.len()).expect("test data is short");
        let gpa = self.alloc(len);
        self.mem.write_slice(data, GuestAddress(gpa)).expect("data is in memory");
        Piece { gpa, len, write: false }
    }

    /// A writable piece, filled with a pattern.
    pub(crate) fn room(&mut self, len: u32) -> Piece {
        let gpa = self.alloc(len);
        self.mem.write_slice(&vec![0xaa; len as usize], GuestAddress(gpa)).expect("data is in memory");
        Piece { gpa, len, write: true }
    }

    pub(crate) fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.mem.read_slice(&mut bytes, GuestAddress(gpa)).expect("data is in memory");
        bytes
    }

    pub(crate) fn put_descriptor(&self, table: u64, index: u16, piece: Piece, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&piece.gpa.to_le_bytes());
        raw[8..12].copy_from_slice(&piece.len.to_le_bytes());
        raw[12..14].copy_from_slice(&(flags | if piece.write { DESC_WRITE } else { 0 }).to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        self.mem.write_slice(&raw, GuestAddress(table + u64::from(index) * 16)).expect("table is in memory");
    }

    /// Makes a chain available without a notification.
    pub(crate) fn offer(&mut self, queue: usize, pieces: &[Piece]) -> u16 {
        let ring = self.rings[queue];
        let slot = |position: usize| (usize::from(ring.next_desc) + position) as u16 % ring.size;
        for (position, piece) in pieces.iter().enumerate() {
            let last = position + 1 == pieces.len();
            let flags = if last { 0 } else { DESC_NEXT };
            self.put_descriptor(ring.desc, slot(position), *piece, flags, slot(position + 1));
        }
        self.rings[queue].next_desc = slot(pieces.len());
        self.offer_head(queue, slot(0));
        slot(0)
    }

    pub(crate) fn offer_head(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let entry = ring.avail + 4 + u64::from(ring.avail_idx % ring.size) * 2;
        ring.avail_idx = ring.avail_idx.wrapping_add(1);
        self.mem.write_obj(head, GuestAddress(entry)).expect("ring is in memory");
        self.mem.write_obj(ring.avail_idx, GuestAddress(ring.avail + 2)).expect("ring is in memory");
    }

    /// Notifies if the device asked for it (`avail_event`), as Linux does.
    pub(crate) fn kick(&mut self, queue: usize) {
        let ring = &mut self.rings[queue];
        let event_at = GuestAddress(ring.used + 4 + u64::from(ring.size) * 8);
        let event: u16 = self.mem.read_obj(event_at).expect("ring is in memory");
        let (new, old) = (ring.avail_idx, ring.kicked_idx);
        ring.kicked_idx = new;
        if new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old) {
            self.kicks += 1;
            self.write(reg::QUEUE_NOTIFY, queue as u32);
        }
    }

    pub(crate) fn send(&mut self, queue: usize, pieces: &[Piece]) -> u16 {
        let head = self.offer(queue, pieces);
        self.kick(queue);
        head
    }

    /// The next used buffer: its head and the bytes written. Asks for an interrupt for the one after it.
    pub(crate) fn used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let ring = &mut self.rings[queue];
        let idx: u16 = self.mem.read_obj(GuestAddress(ring.used + 2)).expect("ring is in memory");
        if idx == ring.used_idx {
            return None;
        }
        let entry = ring.used + 4 + u64::from(ring.used_idx % ring.size) * 8;
        ring.used_idx = ring.used_idx.wrapping_add(1);
        let event_at = GuestAddress(ring.avail + 4 + u64::from(ring.size) * 2);
        self.mem.write_obj(ring.used_idx, event_at).expect("ring is in memory");
        let id: u32 = self.mem.read_obj(GuestAddress(entry)).expect("ring is in memory");
        let len: u32 = self.mem.read_obj(GuestAddress(entry + 4)).expect("ring is in memory");
        Some((u16::try_from(id).expect("heads have 16 bits"), len))
    }

    pub(crate) fn features(&mut self) -> u64 {
        self.write(reg::DEVICE_FEATURES_SEL, 1);
        let high = self.read(reg::DEVICE_FEATURES);
        self.write(reg::DEVICE_FEATURES_SEL, 0);
        u64::from(high) << 32 | u64::from(self.read(reg::DEVICE_FEATURES))
    }

    pub(crate) fn config<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut bytes = [0xee; N];
        self.transport.read(reg::CONFIG + offset, &mut bytes);
        bytes
    }
}

/// Features every device of ours must offer.
pub(crate) const COMMON_FEATURES: u64 = feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC;
