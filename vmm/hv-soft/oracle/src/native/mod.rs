//! The host's own processor, one instruction at a time, in a child process.

// UNSAFETY: fork, pipes and wait have no safe wrappers without more dependencies.
#![expect(unsafe_code, reason = "makes, watches and ends the child process")]

mod child;
mod shared;
#[cfg(test)]
mod tests;
mod trampoline;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub use shared::Poke;
pub(crate) use shared::{POKES, POOL};
use shared::{SIGNAL, SharedMap};

use crate::generate::Case;
use crate::layout::{CODE_BASE, INT3, POINTERS, Place, WINDOW_LEN};
use crate::state::{CpuState, Fault, Outcome, PAGE_FAULT};

/// How long a batch may take before the child counts as hanging.
const BATCH_TIMEOUT_MS: i32 = 10_000;
/// First address above user space on Linux with four-level paging.
const USER_END: u64 = 0x7fff_ffff_f000;

/// What can go wrong natively.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// A system call of the parent failed.
    #[error("{operation} failed")]
    Os {
        /// The call.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The child could not prepare itself.
    #[error("the native child failed at step {step} of its preparation")]
    Setup {
        /// See `child::prepare`.
        step: i32,
    },
    /// The child died or hung at a case; a new one is in place.
    #[error("the native child {how} in case {index} of the batch")]
    Died {
        /// Index in the batch.
        index: usize,
        /// What happened.
        how: &'static str,
    },
}

fn os(operation: &'static str) -> NativeError {
    NativeError::Os { operation, source: io::Error::last_os_error() }
}

struct Child {
    pid: libc::pid_t,
    commands: OwnedFd,
    answers: OwnedFd,
}

/// The child process and the memory it shares with us.
pub struct Native {
    map: SharedMap,
    child: Child,
}

impl Native {
    /// Starts the child.
    ///
    /// # Errors
    /// [`NativeError::Os`] or, at the first batch, [`NativeError::Died`] where the host forbids what it needs.
    pub fn new() -> Result<Self, NativeError> {
        let mut map = SharedMap::new().map_err(|source| NativeError::Os { operation: "memfd", source })?;
        let landings = trampoline::landings().map(u64::to_le_bytes);
        map.get_mut().code[POINTERS..POINTERS + 24].copy_from_slice(landings.as_flattened());
        let child = spawn(&map)?;
        let mut native = Native { map, child };
        native.run(0, 0)?;
        Ok(native)
    }

    /// The code pages' image; what it holds from a batch's start is what runs.
    pub fn code(&mut self) -> &mut [u8] {
        &mut self.map.get_mut().code
    }

    /// The window's contents.
    pub fn window(&mut self) -> &mut [u8; WINDOW_LEN] {
        &mut self.map.get_mut().window
    }

    /// The pool that [`Poke`]s point into.
    pub fn pool(&mut self) -> &mut [u8] {
        &mut self.map.get_mut().pool
    }

    /// Sets case `index` of the batch, its code included.
    pub fn set_case(&mut self, index: usize, case: &Case) {
        case.place.write(self.code(), case.code());
        let native = &mut self.map.get_mut().cases[index];
        native.state = case.state;
        native.pokes = case.pokes;
        native.watch = case.watch;
        native.scrubs = case.scrubs;
    }

    /// Makes case `index` one that does nothing.
    pub fn clear_case(&mut self, index: usize) {
        let place = Place::Slot(index);
        place.write(self.code(), &[]);
        let native = &mut self.map.get_mut().cases[index];
        native.state = CpuState { rip: place.site().start, ..CpuState::RESET };
        native.pokes = Default::default();
        native.watch = [0, 0];
        native.scrubs = Default::default();
    }

