//! Lines for people, on the console.

use std::fs::OpenOptions;
use std::io::Write;

/// Writes one line. A guest without a console has nobody to tell, so failing is no error.
pub(crate) fn line(text: &str) {
    let line = format!("supermachine: {text}\n");
    // Whatever became of the standard streams, this is the console; before `/dev` is mounted the initramfs has it.
    match OpenOptions::new().write(true).open("/dev/console") {
        Ok(mut console) => drop(console.write_all(line.as_bytes())),
        Err(_) => drop(std::io::stderr().write_all(line.as_bytes())),
    }
}
