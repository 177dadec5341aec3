//! What is wrong with a bundle, and where.

/// A bundle that cannot be planned. `path` is the place in `config.json`, for example `linux.resources.hugepageLimits[0]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A field that must be there is not.
    #[error("{path}: must be set")]
    Missing {
        /// Place in `config.json`.
        path: String,
    },
    /// A value that makes no sense, to this runtime or to any.
    #[error("{path}: {reason}")]
    Invalid {
        /// Place in `config.json`.
        path: String,
        /// Why.
        reason: String,
    },
    /// A value that makes sense and that this runtime does not offer.
    #[error("{path}: {reason}")]
    Unsupported {
        /// Place in `config.json`.
        path: String,
        /// What is not offered.
        reason: String,
    },
}

impl PlanError {
    pub(crate) fn missing(path: impl Into<String>) -> Self {
        Self::Missing { path: path.into() }
    }

    pub(crate) fn invalid(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { path: path.into(), reason: reason.into() }
    }

    /// Place in `config.json`.
    pub fn path(&self) -> &str {
        match self {
            Self::Missing { path } | Self::Invalid { path, .. } | Self::Unsupported { path, .. } => path,
        }
    }
}
