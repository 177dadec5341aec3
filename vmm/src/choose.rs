//! Chooses the back end: what the user names, or the first that passes its probe.

use std::str::FromStr;
use std::time::Duration;

use supermachine_hv::{HvError, Hypervisor, HypervisorKind};
use supermachine_hv_soft::{Model, SoftHypervisor};

/// Environment variable with the same values as `--hypervisor`, which wins.
pub const ENVIRONMENT: &str = "SUPERMACHINE_HYPERVISOR";

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first back end that passes its probe.
    Auto,
    /// This one or none: nothing falls back.
    Only(HypervisorKind),
}

/// A name that is no back end.
#[derive(Debug, thiserror::Error)]
#[error("unknown hypervisor {name:?}: use auto, kvm, hvf or soft")]
pub struct UnknownHypervisor {
    /// What was given.
    pub name: String,
}

impl FromStr for Choice {
    type Err = UnknownHypervisor;

    fn from_str(name: &str) -> Result<Self, UnknownHypervisor> {
        Ok(match name {
            "auto" => Self::Auto,
            "kvm" => Self::Only(HypervisorKind::Kvm),
            "hvf" => Self::Only(HypervisorKind::Hvf),
            "soft" => Self::Only(HypervisorKind::Soft),
            _ => return Err(UnknownHypervisor { name: name.to_owned() }),
        })
    }
}

/// No back end for this machine.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// The one that was asked for refused.
    #[error(transparent)]
    Refused(HvError),
    /// All refused, each for its reason.
    #[error("no hypervisor is usable here: {}", reasons.join("; "))]
    None {
        /// One line a back end.
        reasons: Vec<String>,
    },
}

/// Environment variable: milliseconds that the KVM probe may take on a host that it refuses, for hosts that are slow
/// at first.
pub const PROBE_ENVIRONMENT: &str = "SUPERMACHINE_PROBE_MS";
/// What it may take unless told.
const PROBE_LIMIT: Duration = Duration::from_millis(270);

/// Order of preference.
const ORDER: [HypervisorKind; 3] = [HypervisorKind::Hvf, HypervisorKind::Kvm, HypervisorKind::Soft];

/// Opens the back end, with the CPU model of this name where one is given. With [`Choice::Auto`] each one that is passed over on this system gives one log line.
pub fn open(choice: Choice, cpu_model: Option<&str>) -> Result<Box<dyn Hypervisor>, ChooseError> {
    if let Choice::Only(kind) = choice {
        return probe(kind, cpu_model).map_err(ChooseError::Refused);
    }
    let mut reasons = Vec::new();
    for kind in ORDER {
        match probe(kind, cpu_model) {
            Ok(hypervisor) => {
                for reason in &reasons {
                    log::warn!("{reason}; using {kind}");
                }
                return Ok(hypervisor);
            }
            Err(error) if is_native(kind) => reasons.push(error.to_string()),
            Err(_) => {}
        }
    }
    Err(ChooseError::None { reasons })
}

/// [`open`] for a caller that knows that the back end passed its probe since this host booted: KVM, where it is named, is
/// not timed again. To make a machine for that takes longer than a restore.
pub fn open_probed(choice: Choice, cpu_model: Option<&str>) -> Result<Box<dyn Hypervisor>, ChooseError> {
    match (choice, cpu_model) {
        (Choice::Only(HypervisorKind::Kvm), None) => kvm_untimed().map_err(ChooseError::Refused),
        _ => open(choice, cpu_model),
    }
}

/// Whether a refusal is worth a word: HVF missing on Linux is not.
fn is_native(kind: HypervisorKind) -> bool {
    match kind {
        HypervisorKind::Kvm => cfg!(target_os = "linux"),
        HypervisorKind::Hvf => cfg!(target_os = "macos"),
        HypervisorKind::Soft => true,
    }
}

fn probe(kind: HypervisorKind, cpu_model: Option<&str>) -> Result<Box<dyn Hypervisor>, HvError> {
    match (kind, cpu_model) {
        (HypervisorKind::Soft, Some(name)) => {
            let model = Model::from_name(name).ok_or_else(|| unknown_model(kind, name))?;
            Ok(Box::new(SoftHypervisor::new(model)))
        }
        (HypervisorKind::Soft, None) => Ok(Box::new(SoftHypervisor::default())),
        (_, Some(name)) => Err(unknown_model(kind, name)),
        (HypervisorKind::Kvm, None) => kvm(probe_limit()),
        (HypervisorKind::Hvf, None) => Err(unavailable(kind, "this build has no Hypervisor.framework back end yet")),
    }
}

fn unknown_model(kind: HypervisorKind, name: &str) -> HvError {
    unavailable(kind, &format!("it has no CPU model {name:?}; soft has soft-v1 and soft-v2"))
}

fn probe_limit() -> Duration {
    let given = std::env::var(PROBE_ENVIRONMENT).ok().and_then(|millis| millis.parse().ok());
    given.map_or(PROBE_LIMIT, Duration::from_millis)
}

#[cfg(target_os = "linux")]
fn kvm(limit: Duration) -> Result<Box<dyn Hypervisor>, HvError> {
    supermachine_hv_kvm::probe_within(limit).map(|kvm| Box::new(kvm) as Box<dyn Hypervisor>)
}

#[cfg(target_os = "linux")]
fn kvm_untimed() -> Result<Box<dyn Hypervisor>, HvError> {
    supermachine_hv_kvm::open().map(|kvm| Box::new(kvm) as Box<dyn Hypervisor>)
}

#[cfg(not(target_os = "linux"))]
fn kvm_untimed() -> Result<Box<dyn Hypervisor>, HvError> {
    kvm(Duration::ZERO)
}

#[cfg(not(target_os = "linux"))]
fn kvm(_: Duration) -> Result<Box<dyn Hypervisor>, HvError> {
    Err(unavailable(HypervisorKind::Kvm, "KVM is a part of Linux"))
}

fn unavailable(kind: HypervisorKind, reason: &str) -> HvError {
    HvError::Unavailable { kind, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!("auto".parse::<Choice>().ok(), Some(Choice::Auto));
        for kind in ORDER {
            assert_eq!(kind.to_string().parse::<Choice>().ok(), Some(Choice::Only(kind)));
        }
        assert!("KVM".parse::<Choice>().is_err_and(|e| e.to_string().contains("use auto, kvm, hvf or soft")));
    }

    #[test]
    fn a_named_back_end_never_falls_back() {
        assert!(matches!(open(Choice::Only(HypervisorKind::Hvf), None), Err(ChooseError::Refused(_))));
    }
}
