//! Registers between the seam's neutral form and the kernel's.

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_SIPI_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED, KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW,
    KVM_VCPUEVENT_VALID_SIPI_VECTOR, kvm_debugregs, kvm_dtable, kvm_mp_state, kvm_regs, kvm_segment, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs,
};
use supermachine_hv::HvError;
use supermachine_hv::x86::{Events, PendingException, Regs, RunState, Segment, Sregs, Table};

/// Bit of [`Segment::attributes`] that marks a segment unusable.
const UNUSABLE: u32 = 1 << 16;

pub(super) fn regs_from_kernel(kernel: &kvm_regs) -> Regs {
    let kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } =
        *kernel;
    Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
}

pub(super) fn regs_to_kernel(regs: &Regs) -> kvm_regs {
    let Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } = *regs;
    kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
}

fn segment_from_kernel(kernel: &kvm_segment) -> Segment {
    let bit = |flag: u8, shift: u32| u32::from(flag & 1) << shift;
    let attributes = u32::from(kernel.type_ & 0xf)
        | bit(kernel.s, 4)
        | u32::from(kernel.dpl & 3) << 5
        | bit(kernel.present, 7)
        | bit(kernel.avl, 12)
        | bit(kernel.l, 13)
        | bit(kernel.db, 14)
        | bit(kernel.g, 15)
        | if kernel.unusable != 0 { UNUSABLE } else { 0 };
    Segment { base: kernel.base, limit: kernel.limit, selector: kernel.selector, attributes }
}

fn segment_to_kernel(segment: &Segment) -> kvm_segment {
    let bits = |shift: u32, mask: u32| u8::try_from(segment.attributes >> shift & mask).unwrap_or(0);
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: bits(0, 0xf),
        s: bits(4, 1),
        dpl: bits(5, 3),
        present: bits(7, 1),
        avl: bits(12, 1),
        l: bits(13, 1),
        db: bits(14, 1),
        g: bits(15, 1),
        unusable: bits(16, 1),
        padding: 0,
    }
}

fn table_from_kernel(kernel: &kvm_dtable) -> Table {
    Table { base: kernel.base, limit: kernel.limit }
}

fn table_to_kernel(table: &Table) -> kvm_dtable {
    kvm_dtable { base: table.base, limit: table.limit, ..Default::default() }
}

/// An interrupt in delivery, which the kernel shows here as well, is taken from the events.
pub(super) fn sregs_from_kernel(kernel: &kvm_sregs) -> Sregs {
    Sregs {
        cs: segment_from_kernel(&kernel.cs),
        ds: segment_from_kernel(&kernel.ds),
        es: segment_from_kernel(&kernel.es),
        fs: segment_from_kernel(&kernel.fs),
        gs: segment_from_kernel(&kernel.gs),
        ss: segment_from_kernel(&kernel.ss),
        tr: segment_from_kernel(&kernel.tr),
        ldt: segment_from_kernel(&kernel.ldt),
        gdt: table_from_kernel(&kernel.gdt),
        idt: table_from_kernel(&kernel.idt),
        cr0: kernel.cr0,
        cr2: kernel.cr2,
        cr3: kernel.cr3,
        cr4: kernel.cr4,
        cr8: kernel.cr8,
        efer: kernel.efer,
        apic_base: kernel.apic_base,
    }
}

pub(super) fn sregs_to_kernel(sregs: &Sregs) -> kvm_sregs {
    let Sregs { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer, apic_base } = sregs;
    kvm_sregs {
        cs: segment_to_kernel(cs),
        ds: segment_to_kernel(ds),
        es: segment_to_kernel(es),
        fs: segment_to_kernel(fs),
        gs: segment_to_kernel(gs),
        ss: segment_to_kernel(ss),
        tr: segment_to_kernel(tr),
        ldt: segment_to_kernel(ldt),
        gdt: table_to_kernel(gdt),
        idt: table_to_kernel(idt),
        cr0: *cr0,
        cr2: *cr2,
        cr3: *cr3,
        cr4: *cr4,
        cr8: *cr8,
        efer: *efer,
        apic_base: *apic_base,
        interrupt_bitmap: [0; 4],
    }
}

pub(super) fn debug_from_kernel(kernel: &kvm_debugregs) -> [u64; 6] {
    let [dr0, dr1, dr2, dr3] = kernel.db;
    [dr0, dr1, dr2, dr3, kernel.dr6, kernel.dr7]
}

pub(super) fn debug_to_kernel(debug: [u64; 6]) -> kvm_debugregs {
    let [dr0, dr1, dr2, dr3, dr6, dr7] = debug;
    kvm_debugregs { db: [dr0, dr1, dr2, dr3], dr6, dr7, ..Default::default() }
}

pub(super) fn xcr0_to_kernel(value: u64) -> kvm_xcrs {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0].value = value;
    xcrs
}

