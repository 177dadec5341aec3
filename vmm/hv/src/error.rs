//! What can go wrong behind the seam.

use crate::HypervisorKind;

/// Errors of every back end.
#[derive(Debug, thiserror::Error)]
pub enum HvError {
    /// The back end cannot run on this host.
    #[error("hypervisor {kind} is not usable here: {reason}")]
    Unavailable {
        /// Which back end.
        kind: HypervisorKind,
        /// One line a user can act on.
        reason: String,
    },
    /// A limit of the back end was passed.
    #[error("{what}: {asked} asked for, {limit} is the limit of hypervisor {kind}")]
    Limit {
        /// Which back end.
        kind: HypervisorKind,
        /// The thing that is limited, for example `vCPUs`.
        what: &'static str,
        /// What the caller wanted.
        asked: u64,
        /// What the back end can do.
        limit: u64,
    },
    /// An operating system call failed.
    #[error("{operation} failed")]
    Os {
        /// The call, for example `KVM_SET_SREGS`.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `save` or `run` was called while an exit waits for its reply.
    #[error("the vCPU has an unanswered {exit} exit")]
    ExitInFlight {
        /// The exit's name.
        exit: &'static str,
    },
    /// `complete` was called with a reply that the pending exit does not take.
    #[error("reply does not fit: {detail}")]
    WrongReply {
        /// What was pending and what came.
        detail: &'static str,
    },
    /// A saved state was refused; it is untrusted input.
    #[error("saved state field {field}: {problem}")]
    BadState {
        /// The field by name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}
