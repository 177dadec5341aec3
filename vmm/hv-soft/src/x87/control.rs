//! Handlers of x87 control instructions.

use super::image::{ENV16_BYTES, ENV32_BYTES, Image};
use super::run::wait;
use crate::cpu::Cpu;
use crate::ea::{Ea, Full};
use crate::op::{Op, Res};
use crate::word::Word;

/// FNINIT.
pub(crate) fn init(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.fpu.init();
    Ok(())
}

/// FNCLEX.
pub(crate) fn clear_exceptions(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.fpu.sw &= !0x7f;
    Ok(())
}

/// FNSTCW.
pub(crate) fn store_control(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.fpu.cw;
    cpu.write(Full::ea(cpu, op), v)
}

/// FLDCW.
pub(crate) fn load_control(cpu: &mut Cpu, op: &Op) -> Res {
    wait(cpu, op)?;
    let v = cpu.read::<u16>(Full::ea(cpu, op))?;
    cpu.fpu.set_control(v);
    Ok(())
}

/// FNSTSW m16.
pub(crate) fn store_status(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.fpu.status();
    cpu.write(Full::ea(cpu, op), v)
}

/// FNSTSW AX.
pub(crate) fn status_to_ax(cpu: &mut Cpu, _: &Op) -> Res {
    let v = cpu.fpu.status();
    u16::set(cpu, 0, v);
    Ok(())
}

/// Writes an image, all of it or nothing. The end of a short environment is looked at first, which shows in CR2.
fn write_image(cpu: &mut Cpu, at: u64, image: &Image) -> Res {
    let words = image.len as u64 / 2;
    if image.len == ENV16_BYTES {
        cpu.prepare_write(at.wrapping_add(2 * words - 1), 1)?;
    }
    for i in 0..words {
        cpu.prepare_write(at.wrapping_add(2 * i), 2)?;
    }
    for (i, pair) in image.bytes[..image.len].chunks_exact(2).enumerate() {
        cpu.write(at.wrapping_add(2 * i as u64), u16::from_le_bytes([pair[0], pair[1]]))?;
    }
    Ok(())
}

/// Reads the bytes of an image.
fn read_image(cpu: &mut Cpu, at: u64, bytes: &mut [u8]) -> Res {
    for (i, pair) in bytes.chunks_exact_mut(2).enumerate() {
        let v = cpu.read::<u16>(at.wrapping_add(2 * i as u64))?;
        pair.copy_from_slice(&v.to_le_bytes());
    }
    Ok(())
}

/// FNSTENV; `WIDE` with 32-bit operand size. Masks everything afterwards.
pub(crate) fn store_environment<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let image = cpu.fpu.environment(WIDE);
    write_image(cpu, Full::ea(cpu, op), &image)?;
    cpu.fpu.cw |= 0x3f;
    Ok(())
}

/// FLDENV.
pub(crate) fn load_environment<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    wait(cpu, op)?;
    let mut b = [0; ENV32_BYTES];
    let len = if WIDE { ENV32_BYTES } else { ENV16_BYTES };
    let at = Full::ea(cpu, op);
    if !WIDE {
        cpu.read::<u8>(at.wrapping_add(ENV16_BYTES as u64 - 1))?;
    }
    read_image(cpu, at, &mut b[..len])?;
    cpu.fpu.set_environment(&b, WIDE);
    Ok(())
}

/// FNSAVE.
pub(crate) fn save<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let image = cpu.fpu.save(WIDE);
    write_image(cpu, Full::ea(cpu, op), &image)?;
    cpu.fpu.init();
    Ok(())
}

/// FRSTOR.
pub(crate) fn restore<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    wait(cpu, op)?;
    let at = Full::ea(cpu, op);
    let mut head = [0; ENV32_BYTES];
    let len = if WIDE { ENV32_BYTES } else { ENV16_BYTES };
    read_image(cpu, at, &mut head[..len])?;
    let mut registers = [0; 80];
    read_image(cpu, at.wrapping_add(len as u64), &mut registers)?;
    cpu.fpu.set_environment(&head, WIDE);
    cpu.fpu.set_registers(&registers);
    Ok(())
}
