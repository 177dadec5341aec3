//! Why a saved state is refused.

use crate::virtio::QueueError;

/// Why a saved device state was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A number does not fit.
    #[error("saved field {field} is {value:#x}, which this device cannot have")]
    Field {
        /// The field by name.
        field: &'static str,
        /// What it was.
        value: u64,
    },
    /// A queue does not fit.
    #[error("saved queue {index}")]
    Queue {
        /// Which queue.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: QueueError,
    },
}
