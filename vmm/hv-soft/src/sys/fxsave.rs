//! FXSAVE, FXRSTOR, LDMXCSR, STMXCSR.

use crate::cpu::Cpu;
use crate::ea::{Ea, Full};
use crate::op::{Op, Res};
use crate::simd::mxcsr::MXCSR_MASK;
use crate::x87::image::{FXSAVE_BYTES, FXSAVE_WRITTEN, fxrstor_image, fxsave_image};

fn address(cpu: &mut Cpu, op: &Op) -> Res<u64> {
    let at = Full::ea(cpu, op);
    if at & 15 != 0 { Err(cpu.gp0()) } else { Ok(at) }
}

/// FXSAVE; `WIDE` with REX.W, for 64-bit instruction and data pointers.
pub(crate) fn fxsave<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = address(cpu, op)?;
    let mut image = fxsave_image(&cpu.fpu, cpu.mxcsr, &cpu.xmm);
    if !WIDE {
        let legacy = cpu.fpu.fxsave(false);
        let n = legacy.len().min(160);
        image[..n].copy_from_slice(&legacy[..n]);
        let mxcsr = fxsave_image(&cpu.fpu, cpu.mxcsr, &cpu.xmm);
        image[24..32].copy_from_slice(&mxcsr[24..32]);
    }
    cpu.prepare_write(at, FXSAVE_BYTES as u64)?;
    for (i, chunk) in image[..FXSAVE_WRITTEN].chunks_exact(8).enumerate() {
        let v = chunk.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
        cpu.write(at.wrapping_add(8 * i as u64), v)?;
    }
    Ok(())
}

/// FXRSTOR.
pub(crate) fn fxrstor(cpu: &mut Cpu, op: &Op) -> Res {
    let at = address(cpu, op)?;
    let mut image = [0; FXSAVE_BYTES];
    for (i, chunk) in image.chunks_exact_mut(8).enumerate() {
        let v = cpu.read::<u64>(at.wrapping_add(8 * i as u64))?;
        chunk.copy_from_slice(&v.to_le_bytes());
    }
    let Some((fpu, mxcsr, xmm)) = fxrstor_image(&image) else { return Err(cpu.gp0()) };
    (cpu.fpu, cpu.mxcsr, cpu.xmm) = (fpu, mxcsr, xmm);
    Ok(())
}

pub(crate) fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read::<u32>(Full::ea(cpu, op))?;
    if v & !MXCSR_MASK != 0 {
        return Err(cpu.gp0());
    }
    cpu.mxcsr = v;
    Ok(())
}

pub(crate) fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.mxcsr;
    cpu.write(Full::ea(cpu, op), v)
}

/// FNINIT.
pub(crate) fn fninit(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.fpu = crate::x87::Fpu::default();
    Ok(())
}
