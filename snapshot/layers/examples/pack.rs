//! Packs a directory or a tar into a squashfs image: `pack SOURCE IMAGE [none|lz4|zstd[:LEVEL]] [THREADS]`; `-` is a tar on standard
//! input. Prints what came out. For benchmarks and for looking at images by hand.

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::{env, io};

use supermachine_layers::{Caps, Compressor, Options, Summary, pack_tar, pack_tree};

fn compressor(name: &str) -> Result<Compressor, Box<dyn Error>> {
    Ok(match name.split_once(':').unwrap_or((name, "15")) {
        ("none", _) => Compressor::None,
        ("lz4", _) => Compressor::Lz4,
        ("zstd", level) => Compressor::Zstd { level: level.parse()? },
        _ => return Err(format!("no compressor {name}").into()),
    })
}

fn pack(source: &str, out: File, options: &Options) -> Result<Summary, Box<dyn Error>> {
    let caps = Caps::default();
    Ok(match Path::new(source) {
        stdin if stdin == Path::new("-") => pack_tar(io::stdin().lock(), out, options, &caps)?,
        tree if tree.is_dir() => pack_tree(tree, out, options, &caps)?,
        file => pack_tar(File::open(file)?, out, options, &caps)?,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (source, image) = match words.as_slice() {
        [source, image, ..] => (source, image),
        _ => return Err("pack SOURCE IMAGE [none|lz4|zstd[:LEVEL]] [THREADS]".into()),
    };
    let compressor = words.get(2).map_or(Ok(Options::default().compressor), |name| compressor(name))?;
    let threads = words.get(3).map_or(Ok(0), |number| number.parse())?;
    let options = Options { compressor, threads, ..Options::default() };
    let out = File::options().read(true).write(true).create(true).truncate(true).open(image)?;
    println!("{:?}", pack(source, out, &options)?);
    Ok(())
}
