//! `bundle create`: makes a bundle of an image.

mod config;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use supermachine_layers::bundle_layers::{self, BundleLayer, BundleLayers};
use supermachine_layers::image::{Image, Layer, Platform, Source, accounts};
use supermachine_layers::reader::Stack;

use crate::paths::Parts;
use crate::state::write_whole;
use crate::{rootfs, template};

use super::VerbError;

/// What the guest is, where the caller does not say.
const PLATFORM: &str = "linux/amd64";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Make a bundle of an image
    Create(Create),
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
struct Create {
    /// oci-layout:PATH, oci-archive:FILE or docker-archive:FILE, each with :REF behind it or not.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// Platform of the image, OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT.
    #[arg(long, value_name = "PLATFORM", default_value = PLATFORM)]
    platform: String,
    /// Directory of the bundle; it must not be there, or be empty.
    dir: PathBuf,
    /// Command instead of the image's: its entrypoint stays.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Does it.
pub fn run(args: &Args) -> Result<u8, VerbError> {
    let Work::Create(args) = &args.work;
    create(args)?;
    Ok(0)
}

fn create(args: &Create) -> Result<(), VerbError> {
    let source: Source = args.image.parse()?;
    let platform: Platform = args.platform.parse()?;
    if platform.os != "linux" {
        return Err(VerbError::Argument(format!("--platform: {platform} is not Linux")));
    }
    let dir = std::path::absolute(&args.dir).map_err(VerbError::Directory)?;
    let io_error = |what| move |source| VerbError::Io { what, source };
    let made = prepare(&dir).map_err(io_error("make the bundle's directory"))?;
    let filled = fill(args, &source, &platform, &dir);
    if filled.is_err() {
        // What was there before stays; the error that led here is the one to tell.
        let _ = if made { fs::remove_dir_all(&dir) } else { empty(&dir) };
    }
    filled
}

/// Makes the directory; gives whether it was not there.
fn prepare(dir: &Path) -> io::Result<bool> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if dir.read_dir()?.next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Removes what is made in a bundle.
fn empty(dir: &Path) -> io::Result<()> {
    for name in ["config.json", bundle_layers::NAME] {
        let _ = fs::remove_file(dir.join(name));
    }
    fs::remove_dir(dir.join("rootfs"))
}

fn fill(args: &Create, source: &Source, platform: &Platform, dir: &Path) -> Result<(), VerbError> {
    let io_error = |what| move |source| VerbError::Io { what, source };
    let image = Image::open(source, platform)?;
    let store = rootfs::store()?;
    let hold = store.hold(&format!("bundle {}", dir.display()))?;
    let verdict = Parts::find().ok().and_then(|parts| template::verdict(&parts).ok());
    let conversion = rootfs::conversion(verdict.as_ref().map(|verdict| verdict.kind.as_str()));
    let layers = image.unpack(&store, &hold, &conversion)?;
    let files: Vec<_> = layers.iter().map(|layer| layer.image.path.clone()).collect();
    let stack = Stack::open(&files).map_err(|source| accounts::UserError::File { path: "/etc/passwd", source })?;
    let user = accounts::user(&stack, &image.config.config.user)?;
    let config = config::config(&image.config, &user, &args.args)?;
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let entry = |layer: &Layer| BundleLayer { image: layer.image.digest, diff_id: layer.diff_id };
    let list = BundleLayers::new(layers.iter().map(entry).collect());
    let list = serde_json::to_vec_pretty(&list).map_err(io::Error::from).map_err(io_error("write layers.json"))?;
    fs::create_dir(dir.join("rootfs")).map_err(io_error("make rootfs"))?;
    write_whole(&dir.join(bundle_layers::NAME), &list, 0o644).map_err(io_error("write layers.json"))?;
    store.keep_for_bundle(dir)?;
    write_whole(&dir.join("config.json"), config.json.as_bytes(), 0o644).map_err(io_error("write config.json"))?;
    let found = layers.iter().filter(|layer| layer.image.found).count();
    log::info!("{} layers, {found} of them were there", layers.len());
    Ok(())
}
