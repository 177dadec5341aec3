use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::RestoreError;
use crate::fuzz;
use crate::virtio::testing::{Driver, Piece, reg};
use crate::virtio::{MmioDevice, Transport};

/// Bytes in memory, shared with the test.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    log: Arc<Mutex<Vec<String>>>,
    read_only: bool,
    broken: bool,
}

impl Disk {
    fn new(len: usize) -> Self {
        let bytes = (0..len).map(|at| (at / 512 + at) as u8).collect();
        Self { bytes: Arc::new(Mutex::new(bytes)), ..Self::default() }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("no test panics with the lock").clone()
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().expect("no test panics with the lock").clone()
    }

    fn note(&self, text: String) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::Other.into());
        }
        self.log.lock().expect("no test panics with the lock").push(text);
        Ok(())
    }
}

impl BlockBackend for Disk {
    fn len_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    /// Panics outside of the disk: the device must never ask for that.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.note(format!("read {offset}+{}", buf.len()))?;
        buf.copy_from_slice(&self.bytes()[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        assert!(!self.read_only);
        self.note(format!("write {offset}+{}", buf.len()))?;
        self.bytes.lock().expect("no test panics with the lock")[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.note("flush".into())
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        assert!(offset + len <= self.len_bytes());
        self.note(format!("discard {offset}+{len}"))
    }
}

fn config(read_only: bool) -> BlkConfig {
    BlkConfig { read_only, discard: !read_only, id: "disk-1".into() }
}

fn driver_with(disk: &Disk) -> Driver<Blk> {
    let mut blk = Blk::new(config(disk.read_only));
    blk.set_backend(Box::new(disk.clone()));
    Driver::new(blk)
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// Sends a request and gives its status byte and the bytes the device says it wrote.
fn request(driver: &mut Driver<Blk>, kind: u32, sector: u64, data: &[Piece]) -> (u8, u32) {
    let head = driver.out(&header(kind, sector));
    let status = driver.room(1);
    let mut pieces = vec![head];
    pieces.extend(data);
    pieces.push(status);
    let index = driver.send(0, &pieces);
    let (used, written) = driver.used(0).expect("the request is answered");
    assert_eq!(used, index);
    (driver.bytes(status.gpa, 1)[0], written)
}

#[test]
fn reads_into_several_segments() {
    let disk = Disk::new(64 * 512);
    let mut driver = driver_with(&disk);
    let (a, b) = (driver.room(512 + 100), driver.room(1024 - 100));
    assert_eq!(request(&mut driver, spec::T_IN, 5, &[a, b]), (spec::S_OK, 3 * 512 + 1));
    let mut read = driver.bytes(a.gpa, 612);
    read.extend(driver.bytes(b.gpa, 924));
    assert_eq!(read, disk.bytes()[5 * 512..8 * 512]);
}

#[test]
fn writes_and_flushes() {
    let disk = Disk::new(64 * 512);
    let mut driver = driver_with(&disk);
    let data = driver.out(&[0x77; 1024]);
    assert_eq!(request(&mut driver, spec::T_OUT, 62, &[data]), (spec::S_OK, 1));
    assert_eq!(disk.bytes()[62 * 512..], [0x77; 1024]);
    assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]), (spec::S_OK, 1));
    assert_eq!(disk.log(), ["write 31744+1024", "flush"]);
}

#[test]
fn framing_is_arbitrary() {
    let disk = Disk::new(64 * 512);
    let mut driver = driver_with(&disk);
    // Header in two pieces, the second with the data in it; status at the end of the data of a read.
    let head = header(spec::T_OUT, 3);
    let first = driver.out(&head[..7]);
    let rest: Vec<u8> = head[7..].iter().copied().chain([0x11; 512]).collect();
    let rest = driver.out(&rest);
    let status = driver.room(1);
    driver.send(0, &[first, rest, status]);
    assert_eq!(driver.used(0).map(|used| used.1), Some(1));
    assert_eq!(disk.bytes()[3 * 512..4 * 512], [0x11; 512]);

    let head = driver.out(&header(spec::T_IN, 3));
    let room = driver.room(513);
    driver.send(0, &[head, room]);
    assert_eq!(driver.used(0).map(|used| used.1), Some(513));
    assert_eq!(driver.bytes(room.gpa, 513), [vec![0x11; 512], vec![spec::S_OK]].concat());
}

#[test]
fn large_requests_go_in_bounded_pieces() {
    let disk = Disk::new(1 << 20);
    let mut driver = driver_with(&disk);
    let room = driver.room(1 << 20);
    assert_eq!(request(&mut driver, spec::T_IN, 0, &[room]), (spec::S_OK, (1 << 20) + 1));
    assert_eq!(driver.bytes(room.gpa, 1 << 20), disk.bytes());
    assert!(disk.log().len() >= 16);
}

