//! The kernel console: the last lines are kept for the error message, and printed at once where the user wants them.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use log::Level;

use crate::ending::printable;
use crate::logging;

/// Lines kept.
const LINES_MAX: usize = 40;
/// Bytes kept of one line; the guest may send lines without end.
const LINE_MAX: usize = 512;
/// How the kernel begins its last words.
const PANIC: &str = "Kernel panic - not syncing";

#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    current: Vec<u8>,
    panic: Option<String>,
}

/// See the module.
#[derive(Default)]
pub struct Console {
    tail: Mutex<Tail>,
    echo: bool,
}

impl Console {
    /// A console that also says all of it in the log file, or on stderr, if `echo`.
    pub fn new(echo: bool) -> Self {
        Self { echo, ..Self::default() }
    }

    /// Takes one byte of output.
    pub fn put(&self, byte: u8) {
        if self.echo && !logging::has_file() {
            // The console is a courtesy; a closed stderr does not stop the guest.
            let _ = std::io::stderr().write_all(&[byte]);
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        match byte {
            b'\n' => {
                tail.end_line();
                if let Some(line) = tail.lines.back().filter(|_| self.echo && logging::has_file()) {
                    logging::say(Level::Info, &format!("console: {line}"));
                }
            }
            b'\r' => {}
            _ if tail.current.len() < LINE_MAX => tail.current.push(byte),
            _ => {}
        }
    }

    /// The last lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if !tail.current.is_empty() {
            tail.end_line();
        }
        tail.lines.iter().cloned().collect()
    }

    /// The line with which the kernel panicked. The guest can print such a line without a panic: this explains an
    /// end, it never causes one.
    pub fn panic_line(&self) -> Option<String> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).panic.clone()
    }
}

impl Tail {
    fn end_line(&mut self) {
        let line = printable(&String::from_utf8_lossy(&self.current));
        self.current.clear();
        if line.contains(PANIC) {
            self.panic = Some(line.clone());
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_lines_and_bounds_them() {
        let console = Console::new(false);
        for number in 0..100 {
            for byte in format!("line {number}\r\n").bytes() {
                console.put(byte);
            }
        }
        (0..10_000).for_each(|_| console.put(b'x'));
        let lines = console.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[LINES_MAX - 2], "line 99");
        assert_eq!(lines[LINES_MAX - 1].len(), LINE_MAX);
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal_and_a_panic_is_seen() {
        let console = Console::new(false);
        b"[ 0.1] Kernel panic - not syncing: \x1b[2Jno init\n".iter().for_each(|b| console.put(*b));
        assert_eq!(console.panic_line().as_deref(), Some("[ 0.1] Kernel panic - not syncing: \u{fffd}[2Jno init"));
    }
}
