//! The decoder against hostile and well-formed byte streams.

use proptest::collection::vec;
use proptest::prelude::*;
use supermachine_agent_protocol::spec::{HEADER_LEN, MAX_PAYLOAD};
use supermachine_agent_protocol::{Decoder, Frame, FrameError, FrameKind, encode_frame};

const KINDS: [FrameKind; 10] = [
    FrameKind::Stdin,
    FrameKind::Stdout,
    FrameKind::Stderr,
    FrameKind::Resize,
    FrameKind::Signal,
    FrameKind::Exit,
    FrameKind::Error,
    FrameKind::Fuse,
    FrameKind::Control,
    FrameKind::Request,
];

fn frame() -> impl Strategy<Value = Frame> {
    (0..KINDS.len(), vec(any::<u8>(), 0..300)).prop_map(|(kind, mut payload)| {
        let kind = KINDS[kind];
        if let Some(len) = kind.fixed_len() {
            payload.resize(len as usize, 7);
        }
        Frame { kind, payload }
    })
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes).unwrap();
    }
    bytes
}

fn decode_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::new(MAX_PAYLOAD);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut frames = Vec::new();
    let mut start = 0;
    for end in cuts {
        let mut piece = &bytes[start..end];
        while let Some(frame) = decoder.decode(&mut piece)? {
            frames.push(frame);
        }
        assert!(piece.is_empty(), "None means that all input was taken");
        start = end;
    }
    assert!(decoder.at_boundary());
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(frames in vec(frame(), 0..12), cuts in vec(any::<usize>(), 0..40)) {
        prop_assert_eq!(decode_in_pieces(&encoded(&frames), &cuts).unwrap(), frames);
    }

    #[test]
    fn garbage_never_panics_and_stays_under_the_cap(
        bytes in vec(any::<u8>(), 0..2000),
        cap in 0_u32..600,
        step in 1_usize..64,
    ) {
        let mut decoder = Decoder::new(cap);
        'stream: for piece in bytes.chunks(step) {
            let mut piece = piece;
            loop {
                match decoder.decode(&mut piece) {
                    Ok(Some(frame)) => prop_assert!(frame.payload.len() <= cap as usize),
                    Ok(None) => break,
                    Err(_) => {
                        prop_assert!(matches!(decoder.decode(&mut piece), Err(FrameError::Poisoned)));
                        break 'stream;
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_above_the_cap_are_refused_from_the_header_alone(cap in 0_u32..=MAX_PAYLOAD, over in 1_u32..1 << 20) {
        let mut decoder = Decoder::new(cap);
        let mut bytes = vec![FrameKind::Stdin.byte()];
        bytes.extend_from_slice(&(cap + over).to_be_bytes());
        let refused = decoder.decode(&mut bytes.as_slice());
        prop_assert!(matches!(refused, Err(FrameError::TooLong { .. })), "{:?}", refused);
    }
}

#[test]
fn every_single_split_point_works() {
    let frames = [
        Frame { kind: FrameKind::Stdin, payload: Vec::new() },
        Frame { kind: FrameKind::Stdout, payload: b"hello".to_vec() },
        Frame { kind: FrameKind::Exit, payload: vec![0, 0, 0, 0, 7] },
    ];
    let bytes = encoded(&frames);
    for cut in 0..=bytes.len() {
        assert_eq!(decode_in_pieces(&bytes, &[cut]).unwrap(), frames, "cut at {cut}");
    }
}

#[test]
fn the_largest_frame_passes_and_one_byte_more_does_not() {
    let largest = vec![0x5a; MAX_PAYLOAD as usize];
    let mut bytes = Vec::new();
    encode_frame(FrameKind::Stdout, &largest, &mut bytes).unwrap();
    assert_eq!(bytes.len(), HEADER_LEN + largest.len());
    let frame = Decoder::new(u32::MAX).decode(&mut bytes.as_slice()).unwrap().unwrap();
    assert_eq!(frame.payload.len(), largest.len());

    let mut untouched = Vec::new();
    let refused = encode_frame(FrameKind::Stdout, &vec![0; MAX_PAYLOAD as usize + 1], &mut untouched);
    assert!(matches!(refused, Err(FrameError::TooLong { .. })));
    assert!(untouched.is_empty());
}

#[test]
fn unknown_types_and_wrong_fixed_lengths_are_refused() {
    let unknown = Decoder::new(MAX_PAYLOAD).decode(&mut [10, 0, 0, 0, 0].as_slice());
    assert!(matches!(unknown, Err(FrameError::UnknownKind(10))));
    for (kind, len) in [(3, 5), (4, 0), (5, 4), (7, 4), (8, 2)] {
        let wrong = Decoder::new(MAX_PAYLOAD).decode(&mut [kind, 0, 0, 0, len].as_slice());
        assert!(matches!(wrong, Err(FrameError::WrongLength { .. })), "type {kind}");
    }
}

#[test]
fn a_lower_cap_holds_from_the_next_header_on() {
    let mut decoder = Decoder::new(MAX_PAYLOAD);
    let mut bytes = encoded(&[Frame { kind: FrameKind::Stdin, payload: vec![0; 100] }]);
    bytes.extend_from_slice(&bytes.clone());
    let mut input = bytes.as_slice();
    assert!(decoder.decode(&mut input).unwrap().is_some());
    decoder.set_max_payload(99);
    assert!(matches!(decoder.decode(&mut input), Err(FrameError::TooLong { max: 99, .. })));
}
