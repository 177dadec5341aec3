//! Bit tests, bit scans, POPCNT, CRC32, CMPXCHG8B/16B and flag instructions.

use crate::cpu::{Cpu, reg};
use crate::ea::{Ea, Full, offset as offset_of};
use crate::flags::bit;
use crate::op::{Op, Res, mode, slot};
use crate::word::Word;

/// Sub-operations of the BT family.
pub(crate) const BT: u8 = 0;
pub(crate) const BTS: u8 = 1;
pub(crate) const BTR: u8 = 2;
pub(crate) const BTC: u8 = 3;

#[inline(always)]
fn change<const OP: u8>(v: u64, b: u64) -> u64 {
    match OP {
        BTS => v | b,
        BTR => v & !b,
        BTC => v ^ b,
        _ => v,
    }
}

#[inline(always)]
fn bt_register<T: Word, const OP: u8>(cpu: &mut Cpu, r: u8, offset: u64) -> Res {
    let v = T::get(cpu, r).to64();
    let b = 1u64 << (offset & (u64::from(T::BITS) - 1));
    cpu.flags.set_cf(v & b != 0);
    if OP != BT {
        T::set(cpu, r, T::from64(change::<OP>(v, b)));
    }
    Ok(())
}

#[inline(always)]
fn bt_memory<T: Word, const OP: u8>(cpu: &mut Cpu, ea: u64, offset: u64) -> Res {
    let b = 1u64 << (offset & (u64::from(T::BITS) - 1));
    if OP == BT {
        let v = cpu.read::<T>(ea)?.to64();
        cpu.flags.set_cf(v & b != 0);
        return Ok(());
    }
    cpu.rmw::<T>(ea, |cpu, v| {
        cpu.flags.set_cf(v.to64() & b != 0);
        T::from64(change::<OP>(v.to64(), b))
    })
}

pub(crate) fn bt_rr<T: Word, const OP: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let offset = T::get(cpu, op.src).to64();
    bt_register::<T, OP>(cpu, op.dst, offset)
}

pub(crate) fn bt_ri<T: Word, const OP: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    bt_register::<T, OP>(cpu, op.dst, op.imm)
}

pub(crate) fn bt_mi<T: Word, const OP: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    bt_memory::<T, OP>(cpu, Full::ea(cpu, op), op.imm)
}

/// A register offset reaches beyond the operand, in both directions.
pub(crate) fn bt_mr<T: Word, const OP: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let offset = T::get(cpu, op.src).sext();
    let words = (offset as i64) >> T::BITS.trailing_zeros();
    // An address size of 32 bits truncates the sum, not the operand's own address.
    let sum = offset_of(cpu, op).wrapping_add((words as u64).wrapping_mul(T::BYTES));
    let sum = if op.mode & mode::ADDR32 != 0 { u64::from(sum as u32) } else { sum };
    let ea = sum.wrapping_add(cpu.regs[op.seg as usize % slot::COUNT]);
    bt_memory::<T, OP>(cpu, ea, offset)
}

#[inline(always)]
fn source<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res<T> {
    if MEMORY { cpu.read::<T>(Full::ea(cpu, op)) } else { Ok(T::get(cpu, op.src)) }
}

/// BSF (`FORWARD`) and BSR; a zero source leaves the destination as it was.
pub(crate) fn scan<T: Word, const FORWARD: bool, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = source::<T, MEMORY>(cpu, op)?.to64();
    cpu.flags.z = v;
    if v != 0 {
        let n = if FORWARD { v.trailing_zeros() } else { 63 - v.leading_zeros() };
        T::set(cpu, op.dst, T::from64(u64::from(n)));
    }
    Ok(())
}

pub(crate) fn popcnt<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = source::<T, MEMORY>(cpu, op)?.to64();
    cpu.flags.unpack(if v == 0 { bit::ZF } else { 0 });
    T::set(cpu, op.dst, T::from64(u64::from(v.count_ones())));
    Ok(())
}

