//! Scripts: every access there is, and random guests that play at being drivers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use supermachine_hv::{Exit, GuestMemory};
use supermachine_vmm::layout;
use vm_memory::{Bytes, GuestAddress};

use crate::scripted::Script;

/// Ports that devices answer, with some that nobody does around them.
const PORTS: [u16; 7] = [layout::SERIAL_PORT, layout::I8042_PORT, layout::RTC_PORT, 0x40, 0x20, 0xcf8, 0xfff8];
/// Widths of memory accesses and of port accesses.
const WIDTHS: [u8; 4] = [1, 2, 4, 8];
const PORT_WIDTHS: [u8; 3] = [1, 2, 4];
/// Registers of a virtio-mmio window (virtio 1.2 §4.2.2).
mod reg {
    pub(super) const DRIVER_FEATURES: u64 = 0x20;
    pub(super) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(super) const QUEUE_SEL: u64 = 0x30;
    pub(super) const QUEUE_NUM: u64 = 0x38;
    pub(super) const QUEUE_READY: u64 = 0x44;
    pub(super) const QUEUE_NOTIFY: u64 = 0x50;
    pub(super) const INTERRUPT_STATUS: u64 = 0x60;
    pub(super) const INTERRUPT_ACK: u64 = 0x64;
    pub(super) const STATUS: u64 = 0x70;
    pub(super) const QUEUE_DESC: u64 = 0x80;
    pub(super) const QUEUE_DRIVER: u64 = 0x90;
    pub(super) const QUEUE_DEVICE: u64 = 0xa0;
    pub(super) const CONFIG: u64 = 0x100;
}
/// Rings and buffers lie in the 2 MiB from here; nothing in the kernel's place matters to these guests.
const ARENA: u64 = 0x20_0000;
const ARENA_LEN: u64 = 0x20_0000;
const QUEUE_STEP: u64 = 0x4000;
const QUEUES: u64 = 4;
/// Where no ring is.
const BUFFERS: u64 = ARENA + 0x10_0000;
const QUEUE_SIZE: u16 = 16;
/// What resets the machine when it is written to the keyboard controller's command port.
const RESET: u32 = 0xfe;

/// Address of a queue's rings: descriptors, the driver's ring, the device's.
fn rings(window: u64, queue: u64) -> u64 {
    let index = (window - layout::VIRTIO_MMIO) / layout::VIRTIO_MMIO_SIZE;
    ARENA + (index * QUEUES + queue) * QUEUE_STEP
}

fn read(gpa: u64, size: u8) -> Exit {
    Exit::MmioRead { gpa, size }
}

fn write(gpa: u64, size: u8, value: u64) -> Exit {
    let value = if size == 8 { value } else { value & ((1 << (8 * u32::from(size))) - 1) };
    Exit::MmioWrite { gpa, size, value }
}

/// Random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A value near an edge, or any.
    fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => self.next(),
            1 => 1 << self.below(64),
            2 => u64::MAX - self.below(4),
            _ => self.below(0x20),
        }
    }
}

/// Reads and writes every offset of every window and the bytes around the last, at every width and alignment.
pub(crate) struct Sweep {
    windows: u64,
    at: u64,
    port: u32,
    random: Random,
    pub(crate) accesses: u64,
}

impl Sweep {
    pub(crate) fn new(windows: u64, seed: u64) -> Self {
        Self { windows, at: layout::VIRTIO_MMIO - 8, port: 0, random: Random(seed), accesses: 0 }
    }
}

impl Script for Sweep {
    fn burst(&mut self, _: &GuestMemory, out: &mut VecDeque<Exit>) {
        let end = layout::VIRTIO_MMIO + self.windows * layout::VIRTIO_MMIO_SIZE + 8;
        if self.at < end {
            for size in WIDTHS {
                out.extend([read(self.at, size), write(self.at, size, self.random.value()), read(self.at, size)]);
            }
            self.at += 1;
        } else if let Ok(port) = u16::try_from(self.port) {
            for size in PORT_WIDTHS {
                out.extend([Exit::PioRead { port, size }, port_write(&mut self.random, port, size)]);
            }
            self.port += 1;
        }
        self.accesses += out.len() as u64;
    }

