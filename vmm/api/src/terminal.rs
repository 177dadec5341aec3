//! The user's terminal: raw while a process in the guest has it, restored after.
//!
//! UNSAFETY: the terminal's size comes from an ioctl that fills a struct.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::termios::{self, SetArg, Termios};
use supermachine_agent_protocol::WindowSize;

/// Puts the terminal back when it is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes `fd` raw, if it is a terminal.
    ///
    /// # Errors
    /// It is one, and does not let itself be changed.
    pub fn enter(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        if !fd.is_terminal() {
            return Ok(None);
        }
        let terminal = fd.try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to put back.
        let _ = termios::tcsetattr(self.terminal.as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// The size of the terminal `fd`, if it is one.
#[expect(unsafe_code, reason = "ioctl on a terminal")]
pub fn size(fd: BorrowedFd<'_>) -> Option<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the address, which is a live local of that type; on a descriptor
    // that is no terminal it fails and writes nothing. The guest has no part in it.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some(WindowSize { rows: size.ws_row, cols: size.ws_col })
}
