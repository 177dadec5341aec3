//! The packet header (virtio 1.2 §5.10.6), between its bytes and a struct.

use super::spec::HEADER_SIZE;

/// Fields of a packet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_SIZE]) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_SIZE] {
        let Self { src_cid, dst_cid, src_port, dst_port, len, kind, op, flags, buf_alloc, fwd_cnt } = *self;
        let fields = src_cid
            .to_le_bytes()
            .into_iter()
            .chain(dst_cid.to_le_bytes())
            .chain(src_port.to_le_bytes())
            .chain(dst_port.to_le_bytes())
            .chain(len.to_le_bytes())
            .chain(kind.to_le_bytes())
            .chain(op.to_le_bytes())
            .chain(flags.to_le_bytes())
            .chain(buf_alloc.to_le_bytes())
            .chain(fwd_cnt.to_le_bytes());
        let mut bytes = [0; HEADER_SIZE];
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((front, tail)) = rest.split_first_chunk::<N>() else { return [0; N] };
    *rest = tail;
    *front
}
