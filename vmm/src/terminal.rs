//! The user's terminal, where the main process has one: raw while the machine runs, restored after.
//!
//! UNSAFETY: the terminal's size comes from an ioctl that fills a struct.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::termios::{self, SetArg, Termios};
use supermachine_agent_protocol::WindowSize;

/// Puts the terminal back when it is dropped.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Makes standard input raw, if it is a terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to put back.
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// The size of the terminal on standard input, if it is one.
#[expect(unsafe_code, reason = "ioctl on standard input")]
pub fn size() -> Option<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the address, which is a live local of that type; on a descriptor
    // that is no terminal it fails and writes nothing. The guest has no part in it.
    let result = unsafe { libc::ioctl(io::stdin().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some(WindowSize { rows: size.ws_row, cols: size.ws_col })
}