#[test]
fn bad_ranges_and_lengths_are_io_errors() {
    let disk = Disk::new(64 * 512);
    let mut driver = driver_with(&disk);
    let (sector, odd) = (driver.room(512), driver.room(511));
    let far = Piece { gpa: 6 << 20, len: 512, write: true };
    let giant = Piece { gpa: 0, len: 0xffff_fe00, write: true };
    for (sector_number, data) in
        [(64, vec![sector]), (63, vec![sector, sector]), (u64::MAX, vec![sector]), (0, vec![odd]), (0, vec![far])]
    {
        assert_eq!(request(&mut driver, spec::T_IN, sector_number, &data), (spec::S_IOERR, 1), "{sector_number}");
    }
    assert_eq!(request(&mut driver, spec::T_IN, 0, &[giant]), (spec::S_IOERR, 1));
    assert_eq!(request(&mut driver, 77, 0, &[]), (spec::S_UNSUPP, 1));
    assert_eq!(request(&mut driver, spec::T_IN, 63, &[sector]), (spec::S_OK, 513));
    assert!(driver.transport.is_running());
}

#[test]
fn a_failing_backend_is_an_io_error() {
    let disk = Disk { broken: true, ..Disk::new(64 * 512) };
    let mut driver = driver_with(&disk);
    let room = driver.room(512);
    assert_eq!(request(&mut driver, spec::T_IN, 0, &[room]), (spec::S_IOERR, 1));
    assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]), (spec::S_IOERR, 1));
}

#[test]
fn a_read_only_device_says_so_and_takes_no_write() {
    let disk = Disk { read_only: true, ..Disk::new(64 * 512) };
    let mut driver = driver_with(&disk);
    assert_ne!(driver.features() & spec::F_RO, 0);
    let data = driver.out(&[1; 512]);
    assert_eq!(request(&mut driver, spec::T_OUT, 0, &[data]).0, spec::S_IOERR);
    assert_eq!(request(&mut driver, spec::T_DISCARD, 0, &[data]).0, spec::S_UNSUPP);
    assert!(disk.log().is_empty());

    // A guest that believes it can write is told that it fails.
    let mut blk = Blk::new(config(false));
    blk.set_backend(Box::new(disk.clone()));
    let mut driver = Driver::new(blk);
    assert_eq!(driver.features() & spec::F_RO, 0);
    let data = driver.out(&[1; 512]);
    assert_eq!(request(&mut driver, spec::T_OUT, 0, &[data]).0, spec::S_IOERR);
    assert!(disk.log().is_empty());
}

