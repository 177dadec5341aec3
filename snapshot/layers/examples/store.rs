//! What the store costs a `create`: `cargo run --release -p supermachine-layers --example store TREE` packs a tree into a new store,
//! with each compressor, and finds it again.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use supermachine_layers::image::made;
use supermachine_layers::store::Store;
use supermachine_layers::{Caps, Compressor, Options, form, pack_tree};

const ROUNDS: u32 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let tree = PathBuf::from(args.next().ok_or("which tree?")?);
    let scratch = PathBuf::from(args.next().unwrap_or_else(|| std::env::temp_dir().into()));
    for (name, compressor) in
        [("none", Compressor::None), ("lz4", Compressor::Lz4), ("zstd3", Compressor::Zstd { level: 3 })]
    {
        times(&tree, &scratch.join(format!("store-{}", std::process::id())), name, compressor)?;
    }
    Ok(())
}

fn times(tree: &Path, dir: &Path, name: &str, compressor: Compressor) -> Result<(), Box<dyn Error>> {
    let options = Options { compressor, ..Options::default() };
    let caps = Caps::default();
    let (mut cold, mut warm, mut bytes) = (u128::MAX, u128::MAX, 0);
    for _ in 0..ROUNDS {
        let store = Store::open(dir.to_owned())?;
        for best in [&mut cold, &mut warm] {
            let begin = Instant::now();
            let hold = store.hold("measurement")?;
            let pack = |root: &Path, out| pack_tree(root, out, &options, &caps).map(|summary| made(&summary));
            bytes = store.tree(tree, &form(&options), &hold, pack)?.bytes;
            *best = (*best).min(begin.elapsed().as_micros());
        }
        std::fs::remove_dir_all(dir)?;
    }
    println!("store.{name}.first_us {cold}\nstore.{name}.again_us {warm}\nstore.{name}.bytes {bytes}");
    Ok(())
}
