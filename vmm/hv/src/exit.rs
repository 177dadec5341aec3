//! Exits and replies: plain data, so that they can be logged, compared and replayed.

/// Why a vCPU came out of [`run`](crate::Vcpu::run).
///
/// `MmioRead`, `PioRead` and `Hypercall` wait for a [`Reply`]; the others are complete as they are.
/// Accesses are little-endian in the low `size` bytes of the value; `size` is 1, 2, 4 or 8 (ports: 1, 2 or 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest reads `size` bytes at guest physical address `gpa`.
    MmioRead {
        /// Guest physical address.
        gpa: u64,
        /// Width in bytes.
        size: u8,
    },
    /// The guest wrote `value` at guest physical address `gpa`.
    MmioWrite {
        /// Guest physical address.
        gpa: u64,
        /// Width in bytes.
        size: u8,
        /// Little-endian value in the low `size` bytes, upper bytes zero.
        value: u64,
    },
    /// The guest reads `size` bytes from an x86 port.
    PioRead {
        /// Port number.
        port: u16,
        /// Width in bytes.
        size: u8,
    },
    /// The guest wrote `value` to an x86 port.
    PioWrite {
        /// Port number.
        port: u16,
        /// Width in bytes.
        size: u8,
        /// Value in the low `size` bytes.
        value: u32,
    },
    /// The guest made a hypercall (x86 `VMCALL`, arm64 `HVC`/`SMC`: PSCI) that the back end leaves to the vmm.
    Hypercall {
        /// Function number.
        function: u64,
        /// First arguments in the calling convention's order.
        args: [u64; 4],
    },
    /// The guest halted with nothing that could wake it inside the back end: interrupts are off, or the back
    /// end leaves waiting to the caller. `deadline_ns` is when the vCPU's own timer will fire, if it is armed,
    /// in nanoseconds from now.
    Halted {
        /// Nanoseconds until the vCPU's timer fires, if armed.
        deadline_ns: Option<u64>,
    },
    /// [`Kick::kick`](crate::Kick::kick) was called. No guest state is in flight.
    Kicked,
    /// The guest asked for a reset (x86 triple fault is [`Exit::Fault`], not this).
    Reset,
    /// The guest asked to be powered off.
    PowerOff,
    /// The vCPU cannot go on.
    Fault(Fault),
}

/// Conditions that end a vCPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// x86: a fault while delivering a double fault.
    TripleFault,
    /// The hardware or the back end refused the guest's state.
    EntryFailed {
        /// Back-end specific reason number.
        reason: u64,
    },
    /// The back end met something it cannot do; `detail` names it.
    Internal {
        /// One line for the log.
        detail: String,
    },
}

/// Answer to an [`Exit`] that waits for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Data for `MmioRead` or `PioRead`, in the low `size` bytes; upper bytes are ignored.
    Read(u64),
    /// Return value of a `Hypercall`.
    Hypercall(u64),
}

impl Exit {
    /// The exit's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Exit::MmioRead { .. } => "mmio-read",
            Exit::MmioWrite { .. } => "mmio-write",
            Exit::PioRead { .. } => "pio-read",
            Exit::PioWrite { .. } => "pio-write",
            Exit::Hypercall { .. } => "hypercall",
            Exit::Halted { .. } => "halted",
            Exit::Kicked => "kicked",
            Exit::Reset => "reset",
            Exit::PowerOff => "power-off",
            Exit::Fault(_) => "fault",
        }
    }

    /// Whether the vCPU may not run or be saved before [`complete`](crate::Vcpu::complete).
    pub fn needs_reply(&self) -> bool {
        matches!(self, Exit::MmioRead { .. } | Exit::PioRead { .. } | Exit::Hypercall { .. })
    }
}