    fn answer(&mut self, exit: &Exit, value: u64) {
        fits(exit, value);
    }
}

/// A read gives no more than was asked for.
#[track_caller]
fn fits(exit: &Exit, value: u64) {
    let (Exit::MmioRead { size, .. } | Exit::PioRead { size, .. }) = exit else { return };
    assert!(*size == 8 || value >> (8 * u32::from(*size)) == 0, "{exit:?} gives {value:#x}");
}

/// A write that does not reset the machine.
fn port_write(random: &mut Random, port: u16, size: u8) -> Exit {
    let value = random.value() as u32 & (u32::MAX >> (32 - 8 * u32::from(size)));
    let command = layout::I8042_PORT + 4;
    let byte = command.checked_sub(port).filter(|&byte| byte < size.into());
    let resets = byte.is_some_and(|byte| value >> (8 * byte) & 0xff == RESET);
    Exit::PioWrite { port, size, value: if resets { 0 } else { value } }
}

/// How often a device said that it had used a buffer: these guests get that far.
pub(crate) static USED: AtomicU64 = AtomicU64::new(0);

/// A guest that does as drivers do, with mistakes.
pub(crate) struct Driver {
    windows: u64,
    bursts: u32,
    random: Random,
    /// Addresses that reads gave: configuration, interrupt status.
    last: u64,
}

impl Driver {
    pub(crate) fn new(windows: u64, bursts: u32, seed: u64) -> Self {
        Self { windows, bursts, random: Random(seed), last: 0 }
    }

    fn window(&mut self) -> u64 {
        layout::VIRTIO_MMIO + self.random.below(self.windows) * layout::VIRTIO_MMIO_SIZE
    }

    fn anywhere(&mut self, out: &mut VecDeque<Exit>) {
        let (window, r) = (self.window(), &mut self.random);
        for _ in 0..r.below(40) {
            let offset = match r.below(8) {
                0 => r.below(layout::VIRTIO_MMIO_SIZE + 16),
                1 => layout::VIRTIO_MMIO_SIZE - r.below(9),
                2 | 3 => reg::CONFIG + r.below(0x40),
                _ => r.below(0x110),
            };
            let (gpa, size) = (if r.below(50) == 0 { r.next() } else { window + offset }, r.pick(&WIDTHS));
            let value = if r.below(3) == 0 { self.last } else { r.value() };
            out.push_back(if r.below(2) == 0 { read(gpa, size) } else { write(gpa, size, value) });
        }
    }

    fn ports(&mut self, out: &mut VecDeque<Exit>) {
        let r = &mut self.random;
        for _ in 0..r.below(40) {
            let port = r.pick(&PORTS).wrapping_add(r.below(12) as u16).wrapping_sub(2);
            let size = r.pick(&PORT_WIDTHS);
            let exit = if r.below(2) == 0 { Exit::PioRead { port, size } } else { port_write(r, port, size) };
            out.push_back(exit);
        }
    }

    /// Initialises a device as the specification says (virtio 1.2 §3.1.1, §4.2.3.2), most of the time.
    fn set_up(&mut self, memory: &GuestMemory, out: &mut VecDeque<Exit>) {
        let (window, r) = (self.window(), &mut self.random);
        let four = |offset: u64, value: u64| write(window + offset, 4, value);
        for status in [0, 1, 3] {
            out.push_back(four(reg::STATUS, status));
        }
        for select in 0..2 {
            let features = if r.below(4) == 0 { r.next() } else { select };
            out.extend([four(reg::DRIVER_FEATURES_SEL, select), four(reg::DRIVER_FEATURES, features)]);
        }
        out.push_back(four(reg::STATUS, 11));
        for queue in 0..QUEUES {
            let base = rings(window, queue);
            memory.write_obj(0u32, GuestAddress(base + 0x1000)).expect("in RAM");
            let odd = |r: &mut Random, gpa: u64| if r.below(30) == 0 { r.next() } else { gpa };
            let size = if r.below(20) == 0 { r.value() } else { QUEUE_SIZE.into() };
            out.extend([four(reg::QUEUE_SEL, queue), four(reg::QUEUE_NUM, size)]);
            for (register, gpa) in
                [(reg::QUEUE_DESC, base), (reg::QUEUE_DRIVER, base + 0x1000), (reg::QUEUE_DEVICE, base + 0x2000)]
            {
                let gpa = odd(r, gpa);
                out.extend([four(register, gpa & 0xffff_ffff), four(register + 4, gpa >> 32)]);
            }
            out.push_back(four(reg::QUEUE_READY, 1));
        }
        out.push_back(four(reg::STATUS, if r.below(20) == 0 { r.next() } else { 15 }));
    }

