//! Templates: machines that were booted and saved before, one for each size, from which containers start.
//!
//! A template holds nothing of a container: the same one serves every image, command and mount. Whatever goes wrong with
//! templates costs time, not containers: then the machine boots.

mod bake;
pub(crate) mod image;
mod obstacle;
mod verdict;

use std::env;
use std::fs;
use std::io;

use supermachine_snapshot::store::{Event, Parts as KeyParts, Store, StoreError, Template};

use crate::host::launch::LaunchError;
use crate::paths::{self, Parts};
use crate::plan::{MachineSource, VmSize};

use bake::Progress;
pub use verdict::Verdict;

/// Variable that says where machines come from for all containers, as the annotation does for one.
pub const VARIABLE: &str = "SUPERMACHINE_SNAPSHOT";

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vmm cannot be asked for its back end.
    #[error("cannot run the vmm")]
    Probe {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The vmm has no back end here.
    #[error("{said}")]
    NoHypervisor {
        /// Its words.
        said: String,
    },
    /// The baker does not run.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The baker failed.
    #[error("the vmm that boots it failed: {said}")]
    Baker {
        /// Its words.
        said: String,
    },
    /// Another step.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What a template is made in.
pub(crate) struct Mold<'a> {
    parts: &'a Parts,
    size: VmSize,
    verdict: Verdict,
}

impl Mold<'_> {
    /// All that makes another guest. The vmm's program has the command line, the devices and the form of saved states.
    fn key(&self, store: &Store) -> Result<KeyParts, TemplateError> {
        let Parts { vmm, kernel, initramfs } = self.parts;
        let parts = KeyParts::new()
            .with("vmm", store.digest_of(vmm)?)
            .with("kernel", store.digest_of(kernel)?)
            .with("initramfs", store.digest_of(initramfs)?)
            .with("hypervisor", &self.verdict.kind)
            .with("cpu_model", &self.verdict.cpu_model)
            .with("vcpus", self.size.vcpus)
            .with("memory_mib", self.size.memory_mib)
            .with("shape", "container");
        // What the host's CPU can do is the guest's affair only where it is the host's CPU that runs it.
        Ok(if self.verdict.kind == "soft" { parts } else { parts.with("host_cpu", host_cpu()) })
    }
}

/// What Linux says of the first CPU, without what changes from moment to moment.
fn host_cpu() -> String {
    const LASTING: [&str; 5] = ["vendor_id", "model name", "stepping", "microcode", "flags"];
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let lasting = first.lines().filter(|line| LASTING.iter().any(|name| line.starts_with(name)));
    // The key is a digest; what goes into a manifest is short.
    let text = lasting.collect::<Vec<_>>().join("\n");
    KeyParts::new().with("cpu", text).key().to_string()
}

/// Where machines come from unless their annotations say otherwise.
pub fn default_source() -> MachineSource {
    let Ok(name) = env::var(VARIABLE) else { return MachineSource::default() };
    MachineSource::named(&name).unwrap_or_else(|| {
        log::warn!("{VARIABLE}: {name:?} is none of {}; auto is meant", MachineSource::NAMES);
        MachineSource::default()
    })
}

/// Which back end machines run on here.
pub fn verdict(parts: &Parts) -> Result<Verdict, TemplateError> {
    verdict::find(&paths::data_dir(), &parts.vmm)
}

/// A template to start from, and the back end that it is for.
#[derive(Debug)]
pub struct Ready {
    /// The template, in use.
    pub template: Template,
    /// Name of the back end.
    pub hypervisor: String,
}

/// The template for a machine of this size, baked if there is none; `None` if there cannot be one, for a reason that is in
/// the log.
pub fn ready(parts: &Parts, size: VmSize, verdict: Result<Verdict, TemplateError>) -> Option<Ready> {
    match find_or_bake(parts, size, verdict) {
        Ok(ready) => Some(ready),
        Err(error) => {
            log::warn!("no template, the machine boots: {}", chain(&error));
            None
        }
    }
}

/// The same with its error.
pub fn find_or_bake(
    parts: &Parts,
    size: VmSize,
    verdict: Result<Verdict, TemplateError>,
) -> Result<Ready, TemplateError> {
    let store = Store::open(&paths::data_dir())?;
    let mold = Mold { parts, size, verdict: verdict? };
    let key = mold.key(&store)?;
    let mut progress = Progress::new();
    let size = format!("{} MiB, {} vCPU", size.memory_mib, size.vcpus);
    let mut tell = |event: Event<'_>| match event {
        Event::Waiting => progress.show(&format!("waiting for another process that prepares machines ({size}) …")),
        Event::Baking => {
            log::info!("no template for {size} yet: it is baked");
            progress.show(&format!("preparing machines ({size}), once …"));
        }
        Event::Removed { key, reason } => {
            log::warn!("template {} is not usable and is baked anew: {reason}", key.short());
        }
    };
    let template = store.get_or_bake(&key, |dir| Ok(bake::bake(&mold, &key, dir)?), &mut tell)?;
    Ok(Ready { template, hypervisor: mold.verdict.kind })
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
