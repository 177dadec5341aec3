//! What runs in the child after the fork: no allocation, no thread-local storage, four system calls at most.

// UNSAFETY: the child owns its whole address space and puts itself into the state that a fuzzed instruction needs.
#![expect(unsafe_code, reason = "system calls, signal frames and shared memory in a process of its own")]

use std::arch::asm;
use std::ffi::{c_int, c_long, c_void};
use std::os::fd::RawFd;
use std::ptr;

use super::shared::{NativeCase, NativeResult, SIGNAL, Shared};
use super::trampoline::{soft_oracle_enter, soft_oracle_signal};
use crate::layout::{CODE_BASE, CODE_LEN, FS_BASE, GS_BASE, WINDOW_BASE, WINDOW_LEN, WINDOW_RW_LEN};
use crate::state::{RDI, RSI, WATCH_LEN};

const ALT_STACK: usize = 64 * 1024;
const ARCH_SET_GS: c_long = 0x1001;
const ARCH_SET_FS: c_long = 0x1002;
/// First bits of the status a child leaves with when it cannot start.
pub(super) const SETUP_FAILED: c_int = 64;

/// The child's life: prepares itself, then runs batches until the command pipe closes.
///
/// # Safety
/// Only in a process just forked, with `shared` mapped as in the parent. `memory` is the file behind it.
pub(super) unsafe fn main(shared: *mut Shared, memory: RawFd, commands: RawFd, answers: RawFd) -> ! {
    // SAFETY: a process of our own, as the caller promises.
    let failed = unsafe { prepare(memory, commands, answers) };
    if let Some(step) = failed {
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(SETUP_FAILED + step) }
    }
    loop {
        let mut byte = 0u8;
        if system_call(libc::SYS_read, [commands as usize, &raw mut byte as usize, 1]) != 1 {
            system_call(libc::SYS_exit, [0, 0, 0]);
        }
        // SAFETY: the parent waits for our answer, so the shared memory is ours now.
        unsafe { run_batch(shared) };
        if system_call(libc::SYS_write, [answers as usize, &raw const byte as usize, 1]) != 1 {
            system_call(libc::SYS_exit, [1, 0, 0]);
        }
    }
}

/// Gives the number of the step that failed.
unsafe fn prepare(memory: RawFd, commands: RawFd, answers: RawFd) -> Option<c_int> {
    // SAFETY: plain system calls on a fresh process; every mapping is at an address that must be free.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Some(1);
        }
        let read = libc::PROT_READ;
        if !map(memory, CODE_BASE, CODE_LEN, read | libc::PROT_EXEC, 0)
            || !map(memory, WINDOW_BASE, WINDOW_RW_LEN, read | libc::PROT_WRITE, CODE_LEN)
        {
            return Some(2);
        }
        let read_only = WINDOW_BASE + WINDOW_RW_LEN as u64;
        if !map(memory, read_only, WINDOW_LEN - WINDOW_RW_LEN, read, CODE_LEN + WINDOW_RW_LEN) {
            return Some(3);
        }
        if !catch_signals() {
            return Some(4);
        }
        close_others(commands, answers);
        if libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, GS_BASE) != 0
            || system_call(libc::SYS_arch_prctl, [ARCH_SET_FS as usize, FS_BASE as usize, 0]) != 0
        {
            return Some(5);
        }
        // From here on there is no thread-local storage: raw system calls only.
        let seccomp = [libc::PR_SET_SECCOMP as usize, libc::SECCOMP_MODE_STRICT as usize, 0];
        (system_call(libc::SYS_prctl, seccomp) != 0).then_some(6)
    }
}

unsafe fn map(memory: RawFd, address: u64, len: usize, protection: c_int, offset: usize) -> bool {
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
    // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
    let got = unsafe { libc::mmap(address as *mut c_void, len, protection, flags, memory, offset as libc::off_t) };
    got as u64 == address
}

