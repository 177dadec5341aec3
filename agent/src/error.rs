//! What ends the agent itself. What goes wrong on a connection is an `ErrorReply` there.

use std::io;

/// Errors of the agent's start and of its event loop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The command line is not understood.
    #[error("{usage}")]
    Usage {
        /// How it should look.
        usage: &'static str,
    },
    /// The listen address is not understood.
    #[error("bad listen address {address:?}: vsock:PORT or unix:PATH is expected")]
    Address {
        /// What was given.
        address: String,
    },
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl AgentError {
    /// For `map_err`: names what was tried.
    pub(crate) fn os<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os { action, source: source.into() }
    }
}