/// `None` for a state that x86 does not have.
pub(super) fn run_state_from_kernel(kernel: kvm_mp_state, events: &kvm_vcpu_events) -> Option<RunState> {
    match kernel.mp_state {
        KVM_MP_STATE_RUNNABLE => Some(RunState::Runnable),
        KVM_MP_STATE_HALTED => Some(RunState::Halted),
        KVM_MP_STATE_UNINITIALIZED => Some(RunState::Uninitialized),
        KVM_MP_STATE_INIT_RECEIVED => Some(RunState::InitReceived),
        KVM_MP_STATE_SIPI_RECEIVED => {
            Some(RunState::SipiReceived { vector: u8::try_from(events.sipi_vector).unwrap_or(0) })
        }
        _ => None,
    }
}

pub(super) fn run_state_to_kernel(state: RunState) -> kvm_mp_state {
    let mp_state = match state {
        RunState::Runnable => KVM_MP_STATE_RUNNABLE,
        RunState::Halted => KVM_MP_STATE_HALTED,
        RunState::Uninitialized => KVM_MP_STATE_UNINITIALIZED,
        RunState::InitReceived => KVM_MP_STATE_INIT_RECEIVED,
        RunState::SipiReceived { .. } => KVM_MP_STATE_SIPI_RECEIVED,
    };
    kvm_mp_state { mp_state }
}

/// An exception that was raised and not yet delivered counts as in delivery. A non-maskable interrupt in delivery
/// goes back to waiting, for the neutral form has no third place for it; the guest cannot tell.
pub(super) fn events_from_kernel(kernel: &kvm_vcpu_events) -> Events {
    let exception = &kernel.exception;
    Events {
        exception: (exception.injected != 0).then(|| PendingException {
            vector: exception.nr,
            error_code: (exception.has_error_code != 0).then_some(exception.error_code),
        }),
        interrupt: (kernel.interrupt.injected != 0 && kernel.interrupt.soft == 0).then_some(kernel.interrupt.nr),
        nmi_pending: kernel.nmi.pending != 0 || kernel.nmi.injected != 0,
        nmi_masked: kernel.nmi.masked != 0 && kernel.nmi.injected == 0,
        shadow: kernel.interrupt.shadow,
    }
}

pub(super) fn events_to_kernel(events: &Events, run_state: RunState) -> kvm_vcpu_events {
    let Events { exception, interrupt, nmi_pending, nmi_masked, shadow } = *events;
    let mut kernel =
        kvm_vcpu_events { flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW, ..Default::default() };
    if let Some(PendingException { vector, error_code }) = exception {
        kernel.exception.injected = 1;
        kernel.exception.nr = vector;
        kernel.exception.has_error_code = error_code.is_some().into();
        kernel.exception.error_code = error_code.unwrap_or(0);
    }
    if let Some(vector) = interrupt {
        kernel.interrupt.injected = 1;
        kernel.interrupt.nr = vector;
    }
    kernel.interrupt.shadow = shadow;
    kernel.nmi.pending = nmi_pending.into();
    kernel.nmi.masked = nmi_masked.into();
    if let RunState::SipiReceived { vector } = run_state {
        kernel.flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
        kernel.sipi_vector = vector.into();
    }
    kernel
}

/// What the kernel would not refuse by itself.
pub(super) fn check_events(events: &Events) -> Result<(), HvError> {
    let bad = |problem: String| Err(HvError::BadState { field: "events", problem });
    let impossible = |exception: &PendingException| exception.vector > 31 || exception.vector == 2;
    if let Some(PendingException { vector, .. }) = events.exception.filter(impossible) {
        return bad(format!("exception vector {vector}"));
    }
    if events.shadow > 3 {
        return bad(format!("interrupt shadow {}", events.shadow));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_round_trip() {
        for attributes in [0xa09b, 0xc093, 0x8b, 0x82, 0x1_0000, 0x1_f0ff] {
            let segment = Segment { base: 0x1234_5678_9abc, limit: 0xffff_ffff, selector: 0x28, attributes };
            assert_eq!(segment_from_kernel(&segment_to_kernel(&segment)), segment);
        }
    }

    #[test]
    fn events_round_trip() {
        let events = Events {
            exception: Some(PendingException { vector: 14, error_code: Some(2) }),
            interrupt: None,
            nmi_pending: true,
            nmi_masked: true,
            shadow: 2,
        };
        assert_eq!(events_from_kernel(&events_to_kernel(&events, RunState::Runnable)), events);
        let events = Events { interrupt: Some(0x30), ..Default::default() };
        assert_eq!(events_from_kernel(&events_to_kernel(&events, RunState::Runnable)), events);
    }

    #[test]
    fn run_states_round_trip() {
        for state in [
            RunState::Runnable,
            RunState::Halted,
            RunState::Uninitialized,
            RunState::InitReceived,
            RunState::SipiReceived { vector: 9 },
        ] {
            let events = events_to_kernel(&Events::default(), state);
            assert_eq!(run_state_from_kernel(run_state_to_kernel(state), &events), Some(state));
        }
    }

    #[test]
    fn impossible_events_are_refused() {
        let exception = Some(PendingException { vector: 32, error_code: None });
        assert!(check_events(&Events { exception, ..Default::default() }).is_err());
        assert!(check_events(&Events { shadow: 4, ..Default::default() }).is_err());
        assert!(check_events(&Events::default()).is_ok());
    }
}