unsafe fn catch_signals() -> bool {
    // SAFETY: a fresh private mapping becomes the signal stack, and the handler is our own assembly, which
    // leaves for `soft_oracle_enter`'s caller.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let stack = libc::mmap(ptr::null_mut(), ALT_STACK, protection, flags, -1, 0);
        let signal_stack = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: ALT_STACK };
        if stack == libc::MAP_FAILED || libc::sigaltstack(&signal_stack, ptr::null_mut()) != 0 {
            return false;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = soft_oracle_signal as *const c_void as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP]
            .iter()
            .all(|&signal| libc::sigaction(signal, &action, ptr::null_mut()) == 0)
    }
}

/// Closes what was inherited: other children's pipes must see their ends close.
fn close_others(commands: RawFd, answers: RawFd) {
    let (low, high) = (commands.min(answers) as usize, commands.max(answers) as usize);
    for (from, to) in [(0, low), (low + 1, high), (high + 1, usize::MAX)] {
        if from < to {
            let to = to.min(u32::MAX as usize) - 1;
            system_call(libc::SYS_close_range, [from, to, 0]);
        }
    }
}

/// A system call without errno, which is thread-local.
fn system_call(number: c_long, arguments: [usize; 3]) -> isize {
    let result;
    // SAFETY: the callers pass valid pointers; the kernel clobbers only RCX and R11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

unsafe fn run_batch(shared: *mut Shared) {
    // SAFETY: the parent keeps `first + count` within the arrays, offsets within the window and the pool; it
    // is our own code and no guest.
    unsafe {
        let first = (*shared).first as usize;
        let window = (&raw mut (*shared).window).cast::<u8>();
        let pool = (&raw const (*shared).pool).cast::<u8>();
        let cases = (&raw const (*shared).cases).cast::<NativeCase>();
        let results = (&raw mut (*shared).results).cast::<NativeResult>();
        for index in first..first.wrapping_add((*shared).count as usize) {
            ptr::write_volatile(&raw mut (*shared).current, index as u32);
            let case = cases.add(index);
            let result = results.add(index);
            for poke in &(*case).pokes {
                if poke.len != 0 {
                    let from = pool.add(poke.pool as usize);
                    ptr::copy_nonoverlapping(from, window.add(poke.offset as usize), poke.len as usize);
                }
            }
            let how = soft_oracle_enter(&raw const (*case).state, &raw mut (*result).state);
            if how <= 2 {
                (*result).how = how as u64;
            } else {
                take_signal(how as *const libc::ucontext_t, result);
            }
            for scrub in &(*case).scrubs {
                ptr::write_bytes(window.add(scrub.offset as usize), 0, scrub.len as usize);
            }
            for (&offset, bytes) in (*case).watch.iter().zip(&mut (*result).watch) {
                ptr::copy_nonoverlapping(window.add(offset as usize), bytes.as_mut_ptr(), WATCH_LEN);
            }
        }
    }
}

/// Order of the general registers in a signal frame, by our numbers.
const FRAME_ORDER: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];
const _: () = assert!(FRAME_ORDER[RSI] == libc::REG_RSI && FRAME_ORDER[RDI] == libc::REG_RDI);

unsafe fn take_signal(context: *const libc::ucontext_t, result: *mut NativeResult) {
    // SAFETY: the kernel wrote the frame on the signal stack, which nothing has used since.
    unsafe {
        let machine = &raw const (*context).uc_mcontext;
        let saved =
            |register: c_int| ptr::read((&raw const (*machine).gregs).cast::<i64>().add(register as usize)) as u64;
        for (index, &register) in FRAME_ORDER.iter().enumerate() {
            ptr::write((&raw mut (*result).state.gpr).cast::<u64>().add(index), saved(register));
        }
        (*result).state.rflags = saved(libc::REG_EFL);
        (*result).state.rip = saved(libc::REG_RIP);
        let fx = (&raw mut (*result).state.fx).cast::<u8>();
        ptr::copy_nonoverlapping((*machine).fpregs.cast::<u8>(), fx, 512);
        (*result).how = SIGNAL;
        (*result).vector = saved(libc::REG_TRAPNO);
        (*result).error = saved(libc::REG_ERR);
        (*result).address = saved(libc::REG_CR2);
    }
}
