//! Whatever a peer sends on the control socket is a message or an error: no panic, no endless loop, no allocation that the
//! peer chooses.

use proptest::prelude::*;
use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, read_frame};
use supermachine_agent_protocol::container::Resources;
use supermachine_agent_protocol::{Exec, FrameKind, encode_json};
use supermachine_vmm_api::{FRAME_MAX, Reply, Request};

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Status {}),
        Just(Request::Stats {}),
        Just(Request::Pause {}),
        Just(Request::Resume {}),
        Just(Request::Shutdown {}),
        Just(Request::Start {}),
        Just(Request::Processes {}),
        Just(Request::Usage {}),
        any::<u32>().prop_map(|count| Request::Files { count }),
        any::<u32>().prop_map(|signal| Request::Kill { signal }),
        any::<u32>().prop_map(|count| Request::Files { count }),
        any::<u32>().prop_map(|signal| Request::KillAll { signal }),
        prop::collection::btree_map(".*", ".*", 0..4)
            .prop_map(|files| Request::Update(Resources { files, ..Resources::default() })),
        prop::collection::vec(".*", 0..4).prop_map(|argv| Request::Exec(Box::new(Exec::new(argv)))),
        (any::<usize>(), "[^\0]*", any::<bool>()).prop_map(|(slot, path, read_only)| Request::AttachDisk {
            slot,
            path: path.into(),
            read_only
        }),
    ]
}

/// Reads frames and messages until the stream is at its end or refused; gives the number of frames.
fn read_all(bytes: &[u8]) -> usize {
    let mut reader = FrameReader::new(bytes, FRAME_MAX);
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next_frame() {
        let _ = frame.parse_json::<Request>();
        let _ = frame.parse_json::<Reply>();
        frames += 1;
    }
    frames
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(read_all(&bytes) <= bytes.len() / 5);
    }

    #[test]
    fn requests_survive_the_way_and_damaged_ones_do_no_harm(
        request in request(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        encode_json(FrameKind::Request, &request, &mut bytes).unwrap();
        let frame = read_frame(&mut bytes.as_slice(), FRAME_MAX).unwrap().unwrap();
        prop_assert_eq!(frame.parse_json::<Request>().unwrap(), request);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        read_all(&bytes);
        read_all(&bytes[..at]);
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
    let header = [0xff, 0x7f, 0xff, 0xff, 0xff];
    let refused = read_frame(&mut header.as_slice(), FRAME_MAX);
    assert!(matches!(refused, Err(ConnectionError::Frame(_))), "{refused:?}");
}

#[test]
fn unknown_fields_and_requests_are_refused() {
    for json in [r#"{"status":{"x":1}}"#, r#"{"reboot":{}}"#, r#"{"kill":{}}"#, r#"{"kill":{"signal":-1}}"#, "[]", "{}"]
    {
        assert!(serde_json::from_str::<Request>(json).is_err(), "{json}");
    }
}
