//! The incremental decoder: bytes in, frames out, no I/O.

use crate::spec::{HEADER_LEN, MAX_PAYLOAD};
use crate::{Frame, FrameError, Header};

/// What is reserved for a payload before its bytes have come, at most.
const FIRST_RESERVE: usize = 64 << 10;

/// Cuts a byte stream into frames.
///
/// It holds at most one unfinished frame, and memory is taken as bytes arrive: a length field alone allocates next
/// to nothing. After an error it refuses everything.
#[derive(Debug)]
pub struct Decoder {
    max_payload: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER_LEN], have: usize },
    Payload { header: Header, payload: Vec<u8> },
    Refused,
}

impl State {
    const START: Self = Self::Header { bytes: [0; HEADER_LEN], have: 0 };
}

impl Decoder {
    /// A decoder that refuses payloads above `max_payload` bytes (and never accepts more than the protocol's limit).
    pub fn new(max_payload: u32) -> Self {
        Self { max_payload: max_payload.min(MAX_PAYLOAD), state: State::START }
    }

    /// Changes the payload limit in bytes, from the next header on.
    pub fn set_max_payload(&mut self, max_payload: u32) {
        self.max_payload = max_payload.min(MAX_PAYLOAD);
    }

    /// Takes bytes from the front of `input` until a frame is whole or `input` is empty.
    ///
    /// What belongs to the following frames stays in `input`; call again until `Ok(None)`, which says that all of
    /// `input` was taken.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        loop {
            match std::mem::replace(&mut self.state, State::Refused) {
                State::Header { mut bytes, mut have } => {
                    while let (Some(slot), Some((first, rest))) = (bytes.get_mut(have), input.split_first()) {
                        *slot = *first;
                        *input = rest;
                        have += 1;
                    }
                    if have < HEADER_LEN {
                        self.state = State::Header { bytes, have };
                        return Ok(None);
                    }
                    let header = Header::parse(bytes, self.max_payload)?;
                    let payload = Vec::with_capacity(wanted(header).min(FIRST_RESERVE));
                    self.state = State::Payload { header, payload };
                }
                State::Payload { header, mut payload } => {
                    let missing = wanted(header).saturating_sub(payload.len());
                    let (taken, rest) = input.split_at(missing.min(input.len()));
                    payload.extend_from_slice(taken);
                    *input = rest;
                    if taken.len() < missing {
                        self.state = State::Payload { header, payload };
                        return Ok(None);
                    }
                    self.state = State::START;
                    return Ok(Some(Frame { kind: header.kind, payload }));
                }
                State::Refused => return Err(FrameError::Poisoned),
            }
        }
    }

    /// Whether the stream may end here: no frame is begun and unfinished.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. })
    }
}

fn wanted(header: Header) -> usize {
    usize::try_from(header.len).unwrap_or(usize::MAX)
}
