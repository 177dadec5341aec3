//! The user's socket into the guest's vsock ports: a client sends `CONNECT <port>\n`, gets `OK <port>\n`, and is joined.
//!
//! The convention is Firecracker's, so that its clients work here unchanged.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use crate::agent::Agent;
use crate::socket::Socket;

/// Longest first line: `CONNECT 4294967295\n`.
const LINE_MAX: usize = 19;

/// Serves each client of the socket on a thread until it is joined to the guest.
pub fn serve(socket: &Socket, agent: &Agent) -> io::Result<()> {
    let (listener, agent) = (socket.listener.try_clone()?, agent.clone());
    let accept = move || {
        for client in listener.incoming() {
            let agent = agent.clone();
            let started = client.and_then(|client| {
                thread::Builder::new().name("vsock-client".into()).spawn(move || join(client, &agent))
            });
            if let Err(error) = started {
                log::warn!("vsock socket: {error}");
            }
        }
    };
    thread::Builder::new().name("vsock-socket".into()).spawn(accept)?;
    Ok(())
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
