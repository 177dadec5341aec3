//! Gives a restored guest an identity of its own, before anything else is asked of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::{Control, Identity, Request};
use supermachine_devices::rng::EntropySource;

use crate::agent::{Agent, AgentError};
use crate::backend::host::HostEntropy;

/// Bytes that the guest's random number generator is seeded with.
const ENTROPY: usize = 64;
/// Bytes of a generation, which is their hexadecimal form.
const GENERATION: usize = 16;
/// The guest's wall clock is behind by less than the identity took to be answered: with more than this another try is
/// made, which finds everything at hand.
const SKEW_MAX: Duration = Duration::from_millis(5);
/// Tries at most; a host that is that slow has other worries.
const TRIES: u32 = 4;

/// Gives the guest behind `agent` a new identity; gives its generation. The connection stays for the next request.
///
/// # Errors
/// The agent does not answer, or cannot; then nothing may run in this guest.
pub fn give(agent: &Agent) -> Result<String, AgentError> {
    let mut source = HostEntropy::open()?;
    let mut link = agent.call()?;
    for last in (0..TRIES).map(|number| number + 1 == TRIES) {
        let identity = fresh(&mut source)?;
        let (sent, generation) = (Instant::now(), identity.generation.clone());
        match link.request(&Request::Identify(identity))? {
            Control::Identified { generation: told } if told == generation => {}
            other => return Err(ConnectionError::Unexpected(other).into()),
        }
        let skew = sent.elapsed();
        if skew > SKEW_MAX && !last {
            continue;
        }
        if skew > SKEW_MAX {
            log::warn!("the guest's wall clock may be {skew:?} behind: the host is busy");
        }
        agent.keep(link);
        return Ok(generation);
    }
    Err(ConnectionError::Closed.into())
}

fn fresh(source: &mut HostEntropy) -> Result<Identity, AgentError> {
    let (mut entropy, mut generation) = (vec![0; ENTROPY], [0; GENERATION]);
    source.fill(&mut entropy)?;
    source.fill(&mut generation)?;
    let generation = generation.iter().map(|byte| format!("{byte:02x}")).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Identity { generation, wall_clock_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), entropy })
}
