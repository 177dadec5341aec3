//! Takes on the identity of a restored guest: the random number generator first, then the wall clock.
//!
//! A guest from a snapshot has the random state and the wall clock of the machine that was saved, and shares both with
//! every sibling. Nothing of a container runs before this is done.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use supermachine_agent_protocol::Identity;

use crate::reply::{Step, bad_request, failed, os_error};
use crate::sys;

const NANOS: u64 = 1_000_000_000;

/// Takes it on.
pub(crate) fn assume(identity: &Identity) -> Step {
    if !identity.is_valid() {
        return Err(bad_request("identify: generation or entropy is not as it should be"));
    }
    let random = OpenOptions::new().write(true).open("/dev/urandom");
    let random = random.map_err(failed(|| "open /dev/urandom".to_owned()))?;
    let step = |what: &'static str| move |error| failed(|| what.to_owned())(error);
    sys::add_entropy(random.as_raw_fd(), &identity.entropy).map_err(step("add entropy"))?;
    // Each CPU's generator, and every batch that the kernel keeps, is made anew from the pool.
    sys::reseed(random.as_raw_fd()).map_err(step("reseed the random number generator"))?;
    set_wall_clock(identity.wall_clock_ns)
}

fn set_wall_clock(ns: u64) -> Step {
    let part = |value: u64| i64::try_from(value).map_err(|_| os_error("wall clock", Errno::EINVAL));
    let time = TimeSpec::new(part(ns / NANOS)?, part(ns % NANOS)?);
    clock_settime(ClockId::CLOCK_REALTIME, time).map_err(|errno| os_error("set the wall clock", errno))
}
