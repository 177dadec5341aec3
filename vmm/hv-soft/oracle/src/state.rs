//! The state an instruction starts from and leaves behind.

/// Index of RAX in [`CpuState::gpr`]; the others follow in encoding order.
pub const RAX: usize = 0;
/// Index of RCX.
pub const RCX: usize = 1;
/// Index of RDX.
pub const RDX: usize = 2;
/// Index of RBX.
pub const RBX: usize = 3;
/// Index of RSP.
pub const RSP: usize = 4;
/// Index of RBP.
pub const RBP: usize = 5;
/// Index of RSI.
pub const RSI: usize = 6;
/// Index of RDI.
pub const RDI: usize = 7;

/// Status flags CF, PF, AF, ZF, SF and OF.
pub const STATUS_FLAGS: u64 = 0x8d5;
/// Direction flag.
pub const DF: u64 = 1 << 10;
/// Interrupt flag and the bit that is always one, as user code has them.
pub const BASE_FLAGS: u64 = 0x202;
/// Trap flag.
pub const TF: u64 = 1 << 8;
/// Resume flag: set in the image a fault pushes.
pub const RF: u64 = 1 << 16;

/// Names of the general registers in encoding order.
pub const GPR_NAMES: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// Everything an instruction can read or change outside memory. The trampoline knows the layout.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct CpuState {
    /// FXSAVE64 image: x87, MMX, XMM0–15, MXCSR.
    pub fx: [u8; 512],
    /// General registers in encoding order.
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// Address of the instruction, or of the next one.
    pub rip: u64,
}

impl CpuState {
    /// All zero but what must be set for the state to load.
    pub const RESET: CpuState = {
        let mut fx = [0; 512];
        (fx[0], fx[1]) = (0x7f, 0x03);
        (fx[24], fx[25]) = (0x80, 0x1f);
        CpuState { fx, gpr: [0; 16], rflags: BASE_FLAGS, rip: 0 }
    };

    /// MXCSR of the image.
    pub fn mxcsr(&self) -> u32 {
        u32::from_le_bytes([self.fx[24], self.fx[25], self.fx[26], self.fx[27]])
    }

    /// Sets MXCSR in the image.
    pub fn set_mxcsr(&mut self, value: u32) {
        self.fx[24..28].copy_from_slice(&value.to_le_bytes());
    }

    /// A 16-bit field of the image's x87 header: 0 control, 2 status, 4 abridged tags.
    pub fn fx16(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.fx[offset], self.fx[offset + 1]])
    }

    /// Sets a 16-bit field of the image's x87 header.
    pub fn set_fx16(&mut self, offset: usize, value: u16) {
        self.fx[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// The 80 bits of stack register `index`, counted from the top.
    pub fn st(&self, index: usize) -> &[u8] {
        &self.fx[32 + 16 * index..42 + 16 * index]
    }

    /// XMM register `index`.
    pub fn xmm(&self, index: usize) -> &[u8] {
        &self.fx[160 + 16 * index..176 + 16 * index]
    }

    /// XMM register `index`, to change.
    pub fn xmm_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.fx[160 + 16 * index..176 + 16 * index]
    }
}

/// An exception instead of a completed instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Vector number.
    pub vector: u8,
    /// Error code, 0 where the vector has none.
    pub error: u32,
    /// CR2 of a page fault, else 0.
    pub address: u64,
}

/// Page fault vector.
pub const PAGE_FAULT: u8 = 14;

/// Bytes that are recorded of a place in the window after every case.
pub const WATCH_LEN: usize = 64;

/// What became of one case.
#[derive(Clone, Copy)]
pub struct Outcome {
    /// State afterwards.
    pub state: CpuState,
    /// The exception, if the instruction did not complete.
    pub fault: Option<Fault>,
    /// The watched places of the window.
    pub watch: [[u8; WATCH_LEN]; 2],
}
