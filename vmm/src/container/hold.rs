//! A container that stands still for a save.

use std::sync::PoisonError;
use std::time::Duration;

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::{FrameKind, Request};
use supermachine_vmm_api::{ContainerState, Sender};

use super::{ContainerError, Slot, State};
use crate::agent::AgentError;
use crate::ending::Ending;
use crate::leash::Leash;
use crate::life::Lifecycle;

/// How long bytes of the input may be on their way.
const INPUT_LIMIT: Duration = Duration::from_secs(5);

/// Whether the container is held for a save.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum HoldState {
    #[default]
    No,
    /// The agent was asked.
    Asked,
    /// It stands still.
    Held,
    /// It is over here: it goes on elsewhere.
    Over,
}

impl Slot {
    /// Whether it stands still for a save, or is about to.
    pub fn is_held(&self) -> bool {
        self.lock().hold != HoldState::No
    }

    /// Takes the agent's word that it stands still; one that nobody waits for any more is passed over.
    pub(super) fn take_held(&self, number: u64) {
        let mut state = self.lock();
        if state.hold == HoldState::Asked && state.holds == number {
            state.hold = HoldState::Held;
        }
        self.changed.notify_all();
    }
}

/// A container that stands still, and goes on when this is dropped.
pub(crate) struct Held<'a>(&'a Lifecycle);

impl Held<'_> {
    /// It goes on elsewhere: what it wrote is still passed on, then the machine ends.
    pub(crate) fn finish(self) {
        self.0.container().lock().hold = HoldState::Over;
        match self.0.main() {
            // All that it wrote before it was held has come; the relay ends once that is written.
            Some(main) => main.close(),
            None => self.0.end(Ending::Killed),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.0.container().lock();
        if state.hold == HoldState::Over {
            return;
        }
        state.hold = HoldState::No;
        // A process that has ended needs nobody's leave.
        if let Some(main) = self.0.main() {
            main.send_json(FrameKind::Request, &Request::Release {});
        }
        if let Some(valve) = &state.valve {
            valve.open();
        }
    }
}

/// Whether it can be brought to a stop.
///
/// # Errors
/// It does not run, or it stands still already.
pub(crate) fn can_hold(slot: &Slot) -> Result<(), ContainerError> {
    check(&slot.lock())
}

fn check(state: &State) -> Result<(), ContainerError> {
    match (state.life, state.hold) {
        (Some(ContainerState::Running), HoldState::No) => Ok(()),
        (Some(ContainerState::Running), _) => Err(ContainerError::IsHeld),
        (Some(ContainerState::Stopped), _) => Err(ContainerError::Over),
        _ => Err(ContainerError::Missing),
    }
}

/// Brings the container to a stop: its processes stand still, all their output that was read has come, no input is under
/// way.
///
/// # Errors
/// It does not run, or does not come to a stop; then it goes on.
pub(crate) fn hold<'a>(life: &'a Lifecycle, leash: &Leash) -> Result<Held<'a>, ContainerError> {
    let slot = life.container();
    let (number, valve) = {
        let mut state = slot.lock();
        check(&state)?;
        state.hold = HoldState::Asked;
        state.holds = state.holds.wrapping_add(1);
        (state.holds, state.valve.clone())
    };
    // From here on dropping it lets everything go on.
    let held = Held(life);
    if !valve.is_none_or(|valve| valve.shut(INPUT_LIMIT)) {
        return Err(ContainerError::InputStuck);
    }
    let ask = |main: &Sender| main.send_json(FrameKind::Request, &Request::Hold { number });
    if !life.main().is_some_and(ask) {
        return Err(AgentError::from(ConnectionError::Closed).into());
    }
    let mut state = slot.lock();
    loop {
        match (state.hold, state.life, leash.why()) {
            (HoldState::Held, ..) => return Ok(held),
            (_, Some(ContainerState::Stopped), _) => break,
            (.., Some(why)) => {
                drop(state);
                return Err(AgentError::Cut(why).into());
            }
            _ => state = slot.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
    drop(state);
    Err(ContainerError::Over)
}