    /// Runs cases `first..first + count`, in order, on the window as it is.
    ///
    /// # Errors
    /// [`NativeError::Died`] if the child did not answer; it has been replaced.
    pub fn run(&mut self, first: usize, count: usize) -> Result<(), NativeError> {
        let shared = self.map.get_mut();
        (shared.first, shared.count) = (first as u32, count as u32);
        match exchange(&self.child) {
            Ok(()) => Ok(()),
            Err(how) => {
                let index = self.map.get().current as usize;
                let status = end(&self.child);
                if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) >= child::SETUP_FAILED {
                    return Err(NativeError::Setup { step: libc::WEXITSTATUS(status) - child::SETUP_FAILED });
                }
                self.child = spawn(&self.map)?;
                Err(NativeError::Died { index, how })
            }
        }
    }

    /// What became of `case`, which was case `index`.
    pub fn outcome(&self, index: usize, case: &Case) -> Outcome {
        let result = &self.map.get().results[index];
        let mut outcome = Outcome { state: result.state, fault: None, watch: result.watch };
        if result.how < SIGNAL {
            outcome.state.rip = case.landings()[result.how as usize];
            return outcome;
        }
        let rip = result.state.rip;
        if rip == case.state.rip {
            outcome.fault = Some(fault(result.vector as u8, result.error as u32, result.address));
        } else if result.vector == 3 && self.byte_at(rip.wrapping_sub(1)) == Some(INT3) {
            // It completed and went to a place where nothing but a breakpoint is.
            outcome.state.rip = rip.wrapping_sub(1);
        }
        // Else it completed and what it went to cannot be fetched: RIP is that place.
        outcome
    }

    fn byte_at(&self, address: u64) -> Option<u8> {
        let offset = usize::try_from(address.wrapping_sub(CODE_BASE)).ok()?;
        self.map.get().code.get(offset).copied()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        end(&self.child);
    }
}

fn fault(vector: u8, error: u32, address: u64) -> Fault {
    match vector {
        // Linux sets the present bit for kernel addresses so that user space learns nothing about them.
        PAGE_FAULT if address >= USER_END => Fault { vector, error: error & !1, address },
        PAGE_FAULT => Fault { vector, error, address },
        _ => Fault { vector, error, address: 0 },
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), NativeError> {
    let mut fds: [RawFd; 2] = [0; 2];
    // SAFETY: the array has room for the two descriptors; both are new and owned from here on.
    unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(os("pipe2"));
        }
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

fn spawn(map: &SharedMap) -> Result<Child, NativeError> {
    let (command_out, command_in) = pipe()?;
    let (answer_out, answer_in) = pipe()?;
    // SAFETY: the child calls only `child::main`, which does nothing that is unsafe after a fork of a
    // threaded process: no allocation, no lock, raw system calls.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(os("fork")),
        // SAFETY: this is the fresh process, and the mapping was inherited.
        0 => unsafe { child::main(map.as_ptr(), map.file.as_raw_fd(), command_out.as_raw_fd(), answer_in.as_raw_fd()) },
        _ => Ok(Child { pid, commands: command_in, answers: answer_out }),
    }
}

fn exchange(child: &Child) -> Result<(), &'static str> {
    let mut byte = 1u8;
    // SAFETY: one byte out, one byte in, from a live buffer; no signal of a closed pipe ends us, Rust ignores it.
    unsafe {
        if libc::write(child.commands.as_raw_fd(), (&raw const byte).cast(), 1) != 1 {
            return Err("was gone");
        }
        let mut poll = libc::pollfd { fd: child.answers.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        if libc::poll(&mut poll, 1, BATCH_TIMEOUT_MS) < 1 {
            return Err("hung");
        }
        match libc::read(child.answers.as_raw_fd(), (&raw mut byte).cast(), 1) {
            1 => Ok(()),
            _ => Err("died"),
        }
    }
}

/// Kills and reaps the child; gives its status.
fn end(child: &Child) -> libc::c_int {
    let mut status = 0;
    // SAFETY: the pid is our own unreaped child.
    unsafe {
        libc::kill(child.pid, libc::SIGKILL);
        libc::waitpid(child.pid, &mut status, 0);
    }
    status
}
