//! A small machine for laws: 2 MiB of RAM, identity page tables, flat segments, one vCPU in 64-bit mode.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use super::watch::Watch;
use crate::x86::{self, Regs, Segment, Table};
use crate::{Exit, GuestMemory, HvError, Hypervisor, Kick, Reply, UnboundVcpu, Vcpu, VcpuState, Vm, VmConfig, VmState};

/// Bytes of RAM, from address 0. All else below 4 GiB is mapped and leads to devices.
pub const RAM_LEN: usize = 0x20_0000;
/// Where programs are loaded.
pub const CODE: u64 = 0x1_0000;
/// Where [`Rig::gate`] puts handlers, 256 bytes each.
pub const HANDLERS: u64 = 0x1_1000;
/// Where programs keep data.
pub const DATA: u64 = 0x2_0000;
/// Initial stack pointer.
pub const STACK_TOP: u64 = 0x4_0000;
/// A device that nobody but the law answers for.
pub const DEVICE: u64 = 0xd000_0000;
/// Port that programs write at their end.
pub const END_PORT: u16 = 0xf4;
/// Linear address of 2 MiB that may be read, not written, not executed.
pub const READ_ONLY: u64 = 0x4000_0000;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORIES: u64 = 0x3000;
const GDT: u64 = 0x7000;
const TSS: u64 = 0x7100;
const IDT: u64 = 0x8000;
const HANDLER_LEN: u64 = 0x100;

/// Page table bits (Intel SDM vol. 3A §4.5).
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const LARGE_PAGE: u64 = 0x20_0000;
const ENTRIES: u64 = 512;

/// PE, MP, ET, NE, WP, PG (Intel SDM vol. 3A §2.5).
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// PAE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;
/// LME, LMA, NXE.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;
/// x87, SSE and AVX.
const XCR0_AVX: u64 = 7;
/// 64-bit code, flat data and a busy 64-bit task segment in [`Segment::attributes`]' layout.
const CODE_ATTRIBUTES: u32 = 0xa09b;
const DATA_ATTRIBUTES: u32 = 0xc093;
const TSS_ATTRIBUTES: u32 = 0x008b;
/// Code, data and task descriptors of the same meaning (Intel SDM vol. 3A §3.4.5, §7.2.3).
const DESCRIPTORS: [u64; 5] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_7100_0067, 0];

/// A machine with one vCPU, bound to the calling thread, and a time limit on everything it runs.
pub struct Rig {
    /// The machine's RAM.
    pub memory: GuestMemory,
    /// The machine.
    pub vm: Arc<dyn Vm>,
    /// Its vCPU.
    pub vcpu: Box<dyn Vcpu>,
    kicker: Arc<dyn Kick>,
    watch: Watch,
}

/// A machine at rest: all that a snapshot holds.
pub struct Frozen {
    /// Content of the RAM.
    pub memory: Vec<u8>,
    /// Interrupt controllers and clock.
    pub vm: VmState,
    /// The vCPU.
    pub vcpu: VcpuState,
}

impl Rig {
    /// A machine about to execute `code` in 64-bit mode.
    pub fn new(hypervisor: &dyn Hypervisor, code: &[u8]) -> Self {
        let mut rig = Self::at_reset(hypervisor, ram(code));
        let mut state = rig.save();
        enter_64_bit_mode(state_mut(&mut state));
        rig.vcpu.restore(&state).expect("a state made from a saved one is taken");
        rig
    }

    fn at_reset(hypervisor: &dyn Hypervisor, memory: GuestMemory) -> Self {
        let config = VmConfig { memory: memory.clone(), vcpus: 1 };
        let vm = hypervisor.create_vm(config).expect("a machine of one vCPU");
        let vcpu = vm.create_vcpu(0).expect("the first vCPU");
        let (watch, kicker) = (Watch::start(), vcpu.kicker());
        watch.guard(Arc::clone(&kicker));
        let vcpu = vcpu.bind().expect("binding to this thread");
        Self { memory, vm, vcpu, kicker, watch }
    }

    /// Puts `code` behind an interrupt gate for `vector`; interrupts are off in it.
    pub fn gate(&self, vector: u8, code: &[u8]) {
        let handler = HANDLERS + u64::from(vector) * HANDLER_LEN;
        assert!(code.len() as u64 <= HANDLER_LEN, "handler of vector {vector} is too long");
        self.memory.write_slice(code, GuestAddress(handler)).expect("handlers lie in RAM");
        let low = handler & 0xffff | 0x08 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
        let at = IDT + u64::from(vector) * 16;
        self.memory.write_obj(low, GuestAddress(at)).expect("the table lies in RAM");
        self.memory.write_obj(handler >> 32, GuestAddress(at + 8)).expect("the table lies in RAM");
    }

