//! The I/O APIC: 24 pins, edge and level (Intel 82093AA data sheet).

/// Number of pins.
pub(crate) const PINS: usize = 24;
/// Guest physical base.
const BASE: u64 = 0xfec0_0000;
/// Register select.
const IOREGSEL: u32 = 0x00;
/// Window to the selected register.
const IOWIN: u32 = 0x10;
/// Version register: version 0x11 and the last pin's number.
const VERSION: u32 = 0x11 | (PINS as u32 - 1) << 16;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const LOGICAL: u64 = 1 << 11;
/// Bits of a redirection entry that software may write.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// Bytes of a saved I/O APIC.
pub(crate) const SAVED_LEN: usize = 8 + PINS * 8 + 4;

/// Offset in the register page, if `gpa` is in it.
pub(crate) fn offset(gpa: u64) -> Option<u32> {
    let offset = gpa.wrapping_sub(BASE);
    (offset < 0x100).then_some(offset as u32)
}

/// An interrupt on its way to vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) vector: u8,
    pub(crate) level: bool,
    destination: u8,
    logical: bool,
}

impl Message {
    /// Whether it goes to the vCPU with this APIC id.
    pub(crate) fn reaches(&self, id: u32) -> bool {
        let flat = 1u32.checked_shl(id).unwrap_or(0);
        let d = u32::from(self.destination);
        d == 0xff || if self.logical { d & flat != 0 } else { d == id }
    }
}

/// Registers and line levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IoApic {
    select: u32,
    id: u32,
    redirection: [u64; PINS],
    lines: u32,
}

impl IoApic {
    pub(crate) fn new() -> Self {
        IoApic { select: 0, id: 0, redirection: [MASKED; PINS], lines: 0 }
    }

    pub(crate) fn read(&self, offset: u32, size: u8) -> u32 {
        if size < 4 && offset != IOREGSEL {
            return 0;
        }
        match offset {
            IOREGSEL => self.select,
            IOWIN => match self.select {
                0 | 2 => self.id << 24,
                1 => VERSION,
                s => self.pin_of(s).map_or(0, |p| (self.redirection[p] >> (32 * (s & 1))) as u32),
            },
            _ => 0,
        }
    }

    fn pin_of(&self, select: u32) -> Option<usize> {
        let pin = (select.checked_sub(0x10)? / 2) as usize;
        (pin < PINS).then_some(pin)
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Option<Message> {
        match offset {
            IOREGSEL => {
                self.select = value & 0xff;
                None
            }
            IOWIN => self.write_register(value),
            _ => None,
        }
    }

    fn write_register(&mut self, value: u32) -> Option<Message> {
        if self.select == 0 {
            self.id = value >> 24 & 15;
            return None;
        }
        let pin = self.pin_of(self.select)?;
        let shift = 32 * (self.select & 1);
        let mask = WRITABLE & 0xffff_ffff << shift;
        let entry = &mut self.redirection[pin];
        *entry = *entry & !mask | u64::from(value) << shift & mask;
        if *entry & LEVEL == 0 {
            *entry &= !REMOTE_IRR;
        }
        // An unmasked level pin that is still asserted fires now.
        if *entry & LEVEL != 0 && self.lines >> pin & 1 != 0 { self.fire(pin) } else { None }
    }

    /// Sets a line's level.
    pub(crate) fn set_line(&mut self, pin: u32, level: bool) -> Option<Message> {
        let bit = 1u32.checked_shl(pin)?;
        let was = self.lines & bit != 0;
        self.lines = if level { self.lines | bit } else { self.lines & !bit };
        if !level || (was && *self.redirection.get(pin as usize)? & LEVEL == 0) {
            return None;
        }
        self.fire(pin as usize)
    }

    fn fire(&mut self, pin: usize) -> Option<Message> {
        let entry = self.redirection.get_mut(pin)?;
        if *entry & (MASKED | REMOTE_IRR) != 0 {
            return None;
        }
        let level = *entry & LEVEL != 0;
        if level {
            *entry |= REMOTE_IRR;
        }
        Some(Message { vector: *entry as u8, level, destination: (*entry >> 56) as u8, logical: *entry & LOGICAL != 0 })
    }

    /// A vCPU ended the handling of `vector`; lines still asserted fire again.
    pub(crate) fn end_of_interrupt(&mut self, vector: u8) -> Vec<Message> {
        let mut again = Vec::new();
        for pin in 0..PINS {
            let e = self.redirection[pin];
            if e as u8 == vector && e & LEVEL != 0 && e & REMOTE_IRR != 0 {
                self.redirection[pin] &= !REMOTE_IRR;
                if self.lines >> pin & 1 != 0 {
                    again.extend(self.fire(pin));
                }
            }
        }
        again
    }

    /// Saved form: select, id, entries, lines; little-endian.
    pub(crate) fn save(&self) -> Vec<u8> {
        let IoApic { select, id, redirection, lines } = self;
        let mut out = Vec::with_capacity(SAVED_LEN);
        out.extend(select.to_le_bytes());
        out.extend(id.to_le_bytes());
        redirection.iter().for_each(|e| out.extend(e.to_le_bytes()));
        out.extend(lines.to_le_bytes());
        out
    }

    /// Reads the saved form; what software could not have written is masked away.
    pub(crate) fn load(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != SAVED_LEN {
            return None;
        }
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let mut chip = IoApic { select: word(0)? & 0xff, id: word(4)? & 15, redirection: [0; PINS], lines: 0 };
        for (i, e) in chip.redirection.iter_mut().enumerate() {
            let v = u64::from(word(8 + 8 * i)?) | u64::from(word(12 + 8 * i)?) << 32;
            *e = v & (WRITABLE | REMOTE_IRR);
        }
        chip.lines = word(8 + 8 * PINS)? & ((1 << PINS) - 1);
        Some(chip)
    }
}
