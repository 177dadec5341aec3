//! A compare and the conditional jump after it as one op.
//!
//! The op keeps the place of the compare, so a fault in it restarts both; the jump's target is the block's.

use crate::access::Path;
use crate::cpu::Cpu;
use crate::ea::Ea;
use crate::exec::alu::{Alu, Dec, Unary};
use crate::op::{Op, Res, Stop};
use crate::word::Word;

#[inline(always)]
fn branch<const CC: u8>(cpu: &Cpu) -> Res {
    if cpu.flags.cond::<CC>() { Err(Stop::Taken) } else { Ok(()) }
}

pub(crate) fn rr<A: Alu, T: Word, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let (a, b) = (T::get(cpu, op.dst).to64(), T::get(cpu, op.src).to64());
    let r = A::compute::<T>(&mut cpu.flags, a, b);
    if A::WRITES {
        T::set(cpu, op.dst, T::from64(r));
    }
    branch::<CC>(cpu)
}

pub(crate) fn ri<A: Alu, T: Word, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let (a, b) = (T::get(cpu, op.dst).to64(), T::from64(op.imm).to64());
    let r = A::compute::<T>(&mut cpu.flags, a, b);
    if A::WRITES {
        T::set(cpu, op.dst, T::from64(r));
    }
    branch::<CC>(cpu)
}

/// CMP r, m.
pub(crate) fn rm<P: Path, A: Alu, T: Word, E: Ea, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = cpu.read_by::<P, T>(E::ea(cpu, op))?.to64();
    let a = T::get(cpu, op.dst).to64();
    A::compute::<T>(&mut cpu.flags, a, b);
    branch::<CC>(cpu)
}

/// CMP m, r and TEST m, r.
pub(crate) fn mr<P: Path, A: Alu, T: Word, E: Ea, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = cpu.read_by::<P, T>(E::ea(cpu, op))?.to64();
    let b = T::get(cpu, op.src).to64();
    A::compute::<T>(&mut cpu.flags, a, b);
    branch::<CC>(cpu)
}

/// CMP m, i and TEST m, i.
pub(crate) fn mi<P: Path, A: Alu, T: Word, E: Ea, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = cpu.read_by::<P, T>(E::ea(cpu, op))?.to64();
    A::compute::<T>(&mut cpu.flags, a, T::from64(op.imm).to64());
    branch::<CC>(cpu)
}

pub(crate) fn dec<T: Word, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = T::get(cpu, op.dst).to64();
    let r = Dec::compute::<T>(&mut cpu.flags, a);
    T::set(cpu, op.dst, T::from64(r));
    branch::<CC>(cpu)
}
