use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, VolatileSlice};

use super::*;
use crate::fuzz;
use crate::virtio::spec::device_type;
use crate::virtio::testing::{Driver, Piece, reg};
use crate::virtio::{MmioDevice, Transport, VirtioDevice};

const HIPRIO: usize = 0;
const REQUESTS: usize = 1;

/// Counts what the device asks of its worker.
#[derive(Clone, Default)]
struct Worker {
    woken: Arc<AtomicUsize>,
    settled: Arc<AtomicUsize>,
}

impl FsWorker for Worker {
    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }

    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers with the request, each byte one higher.
#[derive(Default)]
struct Echo(Mutex<Vec<usize>>);

impl FsBackend for Echo {
    fn handle(&self, request: &[VolatileSlice<'_>], reply: &[VolatileSlice<'_>]) -> usize {
        let mut bytes = Vec::new();
        for slice in request {
            let mut part = vec![0; slice.len()];
            slice.read_slice(&mut part, 0).expect("inside the slice");
            bytes.extend(part.iter().map(|byte| byte.wrapping_add(1)));
        }
        self.0.lock().expect("no panic").push(bytes.len());
        let mut written = 0;
        for slice in reply {
            let count = slice.len().min(bytes.len() - written);
            slice.write_slice(&bytes[written..written + count], 0).expect("inside the slice");
            written += count;
        }
        written
    }

    fn reset(&self) {
        self.0.lock().expect("no panic").clear();
    }
}

fn config() -> FsConfig {
    FsConfig { tag: "shares".to_owned() }
}

fn driver() -> (Driver<Fs>, Worker) {
    let worker = Worker::default();
    (Driver::new(Fs::new(config(), Box::new(worker.clone()))), worker)
}

/// Does the worker's part: everything that waits.
fn work(driver: &mut Driver<Fs>, backend: &dyn FsBackend) -> usize {
    let mut served = 0;
    while let Some(work) = driver.transport.device_mut().take_work() {
        match work {
            FsWork::Reset => backend.reset(),
            FsWork::Request(request) => {
                let done = request.serve(&driver.mem, backend);
                driver.transport.device_mut().complete(done);
                served += 1;
            }
        }
        driver.service();
    }
    served
}

#[test]
fn the_guest_reads_the_tag_and_the_number_of_queues() {
    let (mut driver, _) = driver();
    let mut bytes = [0xff; 44];
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(&bytes[..7], b"shares\0");
    assert_eq!((&bytes[36..40], &bytes[40..]), ([1, 0, 0, 0].as_slice(), [0; 4].as_slice()));
    assert_eq!(driver.transport.device().device_type(), device_type::FILE_SYSTEM);
}

#[test]
fn a_request_is_served_outside_and_answered_with_an_interrupt() {
    let (mut driver, worker) = driver();
    let before = worker.woken.load(Ordering::Relaxed);
    let (first, second, room) = (driver.out(b"abc"), driver.out(b"de"), driver.room(16));
    let head = driver.send(REQUESTS, &[first, second, room]);
    assert_eq!(worker.woken.load(Ordering::Relaxed), before + 1);
    assert!(!driver.transport.device().is_idle());
    assert_eq!((driver.used(REQUESTS), driver.interrupts), (None, 0));
    assert_eq!(work(&mut driver, &Echo::default()), 1);
    assert_eq!((driver.used(REQUESTS), driver.interrupts), (Some((head, 5)), 1));
    assert_eq!(driver.bytes(room.gpa, 6), b"bcdef\xaa");
    assert!(driver.transport.device().is_idle());
}

#[test]
fn a_request_without_a_reply_is_used_with_no_length() {
    let (mut driver, _) = driver();
    let forget = driver.out(b"forget");
    let head = driver.send(HIPRIO, &[forget]);
    work(&mut driver, &Echo::default());
    assert_eq!(driver.used(HIPRIO), Some((head, 0)));
}

#[test]
fn buffers_outside_memory_get_no_reply_and_stop_nothing() {
    let (mut driver, _) = driver();
    let backend = Echo::default();
    let outside = Piece { gpa: 6 << 20, len: 40, write: false };
    let room = driver.room(16);
    let head = driver.send(REQUESTS, &[outside, room]);
    work(&mut driver, &backend);
    assert_eq!(driver.used(REQUESTS), Some((head, 0)));
    assert!(backend.0.lock().expect("no panic").is_empty(), "the server never saw it");
    assert!(!driver.failed());
}

