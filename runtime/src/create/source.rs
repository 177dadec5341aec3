//! Where a container's machine comes from, the best first: a template with such a container, the base template, a boot.

use std::path::{Path, PathBuf};

use supermachine_snapshot::store::Template;

use crate::paths::Parts;
use crate::plan::{MachineSource, Plan};
use crate::template::image::Image;
use crate::template::{self, Ready, TemplateError, Verdict};

/// What a machine begins with.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// The kernel's first instruction.
    Boot,
    /// A template.
    Template(&'a Ready),
    /// A template with a container, over another.
    Image(&'a Ready, &'a Template),
    /// The snapshot of a checkpoint, in this directory.
    Checkpoint(&'a Path),
}

/// What there is for a container.
pub(super) struct Source {
    ready: Option<Ready>,
    pub(super) image: Option<Image>,
}

impl Source {
    /// Finds it; the plan becomes that of a container which can be in a template, if it is to be.
    pub(super) fn find(
        parts: &Parts,
        verdict: Result<Verdict, TemplateError>,
        plan: &mut Plan,
        images: &[PathBuf],
    ) -> Self {
        let wanted = plan.source.unwrap_or_else(template::default_source);
        let ready = (wanted != MachineSource::Boot).then(|| template::ready(parts, plan.vm, verdict)).flatten();
        let image = match (wanted, &ready) {
            (MachineSource::Image(point), Some(base)) => Image::find(plan, point, images, base),
            _ => None,
        };
        Self { ready, image }
    }

    /// What the machine begins with.
    pub(super) fn origin(&self) -> Origin<'_> {
        match (&self.ready, self.image.as_ref().and_then(|image| image.found.as_ref())) {
            (Some(base), Some(image)) => Origin::Image(base, image),
            (Some(base), None) => Origin::Template(base),
            (None, _) => Origin::Boot,
        }
    }

    /// The key of the template that the machine begins with.
    pub(super) fn key(&self) -> Option<String> {
        match self.origin() {
            Origin::Template(ready) => Some(ready.template.key().to_string()),
            Origin::Image(_, template) => Some(template.key().to_string()),
            Origin::Boot | Origin::Checkpoint(_) => None,
        }
    }

    /// Takes the next best, since a machine cannot go on from this one.
    pub(super) fn fall_back(&mut self, why: &str) {
        if self.image.take().is_some_and(|image| image.found.is_some()) {
            log::warn!("the machine cannot go on from its image template and starts from the base: {why}");
        } else {
            log::warn!("the machine cannot go on from its template and boots: {why}");
            self.ready = None;
        }
    }
}
