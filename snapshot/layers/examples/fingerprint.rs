//! How long the fingerprint of a tree takes: `cargo run --release -p supermachine-layers --example fingerprint TREE`.

use std::path::PathBuf;
use std::time::Instant;

use supermachine_layers::fingerprint;

const ROUNDS: u32 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tree = PathBuf::from(std::env::args_os().nth(1).ok_or("which tree?")?);
    let entries = fingerprint::take(&tree)?.entries;
    let mut best = u128::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        fingerprint::take(&tree)?;
        best = best.min(begin.elapsed().as_nanos());
    }
    let each = best / u128::from(entries.max(1));
    println!("fingerprint.entries {entries}\nfingerprint.us {}\nfingerprint.ns_per_entry {each}", best / 1000);
    Ok(())
}