#[test]
fn no_more_requests_are_taken_than_the_queue_has_places() {
    let (mut driver, _) = driver();
    work(&mut driver, &Echo::default());
    let request = driver.out(b"x");
    let head = driver.send(REQUESTS, &[request]);
    // A hostile driver offers the same request again and again.
    for _ in 0..2_000 {
        driver.offer_head(REQUESTS, head);
        driver.write(reg::QUEUE_NOTIFY, REQUESTS as u32);
    }
    let mut taken = 0;
    while driver.transport.device_mut().take_work().is_some_and(|work| matches!(work, FsWork::Request(_))) {
        taken += 1;
    }
    assert_eq!(taken, usize::from(spec::QUEUE_SIZES[REQUESTS]));
}

#[test]
fn an_answer_to_an_earlier_driver_goes_nowhere() {
    let (mut driver, worker) = driver();
    let backend = Echo::default();
    work(&mut driver, &backend);
    let request = driver.out(b"x");
    driver.send(REQUESTS, &[request]);
    let Some(FsWork::Request(request)) = driver.transport.device_mut().take_work() else { panic!("no request") };
    let settled = worker.settled.load(Ordering::Relaxed);
    driver.start();
    assert_eq!(worker.settled.load(Ordering::Relaxed), settled + 1);
    let done = request.serve(&driver.mem, &backend);
    driver.transport.device_mut().complete(done);
    driver.service();
    assert_eq!(driver.used(REQUESTS), None);
    // The server forgets the earlier driver before it hears of the next.
    assert!(matches!(driver.transport.device_mut().take_work(), Some(FsWork::Reset)));
    assert!(driver.transport.device().is_idle());
}

#[test]
fn a_restored_device_goes_on() {
    let (mut driver, _) = driver();
    let request = driver.out(b"a");
    driver.send(REQUESTS, &[request]);
    work(&mut driver, &Echo::default());
    driver.used(REQUESTS).expect("answered");
    let (device, transport) = (driver.transport.device().save(), driver.transport.save_transport());
    let text = serde_json::to_string(&device).expect("state serialises");
    let device: FsState = serde_json::from_str(&text).expect("state parses");
    let fs = Fs::restore(config(), device.clone(), Box::new(Worker::default())).expect("its own state is good");
    let transport = Transport::restore(transport, fs, &driver.mem).expect("its own state is good");
    let mut driver = driver.with_transport(transport);
    let (request, room) = (driver.out(b"b"), driver.room(1));
    let head = driver.send(REQUESTS, &[request, room]);
    work(&mut driver, &Echo::default());
    assert_eq!(driver.used(REQUESTS), Some((head, 1)));
    let other = FsConfig { tag: "other".to_owned() };
    assert!(Fs::restore(other, device, Box::new(Worker::default())).is_err());
}

/// A device whose worker does everything at once, on the thread of the guest.
struct Served(Fs);

impl VirtioDevice for Served {
    fn device_type(&self) -> u32 {
        self.0.device_type()
    }

    fn features(&self) -> u64 {
        self.0.features()
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        self.0.queue_max_sizes()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.0.read_config(offset, data);
    }

    fn activate(&mut self, features: u64) {
        self.0.activate(features);
    }

    fn process_queue(
        &mut self,
        index: usize,
        mem: &crate::GuestMemory,
        queues: &mut [crate::virtio::Queue],
    ) -> Result<crate::virtio::Progress, crate::virtio::DeviceError> {
        let progress = self.0.process_queue(index, mem, queues)?;
        let backend = Echo::default();
        while let Some(work) = self.0.take_work() {
            if let FsWork::Request(request) = work {
                self.0.complete(request.serve(mem, &backend));
            }
        }
        Ok(progress)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

fn fuzzed() -> Served {
    Served(Fs::new(config(), Box::new(Worker::default())))
}

#[test]
fn survives_a_hostile_guest() {
    fuzz::hostile_guest(fuzzed);
}

#[test]
fn survives_a_hostile_state() {
    fuzz::hostile_transport_state(fuzzed);
}