/// CRC32 with the Castagnoli polynomial, reflected.
pub(crate) fn crc32<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let v = source::<T, MEMORY>(cpu, op)?.to64();
    let mut crc = u32::get(cpu, op.dst);
    for i in 0..T::BYTES {
        crc ^= (v >> (8 * i)) as u32 & 0xff;
        for _ in 0..8 {
            crc = crc >> 1 ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1));
        }
    }
    u32::set(cpu, op.dst, crc);
    Ok(())
}

fn set_zf(cpu: &mut Cpu, zf: bool) {
    let rest = cpu.flags.pack() & !bit::ZF;
    cpu.flags.unpack(rest | if zf { bit::ZF } else { 0 });
}

pub(crate) fn cmpxchg8b(cpu: &mut Cpu, op: &Op) -> Res {
    let pair = |hi: u64, lo: u64| hi << 32 | lo & 0xffff_ffff;
    let expected = pair(cpu.regs[reg::RDX], cpu.regs[reg::RAX]);
    let new = pair(cpu.regs[reg::RCX], cpu.regs[reg::RBX]);
    let mut seen = 0;
    cpu.rmw::<u64>(Full::ea(cpu, op), |_, old| {
        seen = old;
        if old == expected { new } else { old }
    })?;
    set_zf(cpu, seen == expected);
    if seen != expected {
        cpu.regs[reg::RAX] = seen & 0xffff_ffff;
        cpu.regs[reg::RDX] = seen >> 32;
    }
    Ok(())
}

pub(crate) fn cmpxchg16b(cpu: &mut Cpu, op: &Op) -> Res {
    let ea = Full::ea(cpu, op);
    if ea & 15 != 0 {
        return Err(cpu.gp0());
    }
    let pair = |hi: u64, lo: u64| u128::from(hi) << 64 | u128::from(lo);
    let expected = pair(cpu.regs[reg::RDX], cpu.regs[reg::RAX]);
    let new = pair(cpu.regs[reg::RCX], cpu.regs[reg::RBX]);
    cpu.prepare_write(ea, 16)?;
    let seen = cpu.read128(ea)?;
    cpu.write128(ea, if seen == expected { new } else { seen })?;
    set_zf(cpu, seen == expected);
    if seen != expected {
        cpu.regs[reg::RAX] = seen as u64;
        cpu.regs[reg::RDX] = (seen >> 64) as u64;
    }
    Ok(())
}

pub(crate) fn clc(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.flags.set_cf(false);
    Ok(())
}

pub(crate) fn stc(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.flags.set_cf(true);
    Ok(())
}

pub(crate) fn cmc(cpu: &mut Cpu, _: &Op) -> Res {
    let cf = cpu.flags.cf();
    cpu.flags.set_cf(!cf);
    Ok(())
}

pub(crate) fn cld(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.sysflags &= !bit::DF;
    Ok(())
}

pub(crate) fn std(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.sysflags |= bit::DF;
    Ok(())
}

pub(crate) fn lahf(cpu: &mut Cpu, _: &Op) -> Res {
    let v = (cpu.flags.pack() & 0xd5 | bit::FIXED) as u8;
    u8::set(cpu, 0x40, v);
    Ok(())
}

pub(crate) fn sahf(cpu: &mut Cpu, _: &Op) -> Res {
    let v = u64::from(u8::get(cpu, 0x40));
    let of = cpu.flags.pack() & bit::OF;
    cpu.flags.unpack(v & 0xd5 | of);
    Ok(())
}

/// XLATB: AL = [RBX + AL].
pub(crate) fn xlatb(cpu: &mut Cpu, op: &Op) -> Res {
    let mut at = cpu.regs[reg::RBX].wrapping_add(cpu.regs[reg::RAX] & 0xff);
    if op.mode & crate::op::mode::ADDR32 != 0 {
        at &= u64::from(u32::MAX);
    }
    let v = cpu.read::<u8>(at.wrapping_add(cpu.regs[(op.seg & 31) as usize]))?;
    u8::set(cpu, 0, v);
    Ok(())
}

/// RDRAND and RDSEED: CF says whether there was randomness; without it the destination is zero.
pub(crate) fn random<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.random.next();
    T::set(cpu, op.dst, T::from64(v.unwrap_or(0)));
    cpu.flags.unpack(if v.is_some() { bit::CF } else { 0 });
    Ok(())
}