#[test]
fn tells_its_id() {
    let mut driver = driver_with(&Disk::new(512));
    let room = driver.room(20);
    assert_eq!(request(&mut driver, spec::T_GET_ID, 0, &[room]), (spec::S_OK, 21));
    assert_eq!(driver.bytes(room.gpa, 20), *b"disk-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let short = driver.room(19);
    assert_eq!(request(&mut driver, spec::T_GET_ID, 0, &[short]).0, spec::S_IOERR);
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn discards_and_writes_zeroes() {
    let disk = Disk::new(64 * 512);
    let mut driver = driver_with(&disk);
    let two = driver.out(&[range(1, 2, 0), range(60, 4, 0)].concat());
    assert_eq!(request(&mut driver, spec::T_DISCARD, 0, &[two]).0, spec::S_OK);
    assert_eq!(disk.log(), ["discard 512+1024", "discard 30720+2048"]);
    let zeroes = driver.out(&range(8, 20, 1));
    assert_eq!(request(&mut driver, spec::T_WRITE_ZEROES, 0, &[zeroes]).0, spec::S_OK);
    assert_eq!(disk.bytes()[8 * 512..28 * 512], [0; 20 * 512]);
    assert_ne!(disk.bytes()[28 * 512..29 * 512], [0; 512]);

    let before = disk.log();
    let one_bad = driver.out(&[range(0, 1, 0), range(64, 1, 0)].concat());
    assert_eq!(request(&mut driver, spec::T_DISCARD, 0, &[one_bad]).0, spec::S_IOERR);
    let flagged = driver.out(&range(0, 1, 1));
    assert_eq!(request(&mut driver, spec::T_DISCARD, 0, &[flagged]).0, spec::S_UNSUPP);
    let half = driver.out(&range(0, 1, 0)[..8]);
    assert_eq!(request(&mut driver, spec::T_DISCARD, 0, &[half]).0, spec::S_IOERR);
    assert_eq!(disk.log(), before, "nothing is touched where one range is bad");
}

#[test]
fn capacity_arrives_while_the_guest_runs() {
    let mut driver = Driver::new(Blk::new(config(false)));
    assert_eq!(driver.config::<8>(0), [0; 8]);
    let room = driver.room(512);
    assert_eq!(request(&mut driver, spec::T_IN, 0, &[room]).0, spec::S_IOERR);
    assert_eq!(request(&mut driver, spec::T_FLUSH, 0, &[]).0, spec::S_IOERR);
    let (generation, interrupts) = (driver.read(reg::CONFIG_GENERATION), driver.interrupts);

    let disk = Disk::new(100 * 512 + 17);
    driver.transport.device_mut().set_backend(Box::new(disk));
    driver.service();
    assert_eq!(driver.interrupts, interrupts + 1);
    assert_eq!(driver.read(reg::INTERRUPT_STATUS) & 2, 2);
    assert_ne!(driver.read(reg::CONFIG_GENERATION), generation);
    assert_eq!(u64::from_le_bytes(driver.config(0)), 100);
    assert_eq!(request(&mut driver, spec::T_IN, 99, &[room]).0, spec::S_OK);
}

#[test]
fn config_space_reads_at_any_width_and_offset() {
    let mut driver = driver_with(&Disk::new(64 * 512));
    assert_eq!(driver.config::<4>(12), spec::SEG_MAX.to_le_bytes());
    assert_eq!(driver.config::<2>(20), 512u16.to_le_bytes());
    assert_eq!(driver.config::<1>(0), [64]);
    assert_eq!(driver.config::<8>(56), [0; 8], "past the end reads zero");
    assert_eq!(driver.config::<8>(0x0fff_ffff_ffff), [0; 8]);
}

#[test]
fn a_request_without_status_byte_stops_the_device() {
    let mut driver = driver_with(&Disk::new(512));
    let head = driver.out(&header(spec::T_FLUSH, 0));
    driver.send(0, &[head]);
    assert!(driver.failed());
}

#[test]
fn restores_with_the_capacity_the_guest_knows() {
    let disk = Disk::new(64 * 512);
    let driver = driver_with(&disk);
    let (state, transport) = (driver.transport.device().save(), driver.transport.save_transport());
    let mut blk = Blk::restore(config(false), state.clone()).expect("its own state is good");
    blk.set_backend(Box::new(disk));
    let transport = Transport::restore(transport, blk, &driver.mem).expect("its own state is good");
    let mut driver = driver.with_transport(transport);
    driver.service();
    assert_eq!(driver.interrupts, 0, "nothing changed for the guest");
    let room = driver.room(512);
    assert_eq!(request(&mut driver, spec::T_IN, 9, &[room]).0, spec::S_OK);

    let refused = |state| matches!(Blk::restore(config(false), state), Err(RestoreError::Field { .. }));
    assert!(refused(BlkState { read_only: true, ..state.clone() }));
    assert!(refused(BlkState { discard: false, ..state.clone() }));
    assert!(refused(BlkState { capacity_sectors: u64::MAX, ..state }));
}

fn fuzzed() -> Blk {
    let mut blk = Blk::new(config(false));
    blk.set_backend(Box::new(Disk::new(20 * 512)));
    blk
}

#[test]
fn survives_a_hostile_guest() {
    fuzz::hostile_guest(fuzzed);
}

/// Random bytes seldom make a request; here the headers are right and everything else is not.
#[test]
fn survives_hostile_requests() {
    use proptest::collection::vec;
    use proptest::prelude::*;
    let kind =
        prop_oneof![Just(spec::T_IN), Just(spec::T_OUT), Just(spec::T_DISCARD), Just(spec::T_WRITE_ZEROES), 0..16u32];
    let sector = prop_oneof![4 => 0u64..24, 1 => any::<u64>(), 1 => Just(u64::MAX)];
    let len = prop_oneof![Just(512u32), Just(16), Just(1024), 0..5000u32, any::<u32>()];
    let gpa = prop_oneof![8 => 0x30_0000u64..0x3f_0000, 1 => any::<u64>()];
    let piece = (gpa, len, any::<bool>(), vec(any::<u8>(), 0..40));
    fuzz::check(&vec((kind, sector, vec(piece, 0..6)), 1..8), |requests| {
        let mut driver = Driver::new(fuzzed());
        for (kind, sector, data) in requests {
            let mut pieces = vec![driver.out(&header(kind, sector))];
            for (gpa, len, write, bytes) in data {
                if !write && vm_memory::Bytes::write_slice(&driver.mem, &bytes, vm_memory::GuestAddress(gpa)).is_err() {
                    continue;
                }
                pieces.push(Piece { gpa, len, write });
            }
            pieces.sort_by_key(|piece| piece.write);
            pieces.push(driver.room(1));
            driver.send(0, &pieces);
            assert!(driver.failed() || driver.used(0).is_some(), "every well-formed request is answered");
        }
    });
}

#[test]
fn survives_a_hostile_state() {
    fuzz::hostile_transport_state(fuzzed);
}
