//! Where a container's machine comes from, the best first: a template with such a container, the base template, a boot.

use std::path::{Path, PathBuf};

use supermachine_agent_protocol::container::TemplatePoint;
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
        let point = match wanted {
            MachineSource::Image(point) => Some(point),
            MachineSource::Automatic => Some(TemplatePoint::PreExec),
            MachineSource::Template | MachineSource::Boot => None,
        };
        let is_automatic = wanted == MachineSource::Automatic;
        let find = |(point, base)| Image::find(plan, point, images, base, is_automatic);
        let image = point.zip(ready.as_ref()).and_then(find);
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

    /// Takes the next best for the plan's container, since a machine cannot go on from this one.
    pub(super) fn fall_back(&mut self, plan: &mut Plan, why: &str) {
        plan.container.template = None;
        match self.image.take().map(|image| image.found.is_some()) {
            Some(true) => {
                log::warn!("the machine cannot go on from its image template and starts from the base: {why}");
            }
            Some(false) => log::warn!("the container cannot be in a template and starts from the base: {why}"),
            None => {
                log::warn!("the machine cannot go on from its template and boots: {why}");
                self.ready = None;
            }
        }
    }
}
