//! Whether KVM is worth using on this host, decided within a third of a second.
//!
//! Some hosts offer a `/dev/kvm` that runs only paravirtual guests well and *emulates* an ordinary one at about a
//! million instructions per second. So a real guest is timed: 64-bit mode, vector instructions, slices of
//! [`SLICE_INSTRUCTIONS`] that each end with a port write. The fastest slice decides, so a busy host is not
//! mistaken for an emulating one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use kvm_ioctls::Kvm;
use supermachine_hv::{Exit, Fault, HvError, Kick, UnboundVcpu, Vcpu};

use super::hypervisor::{KvmHypervisor, unavailable};
use program::{LOOP_INSTRUCTIONS, Program};

mod program;

/// The device.
const DEVICE: &str = "/dev/kvm";
/// Instructions in a slice.
const SLICE_INSTRUCTIONS: u64 = 20_000;
/// Slices that are timed; 100,000 instructions in all.
const SLICES: u32 = 5;
/// The slowest a slice may be. An emulating host needs 20 ms (1 M instructions/s), nested software emulation two or
/// three, most of it for the exit; hardware some 10 µs.
const SLICE_LIMIT: Duration = Duration::from_millis(8);
/// What [`probe`] may take on a host that it refuses.
const LIMIT: Duration = Duration::from_millis(270);
/// The last part of a limit: how long a kicked guest may take to come back before its thread is given up.
const GRACE: Duration = Duration::from_millis(35);

/// What the timing thread says.
enum Report {
    /// The vCPU is there and can be kicked.
    Started(Arc<dyn Kick>),
    /// It is over; the fastest slice, if any ended, or why not.
    Done(Result<Duration, HvError>),
}

/// Opens KVM and proves that this host runs ordinary guests at speed, in less than 0.3 s.
///
/// # Errors
/// [`HvError::Unavailable`] with one line that says what is wrong and, where it can be mended, how.
pub fn probe() -> Result<KvmHypervisor, HvError> {
    probe_within(LIMIT)
}

/// [`probe`] with more or less patience, and so many more or fewer tries at a fast slice: for a caller that has
/// nothing to fall back to, or knows its host as slow.
///
/// # Errors
/// As [`probe`].
pub fn probe_within(limit: Duration) -> Result<KvmHypervisor, HvError> {
    let start = Instant::now();
    let hypervisor = open()?;
    let (sender, reports) = channel();
    let subject = hypervisor.clone();
    let thread = thread::Builder::new()
        .name("kvm-probe".to_owned())
        .spawn(move || time_guest(&subject, &sender, slices(limit)))
        .map_err(|error| unavailable(format!("no thread for the probe: {error}")))?;
    let fastest = wait(&reports, start, limit)?.map_err(as_unavailable)?;
    if fastest > SLICE_LIMIT {
        return Err(unavailable(too_slow(fastest)));
    }
    // The caller may be about to change namespaces, which a second thread would forbid.
    thread.join().map_err(|_| unavailable("the probe's thread failed".to_owned()))?;
    Ok(hypervisor)
}

/// Opens KVM and checks what it offers, without timing a guest: for a caller that has probed this boot before.
///
/// # Errors
/// As [`probe`].
pub fn open() -> Result<KvmHypervisor, HvError> {
    let kvm = Kvm::new().map_err(|error| unavailable(cannot_open(io::Error::from(error))))?;
    KvmHypervisor::new(kvm).map_err(as_unavailable)
}

/// Waits for the thread's verdict, kicks it at the deadline, gives it up after the grace.
fn wait(reports: &Receiver<Report>, start: Instant, limit: Duration) -> Result<Result<Duration, HvError>, HvError> {
    let mut kicker: Option<Arc<dyn Kick>> = None;
    let mut deadline = start + limit.saturating_sub(GRACE);
    let mut kicked = false;
    loop {
        match reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Report::Started(handle)) => kicker = Some(handle),
            Ok(Report::Done(result)) => return Ok(result),
            Err(RecvTimeoutError::Timeout) if !kicked => {
                if let Some(kicker) = &kicker {
                    kicker.kick();
                }
                kicked = true;
                deadline += GRACE;
            }
            Err(_) => {
                let millis = start.elapsed().as_millis();
                return Err(unavailable(format!("a guest of 100,000 instructions did not end within {millis} ms")));
            }
        }
    }
}

