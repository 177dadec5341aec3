//! What a back end keeps beside a snapshot, so that the next machine from it is faster: a file for each vCPU that may be missing,
//! old or damaged without harm. `docs/kept-code.md` has what it is on soft.

mod mapped;

use std::cell::OnceCell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use supermachine_hv::{GuestMemory, Vcpu};

use crate::freeze;
use crate::settings::Settings;
use mapped::Mapped;

/// Files beside `state` and `memory`.
const NAME: &str = "kept-";

/// Instructions that a vCPU must have decoded for it to be worth while: a tenth of a container's start and end.
const WORTH: usize = 20_000;

/// See the module.
pub struct Keeper {
    /// The snapshot's directory. What is kept beside its base is not for it: most of that is code that it is past.
    dir: PathBuf,
    /// Whether to write, besides reading.
    keep: bool,
    memory: GuestMemory,
}

impl Keeper {
    /// For a machine that comes from a snapshot.
    pub fn new(settings: &Settings, memory: GuestMemory) -> Option<Arc<Self>> {
        Some(Arc::new(Self { dir: settings.restore.clone()?, keep: settings.keep, memory }))
    }

    /// Gives a vCPU that was just restored what was kept of it.
    pub fn recall(&self, index: u32, vcpu: &mut dyn Vcpu) {
        let path = self.dir.join(format!("{NAME}{index}"));
        match Mapped::open(&path) {
            Ok(mapped) => vcpu.recall(Arc::new(mapped)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("{} is not used: {error}", path.display()),
        }
    }

    /// Writes what is to be kept of a vCPU that will not run again.
    pub fn keep(&self, index: u32, vcpu: &dyn Vcpu) {
        if !self.keep {
            return;
        }
        // Asked for only where something is worth keeping: it takes a look at all of RAM.
        let written = OnceCell::new();
        let unchanged = |gpa: u64| {
            let written = written.get_or_init(|| freeze::written(&self.memory).ok().flatten());
            let Some(written) = written else { return false };
            let after = written.partition_point(|span| span.gpa <= gpa);
            after.checked_sub(1).and_then(|at| written.get(at)).is_none_or(|span| gpa - span.gpa >= span.bytes)
        };
        let Some(bytes) = vcpu.keep(WORTH, &unchanged) else { return };
        match write(&self.dir, &format!("{NAME}{index}"), &bytes) {
            Ok(true) => log::info!("kept {} KiB of decoded code for the next machine", bytes.len() >> 10),
            Ok(false) => {}
            Err(error) => log::debug!("nothing is kept in {}: {error}", self.dir.display()),
        }
    }
}

/// Puts a file in place of the one there was, whole or not at all; whether it did: another may be doing so.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let draft = dir.join(format!("{name}.new"));
    // Whoever has the lock of the file at that name is the only one who writes to it or gives it another name.
    let Some(mut file) = supermachine_lock::try_hold_removable(&draft)? else { return Ok(false) };
    let put = file.set_len(0).and_then(|()| file.write_all(bytes)).and_then(|()| fs::rename(&draft, dir.join(name)));
    put.inspect_err(|_| drop(fs::remove_file(&draft)))?;
    Ok(true)
}
