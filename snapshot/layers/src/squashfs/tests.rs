//! The tables, read back by a reader that knows nothing of the writer.

use proptest::prelude::*;

use super::Compressor;
use super::directory::{self, Entry};
use super::metadata::{MetadataWriter, Position};
use super::pipeline::is_zeros;

/// Unpacks a table: for each block where it begins, and what is in it.
fn blocks(mut table: &[u8], compressor: Compressor) -> Vec<(u32, Vec<u8>)> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    while !table.is_empty() {
        let header = u16::from_le_bytes(table[..2].try_into().expect("a header"));
        let length = usize::from(header & 0x7fff);
        let stored = &table[2..2 + length];
        let bytes = match (header & 0x8000 != 0, compressor) {
            (true, _) => stored.to_vec(),
            (false, Compressor::Lz4) => lz4_flex::block::decompress(stored, 8192).expect("lz4"),
            (false, Compressor::Zstd { .. }) => zstd::bulk::decompress(stored, 8192).expect("zstd"),
            (false, Compressor::None) => panic!("compressed without a compressor"),
        };
        blocks.push((at, bytes));
        at += 2 + length as u32;
        table = &table[2 + length..];
    }
    blocks
}

/// All bytes of a table from a place on.
fn from(blocks: &[(u32, Vec<u8>)], position: Position) -> Vec<u8> {
    let later = blocks.iter().skip_while(|(at, _)| *at < position.block).flat_map(|(_, bytes)| bytes);
    later.copied().skip(position.offset.into()).collect()
}

fn compressors() -> impl Strategy<Value = Compressor> {
    prop_oneof![Just(Compressor::None), Just(Compressor::Lz4), Just(Compressor::Zstd { level: 1 })]
}

/// Names in order, with numbers and places of inodes that are near each other or not.
fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, u32, u32, u16)>> {
    let name = proptest::collection::vec(1u8..=255, 1..40);
    let inode =
        (prop_oneof![0u32..70_000, 1_000_000u32..1_000_300], prop_oneof![Just(0u32), Just(77u32), 0u32..9], 0u16..8192);
    proptest::collection::btree_map(name, inode, 0..1500)
        .prop_map(|map| map.into_iter().map(|(name, (number, block, offset))| (name, number, block, offset)).collect())
}

/// Names and inodes of a listing, and where each header is.
type Read = (Vec<(Vec<u8>, u32, u32, u16)>, Vec<usize>);

fn read_listing(bytes: &[u8]) -> Read {
    let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().expect("a half"));
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a word"));
    let (mut found, mut headers, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        headers.push(at);
        let (count, block, base) = (word(at) + 1, word(at + 4), word(at + 8));
        assert!(count <= 256);
        at += 12;
        for _ in 0..count {
            let apart = half(at + 2) as i16;
            let length = usize::from(half(at + 6)) + 1;
            let name = bytes[at + 8..at + 8 + length].to_vec();
            found.push((name, base.wrapping_add_signed(apart.into()), block, half(at)));
            at += 8 + length;
        }
    }
    (found, headers)
}

proptest! {
    #[test]
    fn tables_hold_what_was_written(
        compressor in compressors(),
        pieces in proptest::collection::vec((0usize..20_000, any::<u8>(), any::<bool>()), 0..20),
    ) {
        let mut table = MetadataWriter::new(compressor).expect("a table");
        let mut written = Vec::new();
        for (length, seed, plain) in pieces {
            let byte = |at: usize| if plain { seed } else { (at * at * 31 + at / 7) as u8 ^ seed };
            let piece: Vec<u8> = (0..length).map(byte).collect();
            written.push((table.position().expect("a place"), piece.clone()));
            table.write(&piece).expect("writes");
        }
        let (bytes, starts) = table.finish_indexed().expect("ends");
        let blocks = blocks(&bytes, compressor);
        prop_assert_eq!(starts, blocks.iter().map(|(at, _)| *at).collect::<Vec<_>>());
        let whole = |(index, (_, block)): (usize, &(u32, Vec<u8>))| block.len() == 8192 || index + 1 == blocks.len();
        prop_assert!(blocks.iter().enumerate().all(whole));
        for (position, piece) in written {
            prop_assert!(position.offset < 8192);
            prop_assert!(from(&blocks, position).starts_with(&piece));
        }
    }

    #[test]
    fn listings_hold_all_entries_and_their_index_leads_to_headers(
        compressor in compressors(),
        entries in entries(),
        before in 0usize..20_000,
    ) {
        let mut table = MetadataWriter::new(compressor).expect("a table");
        table.write(&vec![1; before]).expect("writes");
        let given: Vec<_> = entries
            .iter()
            .map(|(name, number, block, offset)| {
                Entry { name, inode: Position { block: *block, offset: *offset }, number: *number, kind: 2 }
            })
            .collect();
        let listing = directory::write(&given, &mut table).expect("writes");
        let blocks = blocks(&table.finish().expect("ends"), compressor);
        let bytes = from(&blocks, listing.start);
        prop_assert_eq!(bytes.len() + 3, listing.size as usize);
        let (found, headers) = read_listing(&bytes);
        prop_assert_eq!(found, entries);
        let mut last = 0;
        for entry in &listing.index {
            let offset = entry.offset as usize;
            prop_assert!(headers.contains(&offset) && offset > last && offset - last <= 8192);
            last = offset;
            // As the kernel finds the header again: the block, and the offset in it by the offset in the listing.
            let place = Position { block: entry.block, offset: ((offset + usize::from(listing.start.offset)) % 8192) as u16 };
            prop_assert_eq!(&from(&blocks, place)[..], &bytes[offset..]);
            prop_assert!(bytes[offset + 20..].starts_with(&entry.name));
        }
        prop_assert!(bytes.len() - last <= 8192);
    }

    #[test]
    fn zeros_are_told_from_others(length in 1usize..300, at in 0usize..300) {
        let mut bytes = vec![0; length];
        prop_assert!(is_zeros(&bytes));
        bytes[at % length] = 1;
        prop_assert!(!is_zeros(&bytes));
    }
}
