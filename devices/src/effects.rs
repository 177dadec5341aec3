//! What a device asks of its owner after an access.

/// Effects of a register access or a host event on a virtio device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "an effect that is not carried out leaves the guest waiting"]
pub struct Effects {
    /// Pulse the device's interrupt line (level `true`, then `false`).
    pub interrupt: bool,
    /// Work was left because one call does a bounded amount of it: call
    /// [`service`](crate::virtio::MmioDevice::service) soon, after letting others run.
    pub again: bool,
}

impl Effects {
    /// Nothing to do.
    pub const NONE: Self = Self { interrupt: false, again: false };

    /// Adds what `other` asks for.
    pub fn merge(&mut self, other: Self) {
        self.interrupt |= other.interrupt;
        self.again |= other.again;
    }
}