    /// Puts descriptors and ring entries into memory and tells the device.
    fn offer(&mut self, memory: &GuestMemory, out: &mut VecDeque<Exit>) {
        let (window, r) = (self.window(), &mut self.random);
        let queue = r.below(QUEUES);
        let base = rings(window, queue);
        for index in 0..u64::from(QUEUE_SIZE) {
            let gpa = match r.below(60) {
                0 => r.value(),
                1 => ARENA + r.below(ARENA_LEN + 64),
                _ => BUFFERS + r.below(ARENA + ARENA_LEN - BUFFERS),
            };
            let length = r.pick(&[0, 1, 4, 16, 44, 64, 512, 4096, 70_000, u64::from(u32::MAX)]);
            // NEXT, WRITE, INDIRECT (§2.7.5), each often enough.
            let flags = r.pick(&[0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 7]);
            let next = if r.below(40) == 0 { r.next() } else { (index + 1) % u64::from(QUEUE_SIZE) };
            let words = [gpa, length & 0xffff_ffff | flags << 32 | (next & 0xffff) << 48];
            for (at, word) in (base + index * 16..).step_by(8).zip(words) {
                memory.write_obj(word, GuestAddress(at)).expect("in RAM");
            }
        }
        for entry in 0..u64::from(QUEUE_SIZE) {
            let head = if r.below(60) == 0 { r.next() as u16 } else { r.below(QUEUE_SIZE.into()) as u16 };
            memory.write_obj(head, GuestAddress(base + 0x1004 + entry * 2)).expect("in RAM");
        }
        let request: [u64; 6] = std::array::from_fn(|_| r.value());
        for _ in 0..8 {
            let at = BUFFERS + r.below(ARENA + ARENA_LEN - BUFFERS - 64);
            let words: Vec<u8> = request.iter().flat_map(|word| word.to_le_bytes()).collect();
            memory.write_slice(&words, GuestAddress(at)).expect("in RAM");
        }
        let old: u16 = memory.read_obj(GuestAddress(base + 0x1002)).expect("in RAM");
        let more = if r.below(20) == 0 { r.next() as u16 } else { r.below(6) as u16 };
        memory.write_obj(old.wrapping_add(more), GuestAddress(base + 0x1002)).expect("in RAM");
        out.push_back(write(window + reg::QUEUE_NOTIFY, 4, queue));
        out.push_back(read(window + reg::INTERRUPT_STATUS, 4));
        out.push_back(write(window + reg::INTERRUPT_ACK, 4, r.below(4)));
    }
}

impl Script for Driver {
    fn burst(&mut self, memory: &GuestMemory, out: &mut VecDeque<Exit>) {
        while out.is_empty() && self.bursts > 0 {
            self.bursts -= 1;
            match self.random.below(12) {
                0 | 1 => self.anywhere(out),
                2 => self.ports(out),
                3 | 4 => self.set_up(memory, out),
                5 if self.random.below(8) == 0 => {
                    let function = self.random.next();
                    out.push_back(Exit::Hypercall { function, args: [self.random.value(); 4] });
                }
                _ => self.offer(memory, out),
            }
        }
    }

    fn answer(&mut self, exit: &Exit, value: u64) {
        fits(exit, value);
        self.last = value;
        let status =
            matches!(exit, Exit::MmioRead { gpa, size: 4 } if gpa % layout::VIRTIO_MMIO_SIZE == reg::INTERRUPT_STATUS);
        USED.fetch_add(u64::from(status && value & 1 != 0), Ordering::Relaxed);
    }
}