/// How many slices are timed within `limit`.
fn slices(limit: Duration) -> u32 {
    let patience = limit.as_millis() / LIMIT.as_millis();
    SLICES.saturating_mul(u32::try_from(patience.max(1)).unwrap_or(u32::MAX))
}

/// Runs the guest and reports the time of the fastest slice, before the machine is taken down.
fn time_guest(hypervisor: &KvmHypervisor, reports: &Sender<Report>, slices: u32) {
    let mut guest = None;
    let result = start_guest(hypervisor, reports).and_then(|vcpu| fastest_slice(guest.insert(vcpu).as_mut(), slices));
    // A receiver that gave up is no error of this thread's.
    let _ = reports.send(Report::Done(result));
}

/// A vCPU, bound to this thread, about to enter the loop.
fn start_guest(hypervisor: &KvmHypervisor, reports: &Sender<Report>) -> Result<Box<dyn Vcpu>, HvError> {
    let program = Program::new(hypervisor.has_avx(), SLICE_INSTRUCTIONS / LOOP_INSTRUCTIONS);
    let memory = program.memory().map_err(unavailable)?;
    let vcpu = hypervisor.bare_vcpu(memory)?;
    vcpu.start_at(|state| program.enter(state))?;
    let _ = reports.send(Report::Started(vcpu.kicker()));
    Box::new(vcpu).bind()
}

/// Times up to `slices` slices, until one is fast enough. A kick ends a slice early: those before it count; without
/// one, so does the time that was not enough.
fn fastest_slice(vcpu: &mut dyn Vcpu, slices: u32) -> Result<Duration, HvError> {
    let mut fastest: Option<Duration> = None;
    for _ in 0..slices {
        let start = Instant::now();
        match vcpu.run()? {
            Exit::PioWrite { .. } => {
                let slice = start.elapsed();
                if slice <= SLICE_LIMIT {
                    return Ok(slice);
                }
                fastest = Some(fastest.map_or(slice, |fastest| fastest.min(slice)));
            }
            Exit::Kicked => return fastest.or_else(|| slow(start.elapsed())).ok_or_else(no_verdict),
            exit => return Err(unavailable(unexpected(&exit))),
        }
    }
    fastest.ok_or_else(no_verdict)
}

/// The time of an unfinished slice, where it is enough to call the host slow.
fn slow(time: Duration) -> Option<Duration> {
    (time > SLICE_LIMIT).then_some(time)
}

fn no_verdict() -> HvError {
    unavailable("making a machine took all of the probe's time, so its speed is not known".to_owned())
}

fn cannot_open(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "there is no {DEVICE}: load kvm_intel or kvm_amd, or turn on virtualization in the firmware or the cloud"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission to open {DEVICE}: it belongs to group {}, add the user to it", owning_group())
        }
        _ => format!("{DEVICE} cannot be opened: {error}"),
    }
}

/// Name of the device's group, or its number where `/etc/group` has no name.
fn owning_group() -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::metadata(DEVICE) else {
        return "kvm".to_owned();
    };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    group_name(&groups, metadata.gid()).unwrap_or_else(|| metadata.gid().to_string())
}

/// Looks a number up in the text of `/etc/group` (group(5): name, password, number, members).
fn group_name(groups: &str, gid: u32) -> Option<String> {
    let gid = gid.to_string();
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid).then(|| name.to_owned())
    })
}

fn too_slow(slice: Duration) -> String {
    let micros = slice.as_micros().max(1);
    let per_second = u128::from(SLICE_INSTRUCTIONS).saturating_mul(1_000_000) / micros;
    format!(
        "{DEVICE} opens but has no hardware virtualization behind it, an ordinary guest is emulated: {:.1} M instructions/s",
        per_second as f64 / 1e6
    )
}

fn unexpected(exit: &Exit) -> String {
    match exit {
        Exit::Fault(Fault::Internal { detail }) => {
            format!(
                "{DEVICE} opens but has no hardware virtualization behind it, an ordinary guest is emulated: {detail}"
            )
        }
        exit => format!("{DEVICE} opens but an ordinary guest ends in a {} exit", exit.name()),
    }
}

/// Every failure of the probe means the same to its caller.
fn as_unavailable(error: HvError) -> HvError {
    match error {
        HvError::Unavailable { .. } => error,
        HvError::Os { operation, source } => unavailable(format!("{DEVICE} opens but {operation} fails: {source}")),
        error => unavailable(format!("{DEVICE} opens but makes no usable machine: {error}")),
    }
}

#[cfg(test)]
mod tests;