    /// The handle that kicks the vCPU.
    pub fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kicker)
    }

    /// The next exit. Panics when the law takes too long.
    pub fn run(&mut self) -> Exit {
        let exit = self.vcpu.run().expect("a vCPU with nothing in flight runs");
        assert!(!self.watch.expired(), "the law took too long; last exit {exit:?}");
        exit
    }

    /// The next exit, which must be this one.
    #[track_caller]
    pub fn expect(&mut self, want: &Exit) {
        assert_eq!(&self.run(), want);
    }

    /// The next exit, which must be this read; it is answered with `value`.
    #[track_caller]
    pub fn answer(&mut self, want: &Exit, value: u64) {
        self.expect(want);
        self.vcpu.complete(Reply::Read(value)).expect("a read takes data");
    }

    /// Runs to the program's write of [`END_PORT`].
    #[track_caller]
    pub fn to_end(&mut self) {
        let exit = self.run();
        assert!(matches!(exit, Exit::PioWrite { port: END_PORT, size: 1, .. }), "the end expected, got {exit:?}");
    }

    /// Runs to the end and gives the registers there.
    #[track_caller]
    pub fn registers_at_end(&mut self) -> Regs {
        self.to_end();
        self.x86().regs
    }

    /// The vCPU's state.
    #[track_caller]
    pub fn save(&mut self) -> VcpuState {
        self.vcpu.save().expect("nothing is in flight")
    }

    /// The vCPU's state as x86's.
    #[track_caller]
    pub fn x86(&mut self) -> x86::VcpuState {
        state_mut(&mut self.save()).clone()
    }

    /// Turns AVX on; false where this CPU has none.
    pub fn enable_avx(&mut self) -> bool {
        let mut state = self.save();
        let vcpu = state_mut(&mut state);
        if !has_avx(vcpu) {
            return false;
        }
        vcpu.sregs.cr4 |= CR4_OSXSAVE;
        vcpu.xcr0 = XCR0_AVX;
        self.vcpu.restore(&state).expect("XCR0 with AVX");
        true
    }

    /// Everything, as a snapshot takes it: vCPU, machine, memory.
    #[track_caller]
    pub fn freeze(&mut self) -> Frozen {
        let vcpu = self.save();
        let vm = self.vm.save().expect("a machine at rest");
        Frozen { memory: self.read(0, RAM_LEN), vm, vcpu }
    }

    /// Bytes of RAM.
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).expect("in RAM");
        bytes
    }

    /// Writes bytes of RAM.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("in RAM");
    }
}

impl Frozen {
    /// A new machine that goes on where this one stopped.
    #[track_caller]
    pub fn thaw(&self, hypervisor: &dyn Hypervisor) -> Rig {
        let memory = empty_ram();
        memory.write_slice(&self.memory, GuestAddress(0)).expect("in RAM");
        let mut rig = Rig::at_reset(hypervisor, memory);
        rig.vm.restore(&self.vm).expect("the machine's own state");
        rig.vcpu.restore(&self.vcpu).expect("the vCPU's own state");
        rig
    }
}

/// x86 state in any state.
pub fn state_mut(state: &mut VcpuState) -> &mut x86::VcpuState {
    match state {
        VcpuState::X86(state) => state,
    }
}

/// Whether the guest is shown AVX.
pub fn has_avx(state: &x86::VcpuState) -> bool {
    const XSAVE_AND_AVX: u32 = 1 << 26 | 1 << 28;
    state.cpuid.iter().any(|leaf| leaf.function == 1 && leaf.ecx & XSAVE_AND_AVX == XSAVE_AND_AVX)
}

/// Makes one more vCPU of a machine and enters 64-bit mode on the calling thread's.
pub(super) fn boot(vcpu: Box<dyn UnboundVcpu>) -> Result<Box<dyn Vcpu>, HvError> {
    let mut vcpu = vcpu.bind()?;
    let mut state = vcpu.save()?;
    enter_64_bit_mode(state_mut(&mut state));
    vcpu.restore(&state)?;
    Ok(vcpu)
}

fn empty_ram() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), RAM_LEN)]).expect("2 MiB of memory")
}

/// RAM with page tables, descriptors and `code` in place.
pub(super) fn ram(code: &[u8]) -> GuestMemory {
    let memory = empty_ram();
    let put = |at: u64, value: u64| memory.write_obj(value, GuestAddress(at)).expect("in RAM");
    put(PML4, PDPT | PRESENT | WRITABLE);
    for gib in 0..4 {
        let directory = DIRECTORIES + gib * 0x1000;
        put(PDPT + gib * 8, directory | PRESENT | WRITABLE);
        for entry in 0..ENTRIES {
            let page = (gib * ENTRIES + entry) * LARGE_PAGE;
            let value = if page == READ_ONLY { NO_EXECUTE } else { page | WRITABLE };
            put(directory + entry * 8, value | LARGE | PRESENT);
        }
    }
    for (at, descriptor) in (GDT..).step_by(8).zip(DESCRIPTORS) {
        put(at, descriptor);
    }
    memory.write_slice(code, GuestAddress(CODE)).expect("the program fits");
    memory
}

fn enter_64_bit_mode(state: &mut x86::VcpuState) {
    state.regs = Regs { rip: CODE, rsp: STACK_TOP, rflags: 2, ..Regs::default() };
    let flat = |selector, attributes| Segment { base: 0, limit: u32::MAX, selector, attributes };
    let sregs = &mut state.sregs;
    sregs.cs = flat(0x08, CODE_ATTRIBUTES);
    let data = flat(0x10, DATA_ATTRIBUTES);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = Segment { base: TSS, limit: 0x67, selector: 0x18, attributes: TSS_ATTRIBUTES };
    sregs.gdt = Table { base: GDT, limit: 0x27 };
    sregs.idt = Table { base: IDT, limit: 0xfff };
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, PML4, CR4, EFER);
}
