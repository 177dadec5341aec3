//! A template of a container: its machine is saved at a point of its life, over the base that it came from, and the
//! container goes on. Containers of the same kind start from there.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::{Control, FrameKind, Request};
use supermachine_snapshot::Kind;
use supermachine_snapshot::store::{Parts, Store};
use supermachine_vmm_api::TemplateOrder;

use super::{ContainerError, Slot};
use crate::agent::{AgentError, Link};
use crate::ending;
use crate::freeze::{self, FreezeError, Label};
use crate::leash::Leash;
use crate::life::Lifecycle;
use crate::machine::Machine;

/// How long the guest may take to bring the container to a stop.
const HOLD_LIMIT: Duration = Duration::from_secs(10);
/// The part of a key that names the base.
const BASE: &str = "base";

/// What the slot of a container knows of a template.
#[derive(Default)]
pub(super) struct State {
    /// What is to be saved once the container listens.
    order: Option<(Arc<Machine>, TemplateOrder)>,
    /// Whether the container stands still for it.
    saving: bool,
    /// Whether somebody did something to the container that is in no bundle.
    touched: bool,
}

/// Why no template is made of a container.
#[derive(Debug, thiserror::Error)]
enum TemplateError {
    /// It would have what only this one was told or given.
    #[error("before it listened, processes, signals or limits came to it that others have not")]
    Touched,
    /// The same of its input.
    #[error("before it listened, it was given input")]
    Input,
    /// There is nothing to lie over.
    #[error("its machine does not come from the base template that it was to lie on")]
    Base,
    /// It cannot be brought to a stop.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// It cannot be saved.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// A thread, or a socket.
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl Slot {
    /// Notes what is to be saved once the container listens.
    pub(super) fn order_template(&self, machine: &Arc<Machine>, order: TemplateOrder) {
        self.lock().template.order = Some((machine.clone(), order));
    }

    /// Somebody does something to the container that is in no bundle: from here on no template can be made of it.
    pub fn touch(&self) {
        self.lock().template.touched = true;
    }

    /// Waits while the container stands still for a template, which nobody asked for who could be told so.
    pub fn wait_for_template(&self) {
        let waited = self.changed.wait_while(self.lock(), |state| state.template.saving);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn begin(&self) -> Result<Saving<'_>, TemplateError> {
        let mut state = self.lock();
        if state.template.touched {
            return Err(TemplateError::Touched);
        }
        state.template.saving = true;
        Ok(Saving(self))
    }
}

/// As long as it lives, others wait.
struct Saving<'a>(&'a Slot);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.lock().template.saving = false;
        self.0.changed.notify_all();
    }
}

/// Saves a container that was built and has no streams yet, over the connection that is to be its first process's.
///
/// # Errors
/// The conversation broke; whatever else fails is in the log, and the container is as good as before.
pub(super) fn save_built(
    life: &Lifecycle,
    machine: &Machine,
    order: &TemplateOrder,
    link: &mut Link,
) -> Result<(), AgentError> {
    match link.request(&Request::Hold { number: 0 })? {
        Control::Held { .. } => {}
        other => return Err(ConnectionError::Unexpected(other).into()),
    }
    offer(order, |dir| save(life, machine, order, dir));
    Ok(link.writer.send_json(FrameKind::Request, &Request::Release {})?)
}

/// Saves a container that listens on a port by now, on a thread of its own.
pub(super) fn save_listening(life: &Arc<Lifecycle>) {
    let Some((machine, order)) = life.container().lock().template.order.take() else { return };
    life.mark("container listens");
    let life = life.clone();
    let work = move || offer(&order, |dir| save_running(&life, &machine, &order, dir));
    if let Err(error) = thread::Builder::new().name("template".into()).spawn(work) {
        log::warn!("no template is made of this container: {error}");
    }
}

fn save_running(
    life: &Arc<Lifecycle>,
    machine: &Machine,
    order: &TemplateOrder,
    dir: &Path,
) -> Result<(), TemplateError> {
    let slot = life.container();
    let _saving = slot.begin()?;
    // Nobody asked, so nobody can go away.
    let (ours, _nobody) = UnixStream::pair()?;
    let leash = Leash::new(life, &ours)?;
    leash.limit(Some(HOLD_LIMIT));
    let _held = super::hold(life, &leash)?;
    if slot.lock().valve.as_ref().is_some_and(|valve| valve.is_used()) {
        return Err(TemplateError::Input);
    }
    save(life, machine, order, dir)
}

fn save(life: &Lifecycle, machine: &Machine, order: &TemplateOrder, dir: &Path) -> Result<(), TemplateError> {
    let (hello, _) = life.up().ok_or(ContainerError::Missing)?;
    let base = machine.base().filter(|base| order.key.get(BASE) == Some(&base.to_string()));
    let label = Label {
        kind: Some(Kind::Image),
        key: order.key.clone(),
        holds_container: true,
        base: Some(base.ok_or(TemplateError::Base)?),
    };
    freeze::save(machine, &hello, &label, dir)?;
    life.mark("template saved");
    Ok(())
}

/// Has `save` make what is ordered, unless it is there or another process makes it.
fn offer(order: &TemplateOrder, save: impl FnOnce(&Path) -> Result<(), TemplateError>) {
    let parts = Parts::from_map(order.key.clone());
    let store = Store::open(&order.data);
    match store.and_then(|store| store.bake_if_free(&parts, |dir| Ok(save(dir)?))) {
        Ok(Some(template)) => log::info!("template {} is made of this container", template.key().short()),
        Ok(None) => log::debug!("template {} is there, or is made of another container", parts.key().short()),
        Err(error) => log::warn!("no template is made of this container: {}", ending::chain(&error)),
    }
}
