//! The user's socket into the guest's vsock ports: a client sends `CONNECT <port>\n`, gets `OK <port>\n`, and is joined.
//!
//! The convention is Firecracker's, so that its clients work here unchanged.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use crate::agent::Agent;

/// Longest first line: `CONNECT 4294967295\n`.
const LINE_MAX: usize = 19;

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("vsock socket {}", path.display())]
pub struct VsockSocketError {
    /// Where.
    path: PathBuf,
    /// Why.
    #[source]
    source: io::Error,
}

/// A bound socket; its file goes when this goes.
pub struct VsockSocket {
    path: PathBuf,
}

impl VsockSocket {
    /// Binds `path` and serves each client on a thread until it is joined to the guest.
    pub fn serve(path: &Path, agent: Agent) -> Result<Self, VsockSocketError> {
        let error = |source| VsockSocketError { path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(error)?;
        let socket = Self { path: path.to_owned() };
        let accept = move || {
            for client in listener.incoming().flatten() {
                let agent = agent.clone();
                let started = thread::Builder::new().name("vsock-client".into()).spawn(move || join(client, &agent));
                if let Err(error) = started {
                    log::warn!("vsock socket: {error}");
                }
            }
        };
        thread::Builder::new().name("vsock-socket".into()).spawn(accept).map_err(error)?;
        Ok(socket)
    }
}

impl Drop for VsockSocket {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = fs::remove_file(&self.path);
    }
}

fn join(mut client: UnixStream, agent: &Agent) {
    let joined = read_port(&mut client).and_then(|port| {
        client.write_all(format!("OK {port}\n").as_bytes())?;
        agent.attach(port, client).map_err(io::Error::other)
    });
    if let Err(error) = joined {
        log::debug!("vsock client: {error}");
    }
}

/// Reads byte by byte, so that nothing after the line is taken from the stream.
fn read_port(client: &mut UnixStream) -> io::Result<u32> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while line.len() < LINE_MAX {
        client.read_exact(&mut byte)?;
        let [byte] = byte;
        if byte == b'\n' {
            break;
        }
        line.push(byte);
    }
    let text = std::str::from_utf8(&line).ok();
    let port = text.and_then(|text| text.strip_prefix("CONNECT ")).and_then(|port| port.parse().ok());
    port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the first line is not CONNECT and a port"))
}
