//! MOV and its relatives, LEA, conditional moves and sets.

use crate::access::Path;
use crate::cpu::Cpu;
use crate::ea::{self, Ea};
use crate::op::{Op, Res};
use crate::word::Word;

pub(crate) fn mov_rr<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = T::get(cpu, op.src);
    T::set(cpu, op.dst, v);
    Ok(())
}

pub(crate) fn mov_ri<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    T::set(cpu, op.dst, T::from64(op.imm));
    Ok(())
}

pub(crate) fn mov_rm<P: Path, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read_by::<P, T>(E::ea(cpu, op))?;
    T::set(cpu, op.dst, v);
    Ok(())
}

pub(crate) fn mov_mr<P: Path, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = T::get(cpu, op.src);
    cpu.write_by::<P, _>(E::ea(cpu, op), v)
}

pub(crate) fn mov_mi<P: Path, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.write_by::<P, _>(E::ea(cpu, op), T::from64(op.imm))
}

/// MOV from an absolute 64-bit address, kept in `imm`.
pub(crate) fn load_absolute<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = op.imm.wrapping_add(cpu.regs[(op.seg & 31) as usize]);
    let v = cpu.read_by::<P, T>(at)?;
    T::set(cpu, 0, v);
    Ok(())
}

/// MOV to an absolute 64-bit address, kept in `imm`.
pub(crate) fn store_absolute<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = op.imm.wrapping_add(cpu.regs[(op.seg & 31) as usize]);
    let v = T::get(cpu, 0);
    cpu.write_by::<P, _>(at, v)
}

/// MOVZX: `S` to `T`.
pub(crate) fn zx_r<S: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = S::get(cpu, op.src).to64();
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

pub(crate) fn zx_m<P: Path, S: Word, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read_by::<P, S>(E::ea(cpu, op))?.to64();
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

/// MOVSX and MOVSXD: `S` to `T`.
pub(crate) fn sx_r<S: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = S::get(cpu, op.src).sext();
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

pub(crate) fn sx_m<P: Path, S: Word, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read_by::<P, S>(E::ea(cpu, op))?.sext();
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

/// LEA with `base + disp`.
pub(crate) fn lea_simple<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = crate::ea::Simple::ea(cpu, op);
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

/// LEA with an index.
pub(crate) fn lea_indexed<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = crate::ea::Indexed::ea(cpu, op);
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

pub(crate) fn lea<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = ea::offset(cpu, op);
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

pub(crate) fn cmov_r<T: Word, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = if cpu.flags.cond::<CC>() { T::get(cpu, op.src) } else { T::get(cpu, op.dst) };
    T::set(cpu, op.dst, v);
    Ok(())
}

pub(crate) fn cmov_m<P: Path, T: Word, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let m = cpu.read_by::<P, T>(crate::ea::Full::ea(cpu, op))?;
    let v = if cpu.flags.cond::<CC>() { m } else { T::get(cpu, op.dst) };
    T::set(cpu, op.dst, v);
    Ok(())
}

pub(crate) fn setcc_r<const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = u8::from(cpu.flags.cond::<CC>());
    u8::set(cpu, op.dst, v);
    Ok(())
}

pub(crate) fn setcc_m<P: Path, const CC: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = u8::from(cpu.flags.cond::<CC>());
    cpu.write_by::<P, _>(crate::ea::Full::ea(cpu, op), v)
}

pub(crate) fn bswap<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = T::get(cpu, op.dst).to64();
    // On 16-bit registers the result is undefined; processors give zero.
    let r = if T::BITS == 16 { 0 } else { v.swap_bytes() >> (64 - T::BITS) };
    T::set(cpu, op.dst, T::from64(r));
    Ok(())
}

/// CBW, CWDE, CDQE: sign-extends the lower half of the accumulator.
pub(crate) fn extend_acc<S: Word, T: Word>(cpu: &mut Cpu, _: &Op) -> Res {
    let v = S::get(cpu, 0).sext();
    T::set(cpu, 0, T::from64(v));
    Ok(())
}

/// CWD, CDQ, CQO: fills the data register with the accumulator's sign.
pub(crate) fn sign_to_dx<T: Word>(cpu: &mut Cpu, _: &Op) -> Res {
    let v = T::get(cpu, 0).sext();
    T::set(cpu, 2, T::from64(((v as i64) >> 63) as u64));
    Ok(())
}

/// NOP, PAUSE, PREFETCH, ENDBR64.
pub(crate) fn nop(_: &mut Cpu, _: &Op) -> Res {
    Ok(())
}
