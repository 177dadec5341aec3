//! Images from outside: what becomes of good ones, and that bad ones are refused and leave nothing.

mod build;
mod good;
mod hostile;
mod unlisted;

use std::path::{Path, PathBuf};

use supermachine_layers::image::{Conversion, Image, ImageError, Layer, Platform, Source};
use supermachine_layers::store::{Hold, Store};
use supermachine_layers::{Caps, Options, form};
use tempfile::TempDir;

/// A layer's tar may be this large here.
const TAR_MAX: u64 = 4 << 20;

/// A store and a place for images.
struct Place {
    dir: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let store = Store::open(dir.path().join("layers")).expect("opens");
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn unpack(&self, name: &str, platform: &str, hold: &Hold) -> Result<(Image, Vec<Layer>), ImageError> {
        let options = Options { threads: 1, ..Options::default() };
        let conversion = Conversion { form: form(&options), options, caps: Caps::default(), tar_bytes_max: TAR_MAX };
        let source: Source = name.parse()?;
        let platform: Platform = platform.parse()?;
        let image = Image::open(&source, &platform)?;
        let layers = image.unpack(&self.store, hold, &conversion)?;
        Ok((image, layers))
    }

    /// Files in the store but for the hold and the gate.
    fn in_store(&self) -> usize {
        let count = |dir: &str| self.store.dir().join(dir).read_dir().expect("reads").count();
        ["images", "records", "making", "locks"].map(count).iter().sum()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
